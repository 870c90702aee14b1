//! Control servers over TLS.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use scistream::Role::Producer;
use scistream::UserClient;
use scistream::auth::Anonymous;
use scistream::client::{ClientOptions, ConnectRequest, Wishes, connect_path, disconnect};
use scistream::tls::{ClientTls, NewCertificate, ServerTls};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tonic::Code;
use uuid::Uuid;

use crate::support::{Gateway, PATIENCE, application, asks, heard};

/// As people make it: an authority's certificate, used as a server's. The folder goes with what is returned first.
pub(crate) fn certificate_of_openssl() -> (TempDir, PathBuf, PathBuf) {
    let directory = TempDir::new().unwrap();
    let (certificate, key) = (directory.path().join("server.crt"), directory.path().join("server.key"));
    let made = Command::new("openssl")
        .args("req -x509 -nodes -newkey rsa:2048 -days 30 -subj /CN=localhost".split(' '))
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (directory, certificate, key)
}

pub(crate) fn own_certificate() -> (TempDir, PathBuf, PathBuf) {
    let directory = TempDir::new().unwrap();
    let (certificate, key) = (directory.path().join("s2cs.crt"), directory.path().join("s2cs.key"));
    let names = vec!["localhost".into(), "127.0.0.1".into()];
    NewCertificate { names, valid: Duration::from_secs(86_400) }.write(&certificate, &key, false).unwrap();
    (directory, certificate, key)
}

#[tokio::test]
async fn a_path_is_made_over_tls_whoever_made_the_certificate() {
    for (_directory, certificate, key) in [own_certificate(), certificate_of_openssl()] {
        let acceptor = ServerTls::load(&certificate, &key, None).unwrap().acceptor();
        let trusts = ClientTls::pinned(&certificate, None).unwrap().config();
        let gateway = async || Gateway::of(|_| {}, Arc::new(Anonymous), Some(acceptor.clone())).await;
        let (producer, consumer) = (gateway().await, gateway().await);
        let with_tls = |options: &mut ClientOptions| options.tls = Some(Arc::clone(&trusts));
        let (at_producer, at_consumer) = (producer.client_with(with_tls).await, consumer.client_with(with_tls).await);
        let request = ConnectRequest {
            uid: Uuid::new_v4(),
            targets: vec![application("first").await],
            num_conn: 1,
            rate: 0,
            wishes: Wishes::default(),
        };
        let path = connect_path(&at_producer, &at_consumer, &request).await.unwrap();
        assert_eq!(heard(&path.listeners[0], "!").await, "first!");
        disconnect(&at_producer, &at_consumer, path.uid).await.unwrap();
    }
}

#[tokio::test]
async fn who_is_not_trusted_or_speaks_no_tls_is_no_control_server() {
    let (_directory, certificate, key) = own_certificate();
    let (_other_directory, other, _) = own_certificate();
    let acceptor = ServerTls::load(&certificate, &key, None).unwrap().acceptor();
    let gateway = Gateway::of(|_| {}, Arc::new(Anonymous), Some(acceptor)).await;
    let connect = async |trusted| {
        let tls = ClientTls::pinned(trusted, None).unwrap();
        let options = ClientOptions { tls: Some(tls.config()), time_limit: PATIENCE, ..ClientOptions::default() };
        UserClient::connect(&gateway.address.to_string(), &options).await
    };
    connect(&certificate).await.unwrap().status(None).await.unwrap();
    let error = connect(&other).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");

    let options = ClientOptions { time_limit: PATIENCE, ..ClientOptions::default() };
    if let Ok(client) = UserClient::connect(&gateway.address.to_string(), &options).await {
        client.status(None).await.unwrap_err();
    }
}

#[tokio::test]
async fn clients_that_shake_no_hands_keep_nobody_waiting() {
    let (_directory, certificate, key) = own_certificate();
    let acceptor = ServerTls::load(&certificate, &key, None).unwrap().acceptor();
    let gateway = Gateway::of(|_| {}, Arc::new(Anonymous), Some(acceptor)).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    sleep(Duration::from_millis(20)).await;
    let tls = ClientTls::pinned(&certificate, None).unwrap().config();
    let client = gateway.client_with(|options| options.tls = Some(tls)).await;
    client.inbound(&asks(Producer, 1), &[application("first").await]).await.unwrap();
}

#[tokio::test]
async fn where_nobody_has_a_token_clients_are_told_apart_by_their_certificates() {
    let (directory, certificate, key) = own_certificate();
    let ((_ann, ann, anns), (_bob, bob, bobs)) = (own_certificate(), own_certificate());
    let clients = directory.path().join("clients.crt");
    std::fs::write(&clients, [&ann, &bob].map(|of| std::fs::read_to_string(of).unwrap()).concat()).unwrap();
    let acceptor = ServerTls::load(&certificate, &key, Some(&clients)).unwrap().acceptor();
    let gateway = Gateway::of(|_| {}, Arc::new(Anonymous), Some(acceptor)).await;
    let comes_with = async |of: &PathBuf, key: &PathBuf| {
        let tls = ClientTls::pinned(&certificate, Some((of, key))).unwrap().config();
        gateway.client_with(|options| options.tls = Some(tls)).await
    };
    let (ann, bob) = (comes_with(&ann, &anns).await, comes_with(&bob, &bobs).await);
    let request = asks(Producer, 1);
    ann.reserve(&request, Producer, &[]).await.unwrap();
    assert_eq!(bob.release(request.uid).await.unwrap_err().code(), Some(Code::PermissionDenied));
    let identity = gateway.server.sessions().remove(0).identity.to_string();
    let shown = identity.strip_prefix("certificate-").unwrap();
    assert!(shown.len() == 32 && shown.bytes().all(|digit| digit.is_ascii_hexdigit()), "{identity}");
    ann.release(request.uid).await.unwrap();
}
