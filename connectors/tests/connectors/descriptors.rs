//! Shared memory when a process may open no more files. A limit of the whole process, of which this is the only test.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use psbench_connectors::shm::ShmServer;
use psbench_connectors::{Connector, Key, KeySource};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that may be open: fewer than the objects, each of which has a segment of its own.
const FILES: u64 = 64;

#[test]
fn objects_without_a_segment_go_over_the_socket() {
    let server = ShmServer::start(Path::new(""), 1 << 28, KeySource::random()).unwrap();
    let client = server.address().connect().unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), ..before }).unwrap();
    let object = |n: usize| Bytes::from(vec![n as u8; 100_000]);
    let keys: Vec<Key> = (0..2 * FILES as usize).map(|n| server.put(object(n)).unwrap()).collect();
    assert!(File::open("/dev/null").is_err(), "the limit was not reached");
    setrlimit(Resource::Nofile, before).unwrap();
    for (n, key) in keys.iter().enumerate() {
        assert!(client.take(key).unwrap().unwrap() == object(n), "object {n}");
    }
}
