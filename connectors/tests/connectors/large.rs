//! Objects beyond 2 GiB, where a system call moves less than it is given.
//!
//! One test function, so that only one such object is in memory at a time.

use std::sync::Arc;

use bytes::Bytes;
use psbench_connectors::memory::MemoryConnector;
use psbench_connectors::peer::PeerAddress;
use psbench_connectors::{Connector, ConnectorSpec, KeySource};
use uuid::Uuid;

const SIZE: usize = (2 << 30) + 5;
const LIMIT: u64 = 3 << 30;

mod slow {
    #[test]
    fn objects_beyond_2_gib_come_back_whole() {
        super::come_back_whole();
    }
}

fn come_back_whole() {
    let mut object = vec![0; SIZE];
    (object[0], object[SIZE / 2], object[SIZE - 1]) = (1, 2, 3);
    let object = Bytes::from(object);
    let dir = tempfile::tempdir().unwrap();
    let connectors: [Arc<dyn Connector>; 4] = [
        Arc::new(MemoryConnector::open(Uuid::new_v4(), LIMIT, KeySource::random()).unwrap()),
        ConnectorSpec::File { dir: dir.path().into() }.open(KeySource::random()).unwrap(),
        ConnectorSpec::Peer { address: PeerAddress::private(), limit: LIMIT }.open(KeySource::random()).unwrap(),
        ConnectorSpec::Shm { limit: LIMIT }.open(KeySource::random()).unwrap(),
    ];
    for connector in connectors {
        let key = connector.put(object.clone()).unwrap();
        let got = connector.address().connect().unwrap().take(&key).unwrap().unwrap();
        assert_eq!(got.len(), SIZE);
        assert_eq!((got[0], got[SIZE / 2], got[SIZE - 1]), (1, 2, 3), "{}", connector.address());
    }
}
