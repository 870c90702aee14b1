//! What can go wrong at S3, and what is said about it.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::{ConnectorSpec, KeySource, Lifetime, Proxy, Store, StoreOptions};

use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY, with_credentials};

/// Why the connector can't be opened.
fn refusal(config: &ConnectorSpec) -> String {
    let start = Instant::now();
    let error = config.open(KeySource::random()).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(60), "a refusal is told in time");
    assert!(!error.contains('\n'), "in one line: {error}");
    error
}

#[test]
fn objects_are_what_was_stored_under_their_names() {
    with_credentials("s3::objects_are_what_was_stored_under_their_names", SECRET_KEY, || {
        let server = S3Server::start();
        let connector = server.config().open(KeySource::random()).unwrap();
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        let name = Path::new("some/where").join(key.id.to_string());
        assert!(server.objects().contains(&name), "{:?}", server.objects());
        assert_eq!(connector.evict_batch(&[key]).unwrap(), 1);
        assert!(!server.objects().contains(&name));
    });
}

#[test]
fn credentials_are_in_no_proxy_and_no_text() {
    with_credentials("s3::credentials_are_in_no_proxy_and_no_text", SECRET_KEY, || {
        let server = S3Server::start();
        let connector = server.config().open(KeySource::random()).unwrap();
        let shown = format!("{connector:?} {} {:?}", connector.address(), connector.address());
        let store = Store::new(connector, StoreOptions::default());
        let proxy = store.proxy(Bytes::from_static(b"abc"), Lifetime::Owned).unwrap().encode().unwrap();
        for secret in [ACCESS_KEY, SECRET_KEY] {
            assert!(!shown.contains(secret), "{shown}");
            assert!(!String::from_utf8_lossy(&proxy).contains(secret));
        }
        let proxy = Proxy::decode(&proxy).unwrap();
        assert_eq!(proxy.address.connect().unwrap().take(&proxy.key).unwrap().unwrap(), "abc");
    });
}

#[test]
fn an_object_of_another_size_is_refused() {
    with_credentials("s3::an_object_of_another_size_is_refused", SECRET_KEY, || {
        let server = S3Server::start();
        let connector = server.config().open(KeySource::random()).unwrap();
        let mut key = connector.put(Bytes::from(vec![0; 1000])).unwrap();
        key.size = Some(999);
        let error = connector.get(&key).unwrap_err().to_string();
        assert!(error.contains("1000 bytes came where 999 were expected"), "{error}");
    });
}

#[test]
fn wrong_credentials_are_refused_and_the_variables_named() {
    with_credentials("s3::wrong_credentials_are_refused_and_the_variables_named", "another", || {
        let error = refusal(&S3Server::start().config());
        assert!(error.contains("SignatureDoesNotMatch") && error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
    });
}

#[test]
fn missing_credentials_are_told() {
    let error = refusal(&S3Server::start().config());
    assert!(error.contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{error}");
}

#[test]
fn a_missing_bucket_is_named() {
    with_credentials("s3::a_missing_bucket_is_named", SECRET_KEY, || {
        let server = S3Server::start();
        let mut config = server.config();
        if let ConnectorSpec::S3(bucket) = &mut config {
            bucket.bucket = "elsewhere".into();
        }
        let error = refusal(&config);
        assert!(error.contains("NoSuchBucket") && error.contains("elsewhere"), "{error}");
    });
}

#[test]
fn a_server_that_is_gone_is_named_in_time() {
    with_credentials("s3::a_server_that_is_gone_is_named_in_time", SECRET_KEY, || {
        let mut server = S3Server::start();
        let connector = server.config().open(KeySource::random()).unwrap();
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        server.stop();
        let start = Instant::now();
        let error = connector.get(&key).unwrap_err().to_string();
        assert!(start.elapsed() < Duration::from_secs(60));
        assert!(error.contains(&server.url()) && error.contains(BUCKET), "{error}");
        let error = refusal(&server.config());
        assert!(error.contains(&server.url()) && error.contains("--ps-s3-endpoint"), "{error}");
    });
}

#[test]
fn only_an_endpoint_that_says_http_goes_without_tls() {
    with_credentials("s3::only_an_endpoint_that_says_http_goes_without_tls", SECRET_KEY, || {
        let server = S3Server::start();
        let mut config = server.config();
        if let ConnectorSpec::S3(bucket) = &mut config {
            bucket.endpoint = Some(server.url().replace("http://", "https://"));
        }
        let error = refusal(&config);
        assert!(error.contains("https://127.0.0.1"), "{error}");
    });
}
