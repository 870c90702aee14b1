use std::fs::read_dir;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use uuid::Uuid;

use super::program::Grant;
use super::*;
use crate::Role;
use crate::dataserver::DataServer;
use crate::forward::{ForwardOptions, Lane, Meter, ReservedPort, Secret, Traffic, Transport};

/// Whatever should happen has happened by then, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn server(connections: u32) -> Sockmap {
    let plane = Arc::new(DataPlane::new(NonZero::new(2)).unwrap());
    Sockmap::new(plane, NonZero::new(connections).unwrap())
}

/// A session of one lane, to a target that the test plays.
struct Session {
    forwarding: Box<dyn Forwarding>,
    at: SocketAddr,
    target: TcpListener,
}

impl Session {
    fn start(server: &Sockmap, options: ForwardOptions) -> Self {
        Self::with(server, LOOPBACKS[0], options, None)
    }

    fn with(server: &Sockmap, loopback: IpAddr, options: ForwardOptions, rate: Option<u64>) -> Self {
        let target = TcpListener::bind((loopback, 0)).unwrap();
        let port = ReservedPort::bind((loopback, 0).into()).unwrap();
        let at = port.address();
        let uid = Uuid::new_v4();
        let plan = ForwardPlan {
            uid,
            role: Role::Producer,
            lanes: vec![Lane { port, target: target.local_addr().unwrap().to_string().parse().unwrap() }],
            transport: Transport::Tcp,
            secret: Secret::of(uid),
            options,
            rate,
            meter: Arc::new(Meter::default()),
        };
        let forwarding = block_on(server.start(plan)).unwrap();
        Self { forwarding, at, target }
    }

    /// A connection's two ends.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.at).unwrap();
        let (target, _) = self.target.accept().unwrap();
        for end in [&client, &target] {
            end.set_read_timeout(Some(LIMIT)).unwrap();
            end.set_write_timeout(Some(LIMIT)).unwrap();
            end.set_nodelay(true).unwrap();
        }
        (client, target)
    }

    fn traffic(&self) -> Traffic {
        self.forwarding.traffic().unwrap()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < until, "{what}");
        sleep(Duration::from_millis(1));
    }
}

/// Bytes that depend on their position, from one byte's on.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    // A word at a time: a hundred million bytes take long enough.
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Not by `assert_eq`, which would print megabytes.
#[track_caller]
fn assert_same(got: &[u8], sent: &[u8]) {
    assert_eq!(got.len(), sent.len());
    if got == sent {
        return;
    }
    let different = got.iter().zip(sent).position(|(got, sent)| got != sent);
    assert_eq!(different, None, "the first byte that differs");
}

/// Reads to the end, now and then pausing.
fn read_slowly(mut from: &TcpStream, pause_after: usize, pause: Duration) -> Vec<u8> {
    let mut got = Vec::new();
    let mut since = 0;
    let mut chunk = vec![0; 100_000];
    loop {
        match from.read(&mut chunk).unwrap() {
            0 => return got,
            len => {
                got.extend_from_slice(&chunk[..len]);
                since += len;
                if since >= pause_after {
                    since = 0;
                    sleep(pause);
                }
            }
        }
    }
}

fn read_all(from: &TcpStream) -> Vec<u8> {
    read_slowly(from, usize::MAX, Duration::ZERO)
}

fn write_and_end(mut to: &TcpStream, bytes: &[u8]) {
    to.write_all(bytes).unwrap();
    to.shutdown(Shutdown::Write).unwrap();
}

/// Writes until nothing has been taken for a while.
fn write_until_stalled(mut to: &TcpStream, bytes: &[u8]) -> usize {
    to.set_nonblocking(true).unwrap();
    let mut written = 0;
    let mut last = Instant::now();
    while written < bytes.len() && last.elapsed() < Duration::from_millis(500) {
        match to.write(&bytes[written..]) {
            Ok(len) => {
                written += len;
                last = Instant::now();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
    to.set_nonblocking(false).unwrap();
    written
}

fn is_reset(end: &TcpStream) -> bool {
    match { end }.read(&mut [0; 1000]) {
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        Ok(0) => panic!("the stream ended as if it were whole"),
        Ok(_) => is_reset(end),
    }
}

fn descriptors() -> usize {
    read_dir("/proc/self/fd").unwrap().count()
}

fn small() -> ForwardOptions {
    ForwardOptions { buffer_size: 1 << 20, socket_buffer: Some(128 << 10), ..ForwardOptions::default() }
}

#[test]
fn it_works_here() {
    server(16).check().unwrap();
}

#[test]
fn bytes_and_ends_pass_both_ways_at_once() {
    let server = server(16);
    for loopback in LOOPBACKS {
        let session = Session::with(&server, loopback, ForwardOptions::default(), None);
        let (client, target) = session.connect();
        let (there, back) = (bytes(1, 50_000_000), bytes(2, 60_000_000));
        thread::scope(|scope| {
            scope.spawn(|| write_and_end(&client, &there));
            scope.spawn(|| write_and_end(&target, &back));
            scope.spawn(|| assert_same(&read_all(&client), &back));
            assert_same(&read_all(&target), &there);
        });
        eventually("the connection ends", || session.traffic().connections_open == 0);
        let traffic = session.traffic();
        assert_eq!((traffic.bytes_to_target, traffic.bytes_to_client), (50_000_000, 60_000_000));
        assert_eq!((traffic.buffered, traffic.connections_reset), (0, 0));
    }
}

#[test]
fn a_stalled_consumer_bounds_what_is_held_and_loses_nothing() {
    let server = server(16);
    let session = Session::start(&server, small());
    let (client, target) = session.connect();
    let sent = bytes(3, 100_000_000);
    let written = write_until_stalled(&client, &sent);
    // The buffers of four sockets, of which the kernel tunes two up to several MB.
    assert!(written < 40_000_000, "{written}");
    let held = session.traffic().buffered;
    assert!(held <= 1 << 20, "{held}");

    thread::scope(|scope| {
        scope.spawn(|| write_and_end(&client, &sent[written..]));
        assert_same(&read_slowly(&target, 20_000_000, Duration::from_millis(200)), &sent);
    });
    write_and_end(&target, b"thanks");
    assert_eq!(read_all(&client), b"thanks");
}

/// Trap: what arrived before a socket is in the map is not seen by the program.
#[test]
fn what_came_before_it_was_joined_is_carried() {
    let server = server(16);
    let program = server.program().unwrap();
    let (mut client, source) = pair();
    let (sink, mut target) = pair();
    client.write_all(b"early").unwrap();
    eventually("it arrived", || socket::received(&source).unwrap() == 5);
    let joined = program.join(&source, &sink).unwrap();
    let mut got = [0; 5];
    (&source).read_exact(&mut got).unwrap();
    assert_eq!(&got, b"early");
    (&sink).write_all(&got).unwrap();
    joined.grant(0, Grant { bytes: 1 << 20, taken: 5 }).unwrap();
    client.write_all(b" later").unwrap();
    let mut got = [0; 11];
    target.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"early later");

    // The same through a session, whose target is connected to while the client writes.
    let session = Session::start(&server, ForwardOptions::default());
    for turn in 0..50 {
        let client = TcpStream::connect(session.at).unwrap();
        write_and_end(&client, &bytes(turn, 10_000));
        let (target, _) = session.target.accept().unwrap();
        target.set_read_timeout(Some(LIMIT)).unwrap();
        assert_same(&read_all(&target), &bytes(turn, 10_000));
    }
}

/// Segments that are sent again in other bounds begin with bytes that were received before.
#[test]
fn bytes_that_come_twice_are_moved_once() {
    let server = server(16);
    let program = server.program().unwrap();
    for skipped in [1, 5_000] {
        let (mut client, source) = pair();
        let (sink, mut target) = pair();
        client.write_all(&bytes(4, 20_000)).unwrap();
        eventually("it arrived", || socket::received(&source).unwrap() == 20_000);
        // A buffer whose beginning was read is what such a segment looks like.
        (&source).read_exact(&mut vec![0; skipped]).unwrap();
        let joined = program.join_later(&source, &sink, skipped as u64).unwrap();
        let mut got = vec![0; 20_000 - skipped];
        target.read_exact(&mut got).unwrap();
        assert_same(&got, &bytes(4, 20_000)[skipped..]);
        let counts = joined.counts(0).unwrap().unwrap();
        assert_eq!(counts.redirected, got.len() as u64);
        client.write_all(b"more").unwrap();
        let mut more = [0; 4];
        target.read_exact(&mut more).unwrap();
        assert_eq!(&more, b"more");
    }
}

/// Both ends of a connection, without a data server.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((LOOPBACKS[0], 0)).unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    for end in [&one, &other] {
        end.set_read_timeout(Some(LIMIT)).unwrap();
        end.set_nodelay(true).unwrap();
    }
    (one, other)
}

#[test]
fn a_way_goes_on_after_the_other_has_ended() {
    let server = server(16);
    let session = Session::start(&server, small());
    let (client, target) = session.connect();
    let (request, reply) = (bytes(5, 8_000_000), bytes(6, 9_000_000));
    thread::scope(|scope| {
        scope.spawn(|| write_and_end(&client, &request));
        // The end has to wait for what is before it.
        sleep(Duration::from_millis(300));
        assert_same(&read_all(&target), &request);
    });
    sleep(Duration::from_millis(50));
    thread::scope(|scope| {
        scope.spawn(|| write_and_end(&target, &reply));
        assert_same(&read_all(&client), &reply);
    });
}

#[test]
fn either_side_may_speak_first_and_many_turns_are_taken() {
    let server = server(16);
    let session = Session::start(&server, ForwardOptions::default());
    let (mut client, mut target) = session.connect();
    target.write_all(b"220 ready").unwrap();
    client.read_exact(&mut [0; 9]).unwrap();
    for turn in 0..2000_u32 {
        client.write_all(&turn.to_le_bytes()).unwrap();
        let mut got = [0; 4];
        target.read_exact(&mut got).unwrap();
        target.write_all(&got).unwrap();
        client.read_exact(&mut got).unwrap();
        assert_eq!(u32::from_le_bytes(got), turn);
    }
    drop(client);
    assert_eq!(target.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_reset_is_passed_on_as_one_even_behind_a_stalled_consumer() {
    let server = server(16);
    let session = Session::start(&server, small());
    for stalled in [false, true] {
        for client_resets in [true, false] {
            let (client, mut target) = session.connect();
            // A target that resets before it is connected to is tried again.
            { &client }.write_all(b"x").unwrap();
            target.read_exact(&mut [0]).unwrap();
            let (resetting, other) = if client_resets { (client, target) } else { (target, client) };
            if stalled {
                write_until_stalled(&resetting, &bytes(7, 60_000_000));
            }
            set_socket_linger(&resetting, Some(Duration::ZERO)).unwrap();
            drop(resetting);
            assert!(is_reset(&other), "stalled {stalled}, client {client_resets}");
        }
    }
    eventually("they are counted", || session.traffic().connections_reset == 4);
}

/// Neither way waits for the other.
#[test]
fn a_client_that_does_not_read_can_write() {
    let server = server(16);
    let session = Session::start(&server, small());
    let (client, target) = session.connect();
    let (there, back) = (bytes(8, 30_000_000), bytes(9, 40_000_000));
    thread::scope(|scope| {
        let target = &target;
        let back = &back;
        scope.spawn(move || write_and_end(target, back));
        let upload = scope.spawn(|| write_and_end(&client, &there));
        sleep(Duration::from_millis(300));
        assert_same(&read_slowly(target, 5_000_000, Duration::from_millis(50)), &there);
        upload.join().unwrap();
        assert_same(&read_all(&client), back);
    });
}

#[test]
fn random_chunks_pauses_and_ends_change_nothing() {
    let server = server(64);
    let session = Session::start(&server, small());
    thread::scope(|scope| {
        for seed in 10..18_u64 {
            let (client, target) = session.connect();
            scope.spawn(move || {
                let [there, back] = [bytes(seed, 3_000_000), bytes(seed + 100, 2_000_000)];
                let write = |to: &TcpStream, bytes: &[u8], seed: u64| {
                    let mut left = bytes;
                    let mut state = seed;
                    while !left.is_empty() {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let len = [1, 10, 1_000, 60_000, 300_000][(state >> 33) as usize % 5].min(left.len());
                        { to }.write_all(&left[..len]).unwrap();
                        left = &left[len..];
                        if (state >> 40).is_multiple_of(8) {
                            sleep(Duration::from_millis(state >> 61));
                        }
                    }
                    to.shutdown(Shutdown::Write).unwrap();
                };
                thread::scope(|scope| {
                    scope.spawn(|| write(&client, &there, seed));
                    scope.spawn(|| write(&target, &back, !seed));
                    scope.spawn(|| assert_same(&read_slowly(&client, 500_000, Duration::from_millis(5)), &back));
                    assert_same(&read_slowly(&target, 300_000, Duration::from_millis(10)), &there);
                });
            });
        }
    });
}

#[test]
fn connections_come_and_go_without_a_trace() {
    let server = server(8);
    let session = Session::start(&server, ForwardOptions::default());
    let exchange = |turn: u64| {
        let (client, target) = session.connect();
        write_and_end(&client, &bytes(turn, 3_000));
        assert_same(&read_all(&target), &bytes(turn, 3_000));
        write_and_end(&target, &bytes(!turn, 2_000));
        assert_same(&read_all(&client), &bytes(!turn, 2_000));
        eventually("it ends", || session.traffic().connections_open == 0);
    };
    exchange(0);
    let before = descriptors();
    (1..2000).for_each(exchange);
    eventually("no descriptor is left", || descriptors() <= before);
    assert_eq!(server.program().unwrap().joined(), [0, 0, 0]);
}

#[test]
fn hundreds_of_connections_at_once_do_not_mix() {
    let server = server(512);
    let session = Session::start(&server, ForwardOptions::default());
    let ends: Vec<_> = (0..300).map(|_| session.connect()).collect();
    for (seed, (client, target)) in ends.iter().enumerate() {
        { client }.write_all(&bytes(seed as u64, 20_000)).unwrap();
        { target }.write_all(&bytes(!(seed as u64), 10_000)).unwrap();
    }
    for (seed, (client, target)) in ends.iter().enumerate() {
        let mut got = vec![0; 20_000];
        { target }.read_exact(&mut got).unwrap();
        assert_same(&got, &bytes(seed as u64, 20_000));
        let mut got = vec![0; 10_000];
        { client }.read_exact(&mut got).unwrap();
        assert_same(&got, &bytes(!(seed as u64), 10_000));
    }
    assert_eq!(session.traffic().connections_open, 300);
    block_on(session.forwarding.release());
    assert_eq!(server.program().unwrap().joined(), [0, 0, 0]);
    assert!(ends.iter().all(|(client, target)| is_reset(client) && is_reset(target)));
}

#[test]
fn more_connections_than_it_was_made_for_are_reset() {
    let server = server(2);
    let session = Session::start(&server, ForwardOptions::default());
    let held = [session.connect(), session.connect()];
    eventually("both are there", || server.program().unwrap().joined() == [2, 2, 2]);
    let (client, _) = session.connect();
    assert!(is_reset(&client));
    drop(held);
    eventually("there is room", || server.program().unwrap().joined() == [0, 0, 0]);
    let (client, target) = session.connect();
    write_and_end(&client, b"x");
    assert_eq!(read_all(&target), b"x");
}

#[test]
fn a_rate_is_kept() {
    let server = server(16);
    // 4 MB/s.
    let session = Session::with(&server, LOOPBACKS[0], ForwardOptions::default(), Some(32_000_000));
    let (client, target) = session.connect();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| write_and_end(&client, &bytes(1, 2_000_000)));
        assert_same(&read_all(&target), &bytes(1, 2_000_000));
    });
    assert!(start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());
}

#[test]
fn a_connection_on_which_nothing_moves_is_ended() {
    let server = server(16);
    let limit = Duration::from_secs(3);
    let options = ForwardOptions { idle_timeout: Some(limit), ..ForwardOptions::default() };
    let session = Session::start(&server, options);
    let (mut client, mut target) = session.connect();
    let start = Instant::now();
    while start.elapsed() < limit * 3 / 2 {
        client.write_all(b"x").unwrap();
        target.read_exact(&mut [0]).unwrap();
        sleep(limit / 100);
    }
    assert!(is_reset(&client) && is_reset(&target));
}

#[test]
fn who_lacks_the_rights_is_told_at_the_check() {
    let error = thread::spawn(|| {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective = rustix::thread::CapabilitySet::empty();
        // Of this thread alone.
        rustix::thread::set_capabilities(None, sets).unwrap();
        server(16).check().unwrap_err().to_string()
    });
    let error = error.join().unwrap();
    assert!(error.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: run as root"), "{error}");
}

/// The object is compiled from the source as that is now.
#[test]
fn the_object_is_not_stale() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/bpf");
    let compiled = std::process::Command::new("clang-14")
        .args([
            "-O2",
            "-g",
            "-target",
            "bpf",
            "-mcpu=v2",
            "-fdebug-compilation-dir=.",
            "-c",
            "sockmap.bpf.c",
            "-o",
            "-",
        ])
        .current_dir(folder)
        .output()
        .expect("this test needs Debian's clang-14");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let object = std::fs::read(format!("{folder}/sockmap.bpf.o")).unwrap();
    assert!(compiled.stdout == object, "bpf/sockmap.bpf.c changed: rebuild the object as it says");
}
