//! Sessions that outlive their control server, and those that don't.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use scistream::ControlServer;
use scistream::Role::Producer;
use scistream::auth::Anonymous;
use scistream::control::SessionStage;
use scistream::dataserver::SECRET_LEN;

use crate::support::{Gateway, application, are_free, asks, configured_at, heard, own_address, until};

fn kept(directory: &Path) -> usize {
    fs::read_dir(directory.join("sessions")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_control_server_finds_the_sessions_of_a_former_one() {
    let ip = own_address();
    let gateway = Gateway::with(|config| {
        config.listener_ip = ip;
        config.keep_sessions = true;
    })
    .await;
    let client = gateway.client().await;
    let target = [application("first").await];
    let mut request = asks(Producer, 2);
    request.wishes.key = Some([7; SECRET_LEN]);
    let released = asks(Producer, 1);
    let granted = client.inbound(&request, &target).await.unwrap();
    client.inbound(&released, &target).await.unwrap();
    client.reserve(&asks(Producer, 1), Producer, &target).await.unwrap();
    client.release(released.uid).await.unwrap();
    let before = gateway.server.sessions().remove(0);

    let directory = gateway.stop().await;
    assert!(are_free(&granted.listeners));
    assert_eq!(kept(directory.path()), 1);
    let file = directory.path().join(format!("sessions/{}.json", request.uid));
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    fs::write(directory.path().join("sessions/broken.json"), "{}").unwrap();

    let config = configured_at(directory.path(), |config| {
        config.listener_ip = ip;
        config.keep_sessions = true;
    });
    let server = ControlServer::new(config, Arc::new(Anonymous)).unwrap();
    let gateway = Gateway::serving(server, None, directory).await;
    until("it forwards again", || gateway.sessions() == 1).await;
    until("it forwards again", || gateway.server.sessions()[0].stage == SessionStage::Forwarding).await;
    assert_eq!(heard(&granted.listeners[1], "!").await, "first!");
    let after = gateway.server.sessions().remove(0);
    assert_eq!(
        (after.uid, after.listeners, after.targets, after.identity, after.rate_asked),
        (before.uid, before.listeners, before.targets, before.identity, before.rate_asked)
    );
    assert!(after.age >= before.age);
    gateway.client().await.release(request.uid).await.unwrap();
    assert_eq!(gateway.free(), 10);
    // With its key; what never was a session stays.
    let directory = gateway.stop().await;
    assert_eq!(kept(directory.path()), 1);
    assert!(directory.path().join("sessions/broken.json").exists());
}

#[tokio::test]
async fn a_session_whose_ports_are_taken_meanwhile_is_given_up() {
    let ip = own_address();
    let keep = |config: &mut scistream::ControlConfig| {
        config.listener_ip = ip;
        config.keep_sessions = true;
    };
    let gateway = Gateway::with(keep).await;
    let target = [application("first").await];
    gateway.client().await.inbound(&asks(Producer, 2), &target).await.unwrap();
    let directory = gateway.stop().await;
    let _other = std::net::TcpListener::bind((ip, 5101)).unwrap();
    let server = ControlServer::new(configured_at(directory.path(), keep), Arc::new(Anonymous)).unwrap();
    let gateway = Gateway::serving(server, None, directory).await;
    // It serves once it has looked.
    gateway.client().await.status(None).await.unwrap();
    assert_eq!((gateway.free(), gateway.sessions()), (10, 0));
    assert_eq!(kept(gateway.stop().await.path()), 0);
}

#[tokio::test]
async fn a_control_server_that_keeps_none_forgets_what_was_kept() {
    let keep = |config: &mut scistream::ControlConfig| config.keep_sessions = true;
    let gateway = Gateway::with(keep).await;
    gateway.client().await.inbound(&asks(Producer, 2), &[application("first").await]).await.unwrap();
    let directory = gateway.stop().await;
    assert_eq!(kept(directory.path()), 1);
    let server = ControlServer::new(configured_at(directory.path(), |_| {}), Arc::new(Anonymous)).unwrap();
    assert_eq!(server.sessions().len(), 0);
    assert_eq!(kept(directory.path()), 0);
}
