//! Whatever two peers do to a connection (chunks of any size, pauses, either side ending first), what arrives through a data server is
//! what was sent, in order, whole, and ends as it ended.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::thread::{scope, sleep};
use std::time::Duration;

use proptest::prelude::*;
use scistream::dataserver::{
    Congestion, DataServerSettings, DataServerType, ForwardOptions, ForwardPlan, Forwarding, Lane, Meter, ReservedPort,
    SECRET_LEN, Secret, Transport, data_server,
};
use scistream::{DataPlane, Role};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// For anything that is to come at all.
const SOON: Duration = Duration::from_secs(60);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// What one peer does.
#[derive(Clone, Debug)]
struct Script {
    steps: Vec<Step>,
    /// Reads everything first, and sends only then.
    listens_first: bool,
    /// Bytes of each read.
    read_size: usize,
    pause_before_reading: Duration,
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Pause(Duration),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop_oneof![1_usize..20, 1000_usize..5000, 100_000_usize..600_000].prop_map(Step::Send),
        1 => (0_u64..10).prop_map(|millis| Step::Pause(Duration::from_millis(millis))),
    ];
    prop::collection::vec(step, 0..8)
}

/// Of both peers, of whom at most one waits for the other's end.
fn scripts() -> impl Strategy<Value = (Script, Script)> {
    let read_size = || prop_oneof![1000_usize..5000, 50_000_usize..300_000];
    let pause = || (0_u64..20).prop_map(Duration::from_millis);
    (steps(), steps(), 0..3, read_size(), read_size(), pause(), pause()).prop_map(
        |(ours, theirs, waits, our_size, their_size, our_pause, their_pause)| {
            let script = |steps, listens_first, read_size, pause_before_reading| Script {
                steps,
                listens_first,
                read_size,
                pause_before_reading,
            };
            (script(ours, waits == 1, our_size, our_pause), script(theirs, waits == 2, their_size, their_pause))
        },
    )
}

/// The byte at a place of a peer's stream: no two parts of it are alike.
fn byte(seed: u8, place: usize) -> u8 {
    (place.wrapping_mul(31) >> 3) as u8 ^ seed ^ (place >> 13) as u8
}

impl Script {
    fn sent(&self) -> usize {
        self.steps.iter().map(|step| if let Step::Send(bytes) = step { *bytes } else { 0 }).sum()
    }

    /// Says what arrived.
    fn play(&self, seed: u8, connection: &TcpStream) -> Vec<u8> {
        connection.set_read_timeout(Some(SOON)).unwrap();
        connection.set_write_timeout(Some(SOON)).unwrap();
        if self.listens_first {
            let received = self.receive(connection);
            self.send(seed, connection);
            return received;
        }
        scope(|threads| {
            let received = threads.spawn(|| self.receive(connection));
            self.send(seed, connection);
            received.join().unwrap()
        })
    }

    fn send(&self, seed: u8, mut connection: &TcpStream) {
        let mut place = 0;
        for step in &self.steps {
            match step {
                Step::Pause(pause) => sleep(*pause),
                Step::Send(bytes) => {
                    let chunk: Vec<u8> = (place..place + bytes).map(|place| byte(seed, place)).collect();
                    connection.write_all(&chunk).unwrap();
                    place += bytes;
                }
            }
        }
        connection.shutdown(Shutdown::Write).unwrap();
    }

    fn receive(&self, mut connection: &TcpStream) -> Vec<u8> {
        sleep(self.pause_before_reading);
        let (mut received, mut chunk) = (Vec::new(), vec![0; self.read_size]);
        loop {
            match connection.read(&mut chunk).unwrap() {
                0 => return received,
                read => received.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

/// Two gateways, and where their path ends.
struct Path {
    entry: SocketAddr,
    target: TcpListener,
    meters: [Arc<Meter>; 2],
    forwardings: Vec<Box<dyn Forwarding>>,
    _files: tempfile::TempDir,
}

impl Path {
    fn open(kind: DataServerType, buffer_size: usize) -> Self {
        let files = tempfile::tempdir().unwrap();
        let plane = Arc::new(DataPlane::new(None).unwrap());
        let server = data_server(kind, &DataServerSettings { plane, directory: files.path().into() }).unwrap();
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut entry = target.local_addr().unwrap();
        let meters: [Arc<Meter>; 2] = Default::default();
        let mut forwardings = Vec::new();
        for (role, meter) in [Role::Producer, Role::Consumer].into_iter().zip(&meters) {
            let port = ReservedPort::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let next = port.address();
            let plan = ForwardPlan {
                uid: Uuid::nil(),
                role,
                lanes: vec![Lane { port, target: entry.to_string().parse().unwrap() }],
                transport: Transport::Tcp,
                secret: Secret::random([3; SECRET_LEN]),
                options: ForwardOptions { buffer_size, congestion: Congestion::Auto, ..ForwardOptions::default() },
                rate: None,
                meter: Arc::clone(meter),
            };
            forwardings.push(RUNTIME.block_on(server.start(plan)).unwrap());
            entry = next;
        }
        Self { entry, target, meters, forwardings, _files: files }
    }

    /// A client and the connection that the target accepted.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.entry).unwrap();
        let (accepted, _) = self.target.accept().unwrap();
        (client, accepted)
    }

    fn release(self) {
        for forwarding in self.forwardings {
            RUNTIME.block_on(forwarding.release());
        }
        for meter in self.meters {
            assert_eq!((meter.traffic().buffered, meter.traffic().connections_open), (0, 0));
        }
    }
}

fn streams_arrive_whole(kind: DataServerType) {
    // As it is, and one that makes every larger chunk wait.
    for buffer_size in [ForwardOptions::default().buffer_size, 10_000] {
        let path = Path::open(kind, buffer_size);
        let config = ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |((ours, theirs) in scripts())| {
            let (client, accepted) = path.connect();
            let (here, there) = scope(|threads| {
                let there = threads.spawn(|| theirs.play(2, &accepted));
                (ours.play(1, &client), there.join().unwrap())
            });
            for (received, script, seed) in [(here, &theirs, 2), (there, &ours, 1)] {
                prop_assert_eq!(received.len(), script.sent());
                prop_assert!(received.iter().enumerate().all(|(place, found)| *found == byte(seed, place)));
            }
        });
        path.release();
    }
}

/// What a peer sent before it reset the connection may arrive in part; that it was the whole must not be told.
fn streams_that_are_reset_are_never_whole(kind: DataServerType) {
    let path = Path::open(kind, ForwardOptions::default().buffer_size);
    let config = ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(before in prop_oneof![0_usize..3000, 100_000_usize..2_000_000], client_resets: bool)| {
        let (client, accepted) = path.connect();
        let (resets, mut learns) = if client_resets { (client, accepted) } else { (accepted, client) };
        learns.set_read_timeout(Some(SOON)).unwrap();
        let received = scope(|threads| {
            let learnt = threads.spawn(move || {
                let mut received = Vec::new();
                (learns.read_to_end(&mut received).map_err(|error| error.kind()), received)
            });
            let chunk: Vec<u8> = (0..before).map(|place| byte(4, place)).collect();
            (&resets).write_all(&chunk).unwrap();
            rustix::net::sockopt::set_socket_linger(&resets, Some(Duration::ZERO)).unwrap();
            drop(resets);
            learnt.join().unwrap()
        });
        prop_assert_eq!(received.0, Err(std::io::ErrorKind::ConnectionReset));
        prop_assert!(received.1.iter().enumerate().all(|(place, found)| *found == byte(4, place)));
    });
    path.release();
}

fn holds(kind: DataServerType) {
    streams_arrive_whole(kind);
    streams_that_are_reset_are_never_whole(kind);
}

#[test]
fn copy_changes_nothing() {
    holds(DataServerType::Copy);
}

mod slow {
    use super::{DataServerType, holds};

    #[test]
    fn splice_changes_nothing() {
        holds(DataServerType::Splice);
    }

    #[test]
    fn tls_changes_nothing() {
        holds(DataServerType::Tls);
    }
}
