//! ProxyStore's endpoints: what both sides read of each other, what can go wrong, and what is said about it.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use psbench_connectors::endpoint::{EndpointLocation, home};
use psbench_connectors::{Address, Connector, ConnectorError, Key, KeySource};
use uuid::Uuid;

use crate::support::{Endpoint, NAME, python};

fn open(endpoint: &Endpoint) -> std::sync::Arc<dyn Connector> {
    endpoint.config().open(KeySource::random()).unwrap()
}

#[test]
fn an_object_beyond_the_endpoints_limit_is_refused_and_the_setting_named() {
    let endpoint = Endpoint::start_with(|config| {
        let small = config.replace("max_object_size = 100000000", "max_object_size = 1000");
        assert_ne!(small, config);
        small
    });
    let connector = open(&endpoint);
    connector.put(Bytes::from(vec![0; 997])).unwrap();
    let error = connector.put(Bytes::from(vec![0; 998])).unwrap_err();
    assert!(matches!(error, ConnectorError::Protocol { .. }), "{error}");
    assert!(error.to_string().contains("storage.max_object_size"), "{error}");
}

/// An endpoint takes seconds to start.
#[test]
fn both_sides_read_an_endpoint_and_what_is_not_as_it_was_is_refused() {
    let endpoint = Endpoint::start();
    python_reads_ours_and_we_read_pythons(&endpoint);
    another_endpoint_at_the_address_is_named(&endpoint);
    an_object_of_another_size_is_refused(&endpoint);
}

fn python_reads_ours_and_we_read_pythons(endpoint: &Endpoint) {
    let connector = open(endpoint);
    let key = connector.put(Bytes::from_static(b"from psbench")).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/endpoint.py");
    let output = Command::new(python())
        .arg(program)
        .args([endpoint.id.to_string(), key.id.to_string()])
        .env("PROXYSTORE_HOME", endpoint.home())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let (ours, theirs) = printed.trim().split_once('\n').unwrap();
    assert_eq!(ours, "from psbench");
    let theirs = Key::named(theirs.parse().unwrap());
    assert_eq!(connector.take(&theirs).unwrap().unwrap(), "from Python");
    assert!(!connector.exists(&theirs).unwrap());
}

fn another_endpoint_at_the_address_is_named(endpoint: &Endpoint) {
    let location = EndpointLocation { id: Uuid::nil(), ..endpoint.location() };
    let error = Address::of(&location).unwrap().connect().unwrap_err().to_string();
    assert!(error.contains(&format!("endpoint {} answers there", endpoint.id)), "{error}");
}

fn an_object_of_another_size_is_refused(endpoint: &Endpoint) {
    let connector = open(endpoint);
    let mut key = connector.put(Bytes::from(vec![0; 1000])).unwrap();
    key.size = Some(999);
    let error = connector.get(&key).unwrap_err().to_string();
    assert!(error.contains("1002"), "{error}");
}

#[test]
fn an_endpoint_that_restarts_is_found_again() {
    let mut endpoint = Endpoint::start();
    // The first one that answers is home.
    assert_eq!(home(&[Uuid::nil(), endpoint.id], endpoint.home()).unwrap(), endpoint.location());
    let connector = open(&endpoint);
    let key = connector.put(Bytes::from_static(b"abc")).unwrap();
    endpoint.stop();
    let error = connector.get(&key).unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{}", endpoint.port)), "{error}");
    let error = home(&[endpoint.id], endpoint.home()).unwrap_err().to_string();
    assert!(error.contains(&format!("proxystore-endpoint start {NAME}")), "{error}");
    endpoint.restart();
    assert_eq!(connector.get(&key).unwrap(), None);
    connector.put(Bytes::from_static(b"abc")).unwrap();
    // A connection that died meanwhile is replaced unnoticed.
    endpoint.stop();
    endpoint.restart();
    assert_eq!(connector.get(&key).unwrap(), None);
    connector.put(Bytes::from_static(b"abc")).unwrap();
}
