//! Every type of data server passes the one conformance suite. None skips: where kernel, rights or a program are missing, its test
//! fails and says what is missing.

use std::path::Path;
use std::sync::Arc;

use scistream::DataPlane;
use scistream::conformance::{Shape, check, check_patiently};
use scistream::dataserver::{DataServer, DataServerSettings, DataServerType, data_server};

fn open(kind: DataServerType, directory: &Path) -> Arc<dyn DataServer> {
    let plane = DataPlane::new(None).unwrap_or_else(|error| panic!("no threads: {error}"));
    let server = data_server(kind, &DataServerSettings { plane: Arc::new(plane), directory: directory.into() });
    server.unwrap_or_else(|error| panic!("{error}"))
}

fn conforms(kind: DataServerType) {
    check(&|directory| open(kind, directory), Shape::of(kind));
}

fn is_patient(kind: DataServerType) {
    check_patiently(&|directory| open(kind, directory), Shape::of(kind));
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

#[test]
fn copy_conforms_when_it_has_to_wait() {
    is_patient(DataServerType::Copy);
}

mod slow {
    use super::{DataServerType, is_patient};

    #[test]
    fn splice_conforms_when_it_has_to_wait() {
        is_patient(DataServerType::Splice);
    }

    #[test]
    fn sockmap_conforms_when_it_has_to_wait() {
        is_patient(DataServerType::Sockmap);
    }

    #[test]
    fn quic_conforms_when_it_has_to_wait() {
        is_patient(DataServerType::Quic);
    }

    #[test]
    fn tls_conforms_when_it_has_to_wait() {
        is_patient(DataServerType::Tls);
    }

    #[test]
    fn haproxy_conforms_when_it_has_to_wait() {
        is_patient(DataServerType::Haproxy);
    }

    #[test]
    fn stunnel_conforms_when_it_has_to_wait() {
        is_patient(DataServerType::Stunnel);
    }

    #[test]
    fn nginx_conforms_when_it_has_to_wait() {
        is_patient(DataServerType::Nginx);
    }
}
