//! Every type of data server passes the one conformance suite. None skips: where kernel, rights or a program are missing, its test
//! fails and says what is missing.

use std::sync::Arc;

use scistream::DataPlane;
use scistream::conformance::{Shape, check};
use scistream::dataserver::{DataServerSettings, DataServerType, data_server};

fn conforms(kind: DataServerType) {
    let open = |directory: &std::path::Path| {
        let plane = DataPlane::new(None).unwrap_or_else(|error| panic!("no threads: {error}"));
        let server = data_server(kind, &DataServerSettings { plane: Arc::new(plane), directory: directory.into() });
        server.unwrap_or_else(|error| panic!("{error}"))
    };
    check(&open, Shape::of(kind));
}

#[test]
fn copy_conforms() {
    conforms(DataServerType::Copy);
}

#[test]
fn splice_conforms() {
    conforms(DataServerType::Splice);
}

#[test]
fn sockmap_conforms() {
    conforms(DataServerType::Sockmap);
}

#[test]
fn quic_conforms() {
    conforms(DataServerType::Quic);
}

#[test]
fn tls_conforms() {
    conforms(DataServerType::Tls);
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
