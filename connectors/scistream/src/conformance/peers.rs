//! Clients and targets: plain sockets, none of whose waits is for ever.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout};

use super::SOON;
use super::bench::LOOPBACK;
use crate::forward::Target;

/// A host that clients want to reach.
pub(super) struct Host {
    listener: TcpListener,
    /// Connections that have said nothing yet: of clients that left, or of gateways that connect ahead of time.
    silent: RefCell<Vec<TcpStream>>,
}

impl Host {
    pub(super) fn new() -> Self {
        Self::at(LOOPBACK)
    }

    pub(super) fn at(address: IpAddr) -> Self {
        Self::of(TcpListener::bind((address, 0)).expect("no port"))
    }

    pub(super) fn of(listener: TcpListener) -> Self {
        // `accept` too.
        set_socket_timeout(&listener, Timeout::Recv, Some(SOON)).unwrap();
        Self { listener, silent: RefCell::default() }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(super) fn target(&self) -> Target {
        self.address().to_string().parse().unwrap()
    }

    pub(super) fn accept(&self) -> TcpStream {
        let (stream, _) = self.listener.accept().expect("nothing came to the target");
        bounded(stream)
    }

    /// Whether nothing has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        let accepted = self.listener.accept();
        self.listener.set_nonblocking(false).unwrap();
        accepted.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// A connection and its other end, which may come behind others.
    pub(super) fn connection(&self, entrance: SocketAddr) -> (TcpStream, TcpStream) {
        static NUMBER: AtomicU64 = AtomicU64::new(0x5c15_0000_0000);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut client = connect(entrance);
        client.write_all(&number).expect("the first bytes can't be sent");
        loop {
            let mut target = self.first_to_speak();
            let mut told = [0; 8];
            match target.read_exact(&mut told) {
                Ok(()) => {
                    assert_eq!(told, number, "the first bytes are another connection's");
                    return (client, target);
                }
                // Whoever it was has left.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                Err(_) => panic!("the first bytes did not arrive within {SOON:?}"),
            }
        }
    }

    /// A connection on which something came, or whose end.
    fn first_to_speak(&self) -> TcpStream {
        let mut silent = self.silent.borrow_mut();
        let patience = Timespec::try_from(SOON).unwrap();
        loop {
            let ready = {
                let streams = silent.iter().map(|stream| PollFd::new(stream, PollFlags::IN));
                let mut asked: Vec<_> = streams.chain([PollFd::new(&self.listener, PollFlags::IN)]).collect();
                uninterrupted(|| Ok(poll(&mut asked, Some(&patience))?)).unwrap();
                asked.iter().position(|one| !one.revents().is_empty()).expect("nothing came to the target")
            };
            if ready < silent.len() {
                return silent.remove(ready);
            }
            silent.push(self.accept());
        }
    }
}

pub(super) fn connect(entrance: SocketAddr) -> TcpStream {
    bounded(TcpStream::connect_timeout(&entrance, SOON).expect("a listener does not accept"))
}

fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A call, once more where a signal came in between: of a process that ended. Those with a time limit are not begun anew by themselves.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Ends a connection by a reset.
pub(super) fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Orderly,
    Reset,
}

/// Reads to the end; tells how many bytes came before it.
pub(super) fn ending(stream: &mut TcpStream) -> (u64, Ending) {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match uninterrupted(|| stream.read(&mut buffer)) {
            Ok(0) => return (total, Ending::Orderly),
            Ok(n) => total += n as u64,
            Err(error) => return (total, of(&error)),
        }
    }
}

/// Writes until that fails.
pub(super) fn write_until_told(stream: &mut TcpStream) -> Ending {
    let buffer = vec![7; 64 << 10];
    loop {
        if let Err(error) = stream.write_all(&buffer) {
            return of(&error);
        }
    }
}

fn of(error: &io::Error) -> Ending {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => Ending::Reset,
        kind => panic!("nobody told of the end within {SOON:?}: {kind}"),
    }
}

/// Numbers that are the same in each run (SplitMix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// One that is small as often as it is large, from 1 to `most`.
    fn size(&mut self, most: u64) -> usize {
        let magnitude = self.next() % 64;
        (1 + self.next() % (most >> (magnitude % 16)).max(1)) as usize
    }
}

/// What all streams are cut from; of a prime length, so that no chunk fits.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut numbers = Numbers(1);
    (0..1_000_003).map(|_| numbers.next() as u8).collect()
});

/// A stream of bytes that tells itself from others and each place in it from the next ones.
#[derive(Clone, Copy)]
pub(super) struct Pattern {
    seed: u64,
    at: u64,
}

impl Pattern {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, at: 0 }
    }

    /// The next bytes, up to `most`.
    fn chunk(&self, most: usize) -> &'static [u8] {
        let from = ((self.seed.wrapping_mul(7919) + self.at) % BYTES.len() as u64) as usize;
        &BYTES[from..BYTES.len().min(from + most)]
    }

    /// Sends so many bytes in chunks of random sizes.
    pub(super) fn send(&mut self, stream: &mut TcpStream, bytes: u64) {
        let mut numbers = Numbers(self.seed);
        let until = self.at + bytes;
        while self.at < until {
            let most = numbers.size(256 << 10).min((until - self.at) as usize);
            let chunk = self.chunk(most);
            stream.write_all(chunk).expect("a stream broke while it was written");
            self.at += chunk.len() as u64;
        }
    }

    /// Sends what can be sent until nothing more goes for a while, but not more than `most`; returns how much it was.
    pub(super) fn send_until_stalled(&mut self, stream: &mut TcpStream, most: u64) -> u64 {
        const STALLED: Duration = Duration::from_millis(300);
        stream.set_write_timeout(Some(STALLED)).unwrap();
        let from = self.at;
        while self.at - from < most {
            match uninterrupted(|| stream.write(self.chunk(256 << 10))) {
                Ok(n) => self.at += n as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("a stream broke while its reader stalled: {error}"),
            }
        }
        stream.set_write_timeout(Some(SOON)).unwrap();
        self.at - from
    }

    /// Receives so many bytes, in pieces of random sizes.
    pub(super) fn receive(&mut self, stream: &mut TcpStream, bytes: u64) {
        let mut numbers = Numbers(!self.seed);
        let until = self.at + bytes;
        let mut buffer = vec![0; 256 << 10];
        while self.at < until {
            let most = numbers.size(256 << 10).min((until - self.at) as usize);
            let received =
                uninterrupted(|| stream.read(&mut buffer[..most])).expect("a stream broke while it was read");
            assert!(received > 0, "a stream ended after {} bytes, {} too early", self.at, until - self.at);
            let mut rest = &buffer[..received];
            while !rest.is_empty() {
                let expected = self.chunk(rest.len());
                let (piece, further) = rest.split_at(expected.len());
                assert!(piece == expected, "bytes came changed, {} or later", self.at);
                self.at += piece.len() as u64;
                rest = further;
            }
        }
    }

    /// Receives so many bytes and then the end.
    pub(super) fn receive_all(&mut self, stream: &mut TcpStream, bytes: u64) {
        self.receive(stream, bytes);
        assert_eq!(ending(stream), (0, Ending::Orderly), "after its last byte a stream ends");
    }
}
