//! Holds every connector, decorated or not, against the one suite.

use std::sync::Arc;

use psbench_connectors::conformance::check;
use psbench_connectors::memory::MemoryConnector;
use psbench_connectors::multi::{Part, Policy};
use psbench_connectors::peer::PeerAddress;
use psbench_connectors::redis::RedisServer as At;
use psbench_connectors::{Connector, ConnectorSpec, KeySource};
use uuid::Uuid;

use crate::support::s3::{S3Server, SECRET_KEY, with_credentials};
use crate::support::{Endpoint, RedisServer};

fn memory(keys: KeySource) -> Arc<dyn Connector> {
    Arc::new(MemoryConnector::open(Uuid::new_v4(), 1 << 30, keys).unwrap())
}

fn peer(address: PeerAddress) -> impl Fn(KeySource) -> Arc<dyn Connector> {
    let config = ConnectorSpec::Peer { address, limit: 1 << 30 };
    move |keys| config.open(keys).unwrap()
}

#[test]
fn memory_conforms() {
    check(&memory);
}

#[test]
fn file_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let config = ConnectorSpec::File { dir: dir.path().into() };
    check(&|keys| config.open(keys).unwrap());
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "everything was evicted");
}

#[test]
fn redis_conforms() {
    let server = RedisServer::start(&[]);
    let config = ConnectorSpec::Redis(At::tcp("127.0.0.1", server.port));
    check(&|keys| config.open(keys).unwrap());
}

#[test]
fn s3_conforms() {
    with_credentials("conformance::s3_conforms", SECRET_KEY, || {
        let server = S3Server::start();
        check(&|keys| server.config().open(keys).unwrap());
    });
}

#[test]
fn multi_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let server = RedisServer::start(&[]);
    let part = |spec, min_size, max_size, priority| Part {
        spec,
        policy: Policy { min_size, max_size, priority, ..Policy::default() },
    };
    let peer = ConnectorSpec::Peer { address: PeerAddress::private(), limit: 1 << 30 };
    let config = ConnectorSpec::Multi {
        parts: vec![
            part(ConnectorSpec::File { dir: dir.path().into() }, 100, None, 0),
            part(ConnectorSpec::Redis(At::tcp("127.0.0.1", server.port)), 0, Some(200_000), 1),
            part(peer, 0, Some(4), 2),
        ],
        tags: Vec::new(),
    };
    check(&|keys| config.open(keys).unwrap());
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "everything was evicted");
}

#[test]
fn peer_conforms_over_tcp() {
    check(&peer(PeerAddress::loopback()));
}

#[test]
fn peer_conforms_over_a_unix_socket() {
    check(&peer(PeerAddress::private()));
}

#[test]
fn shm_conforms() {
    let config = ConnectorSpec::Shm { limit: 1 << 30 };
    check(&|keys| config.open(keys).unwrap());
}

mod slow {
    use super::{Endpoint, check};

    /// Thousands of requests, each of which takes Python milliseconds.
    #[test]
    fn endpoint_conforms() {
        let endpoint = Endpoint::start();
        check(&|keys| endpoint.config().open(keys).unwrap());
    }
}
