//! What readers of shared memory rely on, and what can go wrong between them and the server.

use std::collections::HashSet;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::shm::{ShmClient, ShmLocation, ShmServer};
use psbench_connectors::{Connector, ConnectorError, Key, KeySource, Lifetime, Proxy, Secret};
use uuid::Uuid;

use crate::support::PATIENCE;

/// Large enough for a segment of its own.
const SIZE: usize = 200_000;
const LIMIT: u64 = 1 << 28;

fn serve() -> ShmServer {
    ShmServer::start(Path::new(""), LIMIT, KeySource::random()).unwrap()
}

fn object(n: u8) -> Bytes {
    vec![n; SIZE].into()
}

fn holds_only(bytes: &[u8], n: u8) -> bool {
    bytes.len() == SIZE && bytes.iter().all(|byte| *byte == n)
}

/// Whether the bytes are in shared memory that this process can't write to.
fn are_mapped(bytes: &Bytes) -> bool {
    let address = bytes.as_ptr().addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let range = usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap();
        range.contains(&address) && rest.starts_with("r--s") && rest.contains("memfd:psbench-shm")
    })
}

#[test]
fn readers_share_one_mapping_and_copy_nothing() {
    let server = serve();
    let client = server.address().connect().unwrap();
    let key = server.put(object(7)).unwrap();
    let (first, second) = (client.get(&key).unwrap().unwrap(), client.get(&key).unwrap().unwrap());
    assert_eq!(first.as_ptr(), second.as_ptr());
    assert!(are_mapped(&first) && holds_only(&first, 7));
    let taken = client.take(&key).unwrap().unwrap();
    assert_eq!(first.as_ptr(), taken.as_ptr());
}

#[test]
fn the_server_itself_copies_nothing_either() {
    let server = serve();
    let key = server.put(object(7)).unwrap();
    let (first, second) = (server.get(&key).unwrap().unwrap(), server.take(&key).unwrap().unwrap());
    assert_eq!(first.as_ptr(), second.as_ptr());
    server.put(object(8)).unwrap();
    drop(server);
    assert!(holds_only(&first, 7));
}

#[test]
fn small_objects_need_no_segment() {
    let server = serve();
    let client = server.address().connect().unwrap();
    let key = server.put(Bytes::from_static(b"abc")).unwrap();
    let got = client.take(&Key::named(key.id)).unwrap().unwrap();
    assert!(got == "abc" && !are_mapped(&got));
}

#[test]
fn an_object_is_found_by_its_name_alone() {
    let server = serve();
    let client = server.address().connect().unwrap();
    let key = server.put(object(7)).unwrap();
    assert!(holds_only(&client.take(&Key::named(key.id)).unwrap().unwrap(), 7));
    assert_eq!(client.get(&Key::named(key.id)).unwrap(), None);
}

#[test]
fn segments_are_used_again() {
    let server = serve();
    let client = server.address().connect().unwrap();
    let mut places = HashSet::new();
    for n in 0..200 {
        let key = server.put(object(n)).unwrap();
        let taken = client.take(&key).unwrap().unwrap();
        assert!(holds_only(&taken, n));
        places.insert(taken.as_ptr().addr());
    }
    // The lease on one object goes back when the next is taken.
    assert!(places.len() <= 2, "200 objects went through {} segments", places.len());
}

#[test]
fn what_is_held_does_not_change() {
    let server = serve();
    let client = server.address().connect().unwrap();
    let keys: Vec<Key> = (0..3).map(|n| server.put(object(n)).unwrap()).collect();
    let taken = client.take(&keys[0]).unwrap().unwrap();
    let got = client.get(&keys[1]).unwrap().unwrap();
    assert!(client.evict(&keys[1]).unwrap(), "what someone reads can be evicted");
    assert_eq!(client.get(&keys[1]).unwrap(), None, "and is gone by its name at once");
    // Part of it, and in another thread.
    let part = client.take(&keys[2]).unwrap().unwrap().slice(1000..);
    for _ in 0..1000 {
        let key = server.put(object(0xff)).unwrap();
        assert!(holds_only(&client.take(&key).unwrap().unwrap(), 0xff));
    }
    drop(server);
    drop(client);
    assert!(holds_only(&taken, 0) && holds_only(&got, 1));
    assert!(thread::spawn(move || part.iter().all(|byte| *byte == 2)).join().unwrap());
}

#[test]
fn a_large_object_frees_its_segment_without_a_further_request() {
    const SIZE: usize = 3 << 20;
    let server = serve();
    let client = server.address().connect().unwrap();
    let store = |n| server.put(vec![n; SIZE].into()).unwrap();
    let place = |key: &Key| server.get(key).unwrap().unwrap().as_ptr();
    let first = store(1);
    let place_of_first = place(&first);
    drop(client.take(&first).unwrap().unwrap());
    // The server hears of it soon, not at once. Until then it has no spare segment.
    // No more looks than the server has room for objects.
    let (until, mut pause) = (Instant::now() + PATIENCE, Duration::from_millis(100));
    while place(&store(2)) != place_of_first {
        assert!(Instant::now() < until, "the segment never came back");
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

#[test]
fn what_a_client_that_is_gone_still_reads_is_never_written_to() {
    let server = serve();
    let other = server.address().connect().unwrap();
    let client = server.address().connect().unwrap();
    let held: Vec<Bytes> = (1..9).map(|n| client.take(&server.put(object(n)).unwrap()).unwrap().unwrap()).collect();
    // Its connections close; its mappings are still read.
    drop(client);
    for _ in 0..200 {
        assert!(holds_only(&other.take(&server.put(object(0xff)).unwrap()).unwrap().unwrap(), 0xff));
    }
    for (n, bytes) in (1..9).zip(&held) {
        assert!(holds_only(bytes, n), "object {n} changed");
    }
}

#[test]
fn a_reader_that_is_killed_holds_up_nobody() {
    if let Ok(proxy) = env::var(PROXY) {
        return hold(&proxy);
    }
    let server = ShmServer::start(Path::new(""), 2 * SIZE as u64, KeySource::random()).unwrap();
    let client = server.address().connect().unwrap();
    for round in 0..5 {
        let key = server.put(object(round)).unwrap();
        let reader =
            Reader::start(&Proxy { address: server.address(), key, checksum: None, lifetime: Lifetime::Owned });
        assert!(!server.exists(&key).unwrap(), "the reader has taken it");
        drop(reader);
        for n in 0..20 {
            assert!(holds_only(&client.take(&server.put(object(n)).unwrap()).unwrap().unwrap(), n));
        }
    }
}

/// The test above in a second process, which takes one object and holds it until it is killed.
struct Reader(Child);

/// What the second process is to take; without it this is the test itself.
const PROXY: &str = "PSBENCH_TEST_PROXY";

fn hold(proxy: &str) {
    let proxy: Vec<u8> =
        (0..proxy.len()).step_by(2).map(|at| u8::from_str_radix(&proxy[at..at + 2], 16).unwrap()).collect();
    let proxy = Proxy::decode(&proxy).unwrap();
    let held = proxy.address.connect().unwrap().take(&proxy.key).unwrap().unwrap();
    assert!(holds_only(&held, held[0]) && are_mapped(&held));
    println!("holding");
    // Nothing ever comes: this ends with the test that started it.
    assert_eq!(std::io::stdin().read(&mut [0]).unwrap(), 0);
}

impl Reader {
    fn start(proxy: &Proxy) -> Self {
        let proxy: String = proxy.encode().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "shm::a_reader_that_is_killed_holds_up_nobody", "--nocapture"])
            .env(PROXY, proxy)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut reader = Self(process.unwrap());
        let output = BufReader::new(reader.0.stdout.take().unwrap());
        assert!(output.lines().any(|line| line.unwrap().ends_with("holding")), "the reader failed");
        reader
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_full_server_waits_for_evictions_not_for_readers() {
    let server = ShmServer::start(Path::new(""), SIZE as u64, KeySource::random()).unwrap();
    let client = server.address().connect().unwrap();
    let first = server.put(object(1)).unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| server.put(object(2)).unwrap());
        // What a reader holds is no longer the server's.
        let held = client.take(&first).unwrap().unwrap();
        assert!(holds_only(&client.get(&second.join().unwrap()).unwrap().unwrap(), 2));
        assert!(holds_only(&held, 1));
    });
    let error = server.put(vec![0; SIZE + 1].into()).unwrap_err();
    assert!(matches!(error, ConnectorError::TooLarge { .. }), "{error}");
}

#[test]
fn more_objects_than_segments_go_over_the_socket() {
    const SIZE: usize = 40_000;
    let server = serve();
    let client = server.address().connect().unwrap();
    let put = |n: usize| server.put(vec![n as u8; SIZE].into()).unwrap();
    let keys: Vec<Key> = (0..700).map(put).collect();
    let held: Vec<Bytes> = keys.iter().map(|key| client.take(key).unwrap().unwrap()).collect();
    for (n, bytes) in held.iter().enumerate() {
        assert!(bytes.len() == SIZE && bytes.iter().all(|byte| *byte == n as u8), "object {n} changed");
    }
    let mapped = held.iter().filter(|bytes| are_mapped(bytes)).count();
    assert_eq!(mapped, 512);
}

#[test]
fn a_wrong_secret_is_refused_and_named() {
    let server = serve();
    let location = ShmLocation { secret: Secret([1; 16]), ..server.location().clone() };
    let error = ShmClient::connect(&location).unwrap_err();
    assert!(error.to_string().contains("secret"), "{error}");
}

#[test]
fn another_host_is_told_what_to_use() {
    let server = serve();
    let location = ShmLocation { host: Uuid::new_v4(), ..server.location().clone() };
    let error = ShmClient::connect(&location).unwrap_err();
    assert!(matches!(error, ConnectorError::Unreachable { .. }) && error.to_string().contains("peer"), "{error}");
}

#[test]
fn a_client_may_not_store() {
    let server = serve();
    let error = server.address().connect().unwrap().put(Bytes::new()).unwrap_err();
    assert!(matches!(error, ConnectorError::Unreachable { .. }));
}

#[test]
fn the_socket_is_private_and_goes_with_its_server() {
    let server = serve();
    let name = server.location().path.to_str().unwrap().to_owned();
    assert!(name.starts_with("@psbench-"), "{name}");
    let listening = || std::fs::read_to_string("/proc/net/unix").unwrap().contains(&name);
    assert!(listening());
    drop(server);
    assert!(!listening());
}

#[test]
fn a_server_that_is_gone_is_named() {
    let server = serve();
    let path = server.location().path.clone();
    let key = server.put(object(1)).unwrap();
    let client = server.address().connect().unwrap();
    client.get(&key).unwrap().unwrap();
    drop(server);
    let error = client.get(&key).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("still running"), "{error}");
}

/// A connection of a stranger.
fn stranger(server: &ShmServer) -> UnixStream {
    let name = server.location().path.to_str().unwrap().strip_prefix('@').unwrap();
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

/// A connection that was let in.
fn raw(server: &ShmServer) -> UnixStream {
    let secret = server.location().secret;
    let mut socket = stranger(server);
    socket.write_all(&[b"PSBS\x01", &secret.0[..]].concat()).unwrap();
    let mut verdict = [9];
    socket.read_exact(&mut verdict).unwrap();
    assert_eq!(verdict, [0]);
    socket
}

fn ends(mut socket: UnixStream) -> bool {
    // A reset counts as an end, too.
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer.is_empty()
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let server = serve();
    let mut stranger = stranger(&server);
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(ends(stranger));
    for request in [[0xff; 17], [0; 17]] {
        let mut socket = raw(&server);
        socket.write_all(&request).unwrap();
        assert!(ends(socket));
    }
    // A lease that nobody has: no segment for it; its end means nothing.
    let (map, release) = ([5_u8, 77], [6_u8, 77]);
    let mut socket = raw(&server);
    socket.write_all(&[&release[..], &[0; 15], &map[..], &[0; 15]].concat()).unwrap();
    assert!(ends(socket));
    let key = server.put(object(1)).unwrap();
    assert!(holds_only(&server.address().connect().unwrap().get(&key).unwrap().unwrap(), 1));
}

/// A server that lets everyone in and answers one request with these bytes, and no more.
fn impostor(answer: Vec<u8>) -> ConnectorError {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((mut client, _)) = listener.accept() {
            let answer = answer.clone();
            open.push(thread::spawn(move || {
                let (mut hello, mut request) = ([0; 21], [0; 17]);
                let _ = client.read_exact(&mut hello).and_then(|()| client.write_all(&[0]));
                let _ = client.read_exact(&mut request).and_then(|()| client.write_all(&answer));
                let _ = client.shutdown(Shutdown::Write).and_then(|()| client.read_to_end(&mut Vec::new()));
            }));
        }
    });
    let client = ShmClient::connect(&ShmLocation { path, ..serve().location().clone() }).unwrap();
    client.get(&KeySource::random().next(SIZE as u64)).unwrap_err()
}

fn answer(kind: u8, numbers: [u64; 3]) -> Vec<u8> {
    [&[kind], numbers.map(u64::to_le_bytes).as_flattened()].concat()
}

#[test]
fn garbage_from_a_server_is_an_error() {
    let size = SIZE as u64;
    for garbage in [vec![7; 25], answer(1, [0; 3]), answer(0, [1; 3])] {
        let error = impostor(garbage);
        assert!(matches!(error, ConnectorError::Protocol { .. }), "{error}");
    }
    for kind in [2, 3] {
        let error = impostor(answer(kind, [u64::MAX, 0, 0]));
        assert!(matches!(error, ConnectorError::Protocol { .. }), "{error}");
    }
    let no_descriptor = [&answer(3, [size, 1, 1])[..], &u32::MAX.to_le_bytes()].concat();
    let error = impostor(no_descriptor);
    assert!(error.to_string().contains("no descriptor"), "{error}");
    let error = impostor(answer(2, [size, 0, 0]));
    assert!(matches!(error, ConnectorError::Io { .. }), "{error}");
}

#[test]
fn many_threads_read_at_once() {
    let server = serve();
    let keys: Vec<Key> = (0..100).map(|n| server.put(object(n)).unwrap()).collect();
    let client = server.address().connect().unwrap();
    thread::scope(|scope| {
        for (n, key) in (0..100).zip(&keys) {
            let client = &client;
            scope.spawn(move || {
                assert!(holds_only(&client.get(key).unwrap().unwrap(), n));
                assert!(holds_only(&client.take(key).unwrap().unwrap(), n));
            });
        }
    });
}
