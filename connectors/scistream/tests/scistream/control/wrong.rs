//! What makes no sense.

use std::sync::Arc;

use scistream::ControlServer;
use scistream::auth::Anonymous;
use scistream::client::{ClientOptions, UserClient};
use scistream::proto::{Hello, Release, Request, UpdateTargets, Wishes};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::{Gateway, configured, configured_at};

fn right() -> Request {
    Request { uid: Uuid::new_v4().to_string(), role: "PROD".into(), num_conn: 1, rate: 0, wishes: None }
}

fn wishing(wishes: Wishes) -> Request {
    Request { wishes: Some(wishes), ..right() }
}

#[track_caller]
fn refuses<T: std::fmt::Debug>(answer: Result<T, Status>, named: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains(named), "{status}");
}

#[tokio::test]
async fn requests_without_sense_are_refused_by_name() {
    let gateway = Gateway::start().await;
    let mut client = gateway.raw().await;
    let long = "x".repeat(100_000);
    for (request, named) in [
        (Request { uid: "mine".into(), ..right() }, "not a UUID: \"mine\""),
        (Request { uid: String::new(), ..right() }, "not a UUID"),
        (Request { uid: long.clone(), ..right() }, "not a UUID"),
        (Request { role: "prod".into(), ..right() }, "no such role: \"prod\""),
        (Request { role: String::new(), ..right() }, "there are PROD and CONS"),
        (Request { role: long.clone(), ..right() }, "no such role"),
        (Request { num_conn: 0, ..right() }, "ask for 1 to 10"),
        (Request { num_conn: -1, ..right() }, "ask for 1 to 10"),
        (Request { num_conn: 11, ..right() }, "11 ports asked for, of 10"),
        (Request { num_conn: i32::MAX, ..right() }, "ask for 1 to 10"),
        (Request { rate: -1, ..right() }, "-1 kb/s"),
        (wishing(Wishes { r#type: "fast".into(), ..Wishes::default() }), "this control server offers copy"),
        (wishing(Wishes { key: vec![1; 31], ..Wishes::default() }), "31 bytes; expected 32"),
        (wishing(Wishes { key: vec![1; 33], ..Wishes::default() }), "33 bytes; expected 32"),
        (wishing(Wishes { transport: "sctp".into(), ..Wishes::default() }), "there are tcp and udp"),
        (wishing(Wishes { preconnect: Some(65), ..Wishes::default() }), "expected 0 to 64"),
        (wishing(Wishes { stripes: Some(0), ..Wishes::default() }), "expected 1 to 32"),
        (wishing(Wishes { stripes: Some(33), ..Wishes::default() }), "33; expected 1 to 32"),
        (wishing(Wishes { stripes: Some(u32::MAX), ..Wishes::default() }), "expected 1 to 32"),
        (wishing(Wishes { attended: Some(0), ..Wishes::default() }), "expected 1 to 86400"),
    ] {
        refuses(client.req(request).await, named);
    }
    let uid = Uuid::new_v4().to_string();
    refuses(client.release(Release { uid: "-".into() }).await, "not a UUID");
    let hello = |prod_listeners| Hello { uid: uid.clone(), prod_listeners, role: "PROD".into() };
    refuses(client.hello(hello(vec!["localhost:1".into(); 1025])).await, "1025 of them; 1024 at most");
    refuses(client.hello(hello(vec![long])).await, "is too long");
    let update = |remote_listeners| UpdateTargets { uid: uid.clone(), remote_listeners, role: "PROD".into() };
    for target in ["localhost", "localhost:0", "localhost:65536", "::1:80", "a b:80", "x\n:80"] {
        refuses(client.update(update(vec![target.into()])).await, "expected host:port");
    }
    assert_eq!((gateway.free(), gateway.sessions()), (10, 0));
}

#[tokio::test]
async fn messages_that_are_too_long_are_not_read() {
    let gateway = Gateway::start().await;
    let hello = Hello { uid: "x".repeat(2 << 20), ..Hello::default() };
    let status = gateway.raw().await.hello(hello).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}

#[tokio::test]
async fn clients_name_the_address_that_is_wrong() {
    let options = ClientOptions::default();
    for address in ["localhost", "localhost:0", "https://localhost:5000", ""] {
        let error = UserClient::connect(address, &options).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{address:?}")), "{error}");
    }
    let error = UserClient::connect("127.0.0.1:1", &options).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1: ") && error.contains("refused"), "{error}");
    let options = ClientOptions { token: Some("a\nb".into()), ..options };
    let error = UserClient::connect("127.0.0.1:1", &options).await.unwrap_err().to_string();
    assert!(error.contains("token"), "{error}");
}

#[tokio::test]
async fn configurations_without_sense_are_refused() {
    let (mut config, directory) = configured(|_| {});
    config.advertise = Some("a b".into());
    let error = ControlServer::new(config, Arc::new(Anonymous)).err().unwrap();
    assert!(error.to_string().contains("\"a b\""), "{error}");

    let _first = ControlServer::new(configured_at(directory.path(), |_| {}), Arc::new(Anonymous)).unwrap();
    let error = ControlServer::new(configured_at(directory.path(), |_| {}), Arc::new(Anonymous)).err().unwrap();
    assert!(error.to_string().contains("another control server uses"), "{error}");
}
