//! What the processes of a path do. The benchmark starts itself anew for each of them; they print where they listen, or what they
//! measured, and end with their standard input.

use std::env::temp_dir;
use std::io::{self, Read, Write, read_to_string, stdin};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::spawn;
use std::time::{Duration, Instant};

use scistream::dataserver::{
    DataServerSettings, DataServerType, ForwardPlan, Lane, Meter, ReservedPort, SECRET_LEN, Secret, Transport,
    data_server,
};
use scistream::{DataPlane, Role as Side};
use uuid::Uuid;

use crate::options::forward;
use crate::scene::cpu_of;

/// A path that carries nothing for so long has failed.
const STALL: Duration = Duration::from_secs(30);

pub(crate) enum Role {
    Gateway { kind: DataServerType, side: Side, target: String, forward: Vec<String> },
    Sink,
    Source { to: SocketAddr, size: usize, lasts: Duration },
}

impl Role {
    pub(crate) fn of(arguments: &[String]) -> Option<Self> {
        let [name, rest @ ..] = arguments else { return None };
        Some(match (name.as_str(), rest) {
            ("gateway", [kind, side, target, forward @ ..]) => Self::Gateway {
                kind: kind.parse().unwrap(),
                side: side.parse().unwrap(),
                target: target.clone(),
                forward: forward.into(),
            },
            ("sink", []) => Self::Sink,
            ("source", [to, size, seconds]) => Self::Source {
                to: to.parse().unwrap(),
                size: size.parse().unwrap(),
                lasts: Duration::from_secs_f64(seconds.parse().unwrap()),
            },
            _ => return None,
        })
    }

    pub(crate) fn play(self) {
        match self {
            Self::Gateway { kind, side, target, forward } => gateway(kind, side, &target, &forward),
            Self::Sink => sink(),
            Self::Source { to, size, lasts } => source(to, size, lasts).unwrap(),
        }
    }
}

fn gateway(kind: DataServerType, role: Side, target: &str, arguments: &[String]) {
    let settings = DataServerSettings { plane: Arc::new(DataPlane::new(None).unwrap()), directory: temp_dir() };
    let server = data_server(kind, &settings).unwrap();
    server.check().unwrap();
    let port = ReservedPort::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = port.address();
    let plan = ForwardPlan {
        uid: Uuid::nil(),
        role,
        lanes: vec![Lane { port, target: target.parse().unwrap() }],
        transport: Transport::Tcp,
        secret: Secret::random([7; SECRET_LEN]),
        options: forward(arguments),
        rate: None,
        meter: Arc::new(Meter::default()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let forwarding = runtime.block_on(server.start(plan)).unwrap();
    println!("{address}");
    let _ = read_to_string(stdin());
    runtime.block_on(forwarding.release());
}

fn sink() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    println!("{}", listener.local_addr().unwrap());
    spawn(move || {
        for connection in listener.incoming() {
            match receive(connection.unwrap()) {
                Ok(Received { samples, lasted, sigma }) => {
                    println!("{samples} {} {}", lasted.as_secs_f64(), sigma.as_secs_f64());
                }
                Err(error) => eprintln!("sink: {error}"),
            }
        }
    });
    let _ = read_to_string(stdin());
}

struct Received {
    samples: u64,
    /// From the first sample to the last.
    lasted: Duration,
    /// Of the time between one sample and the next.
    sigma: Duration,
}

fn receive(mut connection: TcpStream) -> io::Result<Received> {
    connection.set_read_timeout(Some(STALL))?;
    let mut header = [0; 8];
    connection.read_exact(&mut header)?;
    let mut sample = vec![0; u64::from_le_bytes(header) as usize];
    connection.read_exact(&mut sample)?;
    let first = Instant::now();
    let (mut last, mut samples, mut mean, mut squares) = (first, 1, 0.0, 0.0);
    loop {
        match connection.read_exact(&mut sample) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        // Welford's, over the intervals, of which there are as many as earlier samples.
        let interval = (now - last).as_secs_f64();
        let off = interval - mean;
        mean += off / samples as f64;
        squares += off * (interval - mean);
        (last, samples) = (now, samples + 1);
    }
    let sigma = Duration::from_secs_f64((squares / (samples - 1).max(1) as f64).sqrt());
    Ok(Received { samples, lasted: last - first, sigma })
}

fn source(to: SocketAddr, size: usize, lasts: Duration) -> io::Result<()> {
    let mut connection = TcpStream::connect(to)?;
    connection.set_write_timeout(Some(STALL))?;
    connection.set_read_timeout(Some(STALL))?;
    connection.write_all(&(size as u64).to_le_bytes())?;
    let sample = vec![7; size];
    let start = Instant::now();
    while start.elapsed() < lasts {
        connection.write_all(&sample)?;
    }
    connection.shutdown(std::net::Shutdown::Write)?;
    // Its end comes once everything arrived.
    connection.read_to_end(&mut Vec::new())?;
    println!("{}", cpu_of(std::process::id()).as_nanos());
    Ok(())
}
