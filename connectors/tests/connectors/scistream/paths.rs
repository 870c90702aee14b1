//! Whole paths.

use std::time::Duration;

use psbench_connectors::conformance::check;
use psbench_connectors::multi::{Part, Policy};
use psbench_connectors::scistream::{Crossing, Reach};
use psbench_connectors::{ConnectorSpec, KeySource, Lifetime, Proxy, Store, StoreOptions};
use scistream::dataserver::DataServerType;
use uuid::Uuid;

use super::double::Double;
use super::support::{Gateway, Pair, access, binary, crossing, through, until};

fn conforms(kind: DataServerType) {
    let pair = Pair::start(kind);
    let config = through(pair.crossing(2));
    check(&|keys| config.open(keys).unwrap());
    assert_eq!(pair.sessions(), (0, 0), "everything was given back");
}

#[test]
fn copy_conforms() {
    conforms(DataServerType::Copy);
}

#[test]
fn tls_conforms() {
    conforms(DataServerType::Tls);
}

mod slow {
    use super::{DataServerType, conforms};

    #[test]
    fn splice_conforms() {
        conforms(DataServerType::Splice);
    }

    #[test]
    fn quic_conforms() {
        conforms(DataServerType::Quic);
    }

    #[test]
    fn haproxy_conforms() {
        conforms(DataServerType::Haproxy);
    }

    #[test]
    fn stunnel_conforms() {
        conforms(DataServerType::Stunnel);
    }

    #[test]
    fn nginx_conforms() {
        conforms(DataServerType::Nginx);
    }
}

#[test]
fn the_references_gateways_do_as_well() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let doubles = runtime.block_on(async { [0; 2].map(|_| Double::start(60, Duration::ZERO, None)) });
    let [producer, consumer] = doubles.map(|double| runtime.block_on(double));
    let config = through(crossing(access(producer.address), vec![("", access(consumer.address))]));
    check(&|keys| config.open(keys).unwrap());
    for double in [&producer, &consumer] {
        let calls = double.calls();
        let count = |call: &str| calls.iter().filter(|called| called.starts_with(call)).count();
        assert!(count("req") > 0 && count("req") == count("release"), "{calls:?}");
    }
}

#[test]
fn one_of_the_references_gateways_may_be_psbenchs() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let double = runtime.block_on(Double::start(60, Duration::ZERO, None));
    let ours = Gateway::start(DataServerType::Haproxy);
    for (producer, consumer) in [(access(double.address), ours.access()), (ours.access(), access(double.address))] {
        let connector = through(crossing(producer, vec![("", consumer)])).open(KeySource::random()).unwrap();
        let key = connector.put(binary(1_000_000)).unwrap();
        assert!(connector.address().connect().unwrap().take(&key).unwrap() == Some(binary(1_000_000)));
    }
    until("all is given back", || ours.sessions() == 0);
}

#[test]
fn parts_of_several_sizes_share_a_path() {
    let pair = Pair::start(DataServerType::Copy);
    let part = |min_size, max_size| {
        let policy = Policy { min_size, max_size, ..Policy::default() };
        Part { spec: through(pair.crossing(1)), policy }
    };
    let parts = vec![part(0, Some(1000)), part(100_000, None)];
    let connector = ConnectorSpec::Multi { parts, tags: Vec::new() }.open(KeySource::random()).unwrap();
    assert_eq!(pair.sessions(), (1, 1));
    for size in [10, 200_000] {
        let key = connector.put(binary(size)).unwrap();
        assert!(connector.address_for(&key).connect().unwrap().take(&key).unwrap() == Some(binary(size)));
    }
    drop(connector);
    assert_eq!(pair.sessions(), (0, 0));
}

#[test]
fn a_proxy_is_small_and_knows_no_secret_of_gateways() {
    let pair = Pair::start(DataServerType::Copy);
    let mut crossing = pair.crossing(8);
    crossing.producer.token = Some("anns-secret-token".into());
    let connector = through(crossing.clone()).open(KeySource::random()).unwrap();
    let store = Store::new(connector, StoreOptions { cache_bytes: 0, checksum: true });
    let proxy = store.proxy(binary(10), Lifetime::Owned).unwrap();
    let bytes = proxy.encode().unwrap();
    assert!(bytes.len() < 130, "{} bytes", bytes.len());
    assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    assert_eq!(Proxy::decode(&bytes).unwrap(), proxy);
    let before = through(crossing);
    assert!(!format!("{before:?} {before}").contains("secret"));
    // Workers are told nothing of it either.
    assert_eq!(before.services(), []);
}

#[test]
fn private_gateways_are_named_ahead_of_the_start() {
    let pair = Pair::start(DataServerType::Copy);
    let crossing = pair.crossing(1);
    let config = ConnectorSpec::Scistream(Reach::Private(Box::new(crossing.route.clone())));
    assert!(config.private_routes() == [&crossing.route] && !config.reaches_other_hosts() && config.is_loopback());
    config.open(KeySource::random()).unwrap_err();
    let gateways = scistream::client::Gateways { producer: pair.producer.access(), consumer: pair.consumer.access() };
    assert_eq!(config.through(&gateways), through(Crossing { private: true, ..crossing }));
    assert!(config.through(&gateways).private_routes().is_empty());
}

#[test]
fn what_a_worker_took_is_not_held_any_more() {
    let pair = Pair::start(DataServerType::Copy);
    let connector = pair.open(1);
    let worker = connector.address().connect().unwrap();
    for _ in 0..50 {
        let keys = connector.put_batch(vec![binary(100_000); 4]).unwrap();
        for key in &keys {
            worker.take(key).unwrap().unwrap();
        }
        assert_eq!(connector.held(), Some(0), "a confirmation that is on its way is waited for");
        assert_eq!(worker.take(&keys[0]).unwrap(), None, "once");
    }
}

#[test]
fn a_generator_that_is_gone_is_given_back_by_its_keys() {
    let pair = Pair::start(DataServerType::Copy);
    let keys = KeySource::random();
    let config = through(pair.crossing(2));
    std::mem::forget(config.open(keys.clone()).unwrap());
    assert_eq!(pair.sessions(), (1, 1));
    config.abandon(&KeySource::random()).unwrap();
    // Objects' names, which many see, do not lead to it either.
    let mut stranger = pair.crossing(2);
    stranger.route.salt = Uuid::new_v4();
    through(stranger).abandon(&keys).unwrap();
    assert_eq!(pair.sessions(), (1, 1), "another's are not touched");
    // Its process is not quite gone here, and would make anew what is lost.
    until("all is given back", || {
        config.abandon(&keys).unwrap();
        pair.sessions() == (0, 0)
    });
    config.abandon(&keys).unwrap();
}

#[test]
fn connections_between_gateways_may_be_made_ahead_and_objects_striped() {
    let pair = Pair::start(DataServerType::Copy);
    let mut crossing = pair.crossing(2);
    crossing.route.wishes.preconnect = Some(2);
    crossing.route.wishes.stripes = Some(3);
    let connector = through(crossing).open(KeySource::random()).unwrap();
    let worker = connector.address().connect().unwrap();
    let keys = connector.put_batch(vec![binary(3_000_000); 6]).unwrap();
    for key in &keys {
        assert!(worker.take(key).unwrap() == Some(binary(3_000_000)));
    }
    assert_eq!(connector.held(), Some(0));
}
