//! Whether the program moves bytes on this host: a connection over loopback, by all the ways that bytes take.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::program::{Counts, Grant, Program};
use super::socket;

/// For each step; they take microseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// Sends some bytes through.
///
/// # Errors
/// The step that failed.
pub(super) fn probe(program: &Arc<Program>) -> Result<(), String> {
    carry(program).map_err(|(step, error)| format!("this kernel's sockmap does not work: {step}: {error}"))
}

fn carry(program: &Arc<Program>) -> Result<(), (&'static str, io::Error)> {
    let at = |step| move |error| (step, error);
    let connect = "connecting over loopback";
    let (mut client, mut source) = pair().map_err(at(connect))?;
    let (sink, mut target) = pair().map_err(at(connect))?;

    let step = "passing what came early";
    client.write_all(b"early").map_err(at(step))?;
    let joined = program.join(&source, &sink).map_err(at(step))?;
    expect(&mut source, b"early").map_err(at(step))?;
    (&sink).write_all(b"early").map_err(at(step))?;

    let step = "redirecting what comes later";
    let grant = Grant { bytes: 1 << 20, taken: 5 };
    joined.grant(0, grant).map_err(at(step))?;
    client.write_all(b"later").map_err(at(step))?;
    expect(&mut target, b"earlylater").map_err(at(step))?;
    let counts = joined.counts(0).map_err(at(step))?;
    let expected = Counts { redirected: 5, passed: 5 };
    if counts != Some(expected) {
        return Err((step, io::Error::other(format!("{counts:?} instead of {expected:?}"))));
    }

    let step = "seeing the end of a stream";
    client.shutdown(Shutdown::Write).map_err(at(step))?;
    expect_end(&mut source).map_err(at(step))?;
    let received = socket::received(&source).map_err(at(step))?;
    if received != 11 {
        return Err((step, io::Error::other(format!("{received} bytes received instead of 11"))));
    }
    Ok(())
}

/// Both ends of a connection.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let own = one.local_addr()?;
    let other = loop {
        let (other, from) = listener.accept()?;
        // Nobody else's.
        if from == own {
            break other;
        }
    };
    for end in [&one, &other] {
        end.set_read_timeout(Some(LIMIT))?;
        end.set_write_timeout(Some(LIMIT))?;
        end.set_nodelay(true)?;
    }
    Ok((one, other))
}

fn expect(from: &mut TcpStream, expected: &[u8]) -> io::Result<()> {
    let mut got = vec![0; expected.len()];
    let mut len = 0;
    let until = Instant::now() + LIMIT;
    while len < got.len() {
        match from.read(&mut got[len..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => len += bytes,
            // With a program at the socket it is told so where waiting may help.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
    if got == expected { Ok(()) } else { Err(io::Error::other(format!("{got:?} instead of {expected:?}"))) }
}

fn expect_end(from: &mut TcpStream) -> io::Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        match from.read(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(io::Error::other("more bytes than were sent")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}
