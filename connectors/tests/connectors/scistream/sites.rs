//! Workers at several sites.

use psbench_connectors::scistream::ScistreamClient;
use psbench_connectors::{Connector, KeySource};
use scistream::dataserver::DataServerType;

use super::support::{Gateway, binary, crossing, through, until, ways};

#[test]
fn each_site_has_a_gateway_of_its_own() {
    let [producer, anl, ornl] = [0; 3].map(|_| Gateway::start(DataServerType::Copy));
    let config = through(crossing(producer.access(), vec![("anl", anl.access()), ("ornl", ornl.access())]));
    let connector = config.open(KeySource::random()).unwrap();
    assert_eq!((producer.sessions(), anl.sessions(), ornl.sessions()), (2, 1, 1));
    let ways = ways(&*connector);
    let keys = connector.put_batch(vec![binary(10_000); 3]).unwrap();
    // A proxy that is made once is resolved by whoever gets it, at either site.
    for (key, (site, gateway)) in keys.iter().zip([("anl", &anl), ("ornl", &ornl)]) {
        let worker = ScistreamClient::connect_from(&ways, site).unwrap();
        assert!(worker.take(key).unwrap() == Some(binary(10_000)));
        let traffic = || gateway.server.sessions()[0].traffic.map(|traffic| traffic.bytes_to_client);
        until("the bytes went through this gateway", || traffic().is_some_and(|bytes| bytes >= 10_000));
    }
    for stranger in ["", "nersc"] {
        let error = ScistreamClient::connect_from(&ways, stranger).unwrap_err().to_string();
        assert!(error.contains("as one of: anl, ornl"), "{error}");
    }
    drop(connector);
    assert_eq!((producer.sessions(), anl.sessions(), ornl.sessions()), (0, 0, 0));
}

#[test]
fn a_site_that_can_not_be_had_leaves_no_path_to_the_others() {
    let [producer, anl, mut ornl] = [0; 3].map(|_| Gateway::start(DataServerType::Copy));
    let config = through(crossing(producer.access(), vec![("anl", anl.access()), ("ornl", ornl.access())]));
    ornl.stop();
    let error = config.open(KeySource::random()).unwrap_err().to_string();
    assert!(error.contains(&format!("--scistream-site ornl={}", ornl.address)), "{error}");
    assert_eq!((producer.sessions(), anl.sessions()), (0, 0));
}
