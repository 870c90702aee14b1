//! Our user client and the reference's control server.

use std::sync::Mutex;
use std::time::Duration;

use scistream::Role::{Consumer, Producer};
use scistream::client::{ClientError, ConnectRequest, SessionRequest, Wishes, connect_path, disconnect};
use scistream::dataserver::{DataServerType, Transport};
use tonic::Code;
use uuid::Uuid;

use super::double::Double;
use crate::support::{Gateway, application, asks, heard};

const SLOW: Duration = Duration::from_millis(40);

#[tokio::test]
async fn hello_is_said_again_until_the_request_is_known() {
    let double = Double::start(10, SLOW, None).await;
    let client = double.client().await;
    let target = [application("first").await];
    let request = asks(Producer, 3);
    let granted = client.inbound(&request, &target).await.unwrap();
    assert_eq!((granted.listeners.len(), granted.kind), (3, None));
    assert_eq!(granted.prod_listeners, [target[0].to_string()]);
    assert_eq!(heard(&granted.listeners[2], "!").await, "first!");

    let outbound = asks(Consumer, 1);
    let granted = client.outbound(&outbound, &granted.listeners[..1]).await.unwrap();
    assert_eq!(heard(&granted.listeners[0], "!").await, "first!");
    client.release(request.uid).await.unwrap();
    // In the order of the stock client.
    let calls = ["req PROD", "hello PROD", "update PROD", "req CONS", "hello PROD", "update CONS", "release"];
    assert_eq!(double.calls(), calls);
}

#[tokio::test]
async fn hello_is_told_of_once_and_before_anything_is_forwarded() {
    let double = Double::start(10, SLOW, None).await;
    let client = double.client().await;
    let target = [application("first").await];
    for role in [Producer, Consumer] {
        let told = Mutex::new(Vec::new());
        client.half(&asks(role, 1), &target, || told.lock().unwrap().push(double.calls())).await.unwrap();
        let told = told.into_inner().unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].last().unwrap(), "hello PROD");
    }
    let told = Mutex::new(0);
    client.half(&asks(Producer, 100), &target, || *told.lock().unwrap() += 1).await.unwrap_err();
    assert_eq!(*told.lock().unwrap(), 1, "it was heard, though there are not so many ports");
}

#[tokio::test]
async fn an_application_that_says_hello_itself_is_waited_for_at_the_consumers_too() {
    let double = Double::start(10, SLOW, None).await;
    let client = double.client().await;
    let target = [application("first").await];
    let request = asks(Consumer, 1);
    let (granted, greeting) = tokio::join!(
        client.cons_req(&request, &target, Duration::from_secs(60)),
        client.hello_once_requested(request.uid, Consumer, &[]),
    );
    assert_eq!(greeting.unwrap().message, "Sending listeners...");
    assert_eq!(heard(&granted.unwrap().listeners[0], "!").await, "first!");
    assert_eq!(double.calls(), ["req CONS", "hello CONS", "update CONS"]);
}

#[tokio::test]
async fn errors_of_the_reference_are_understood() {
    let double = Double::start(2, Duration::ZERO, None).await;
    let client = double.client().await;
    let error = client.release(Uuid::new_v4()).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let error = client.status(None).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unimplemented));
    assert!(error.to_string().contains("only psbench's control servers tell"), "{error}");

    // A short list is nothing to forward.
    let error = client.inbound(&asks(Producer, 3), &["localhost:1".parse().unwrap()]).await.unwrap_err();
    assert!(matches!(error, ClientError::Answer { .. }), "{error}");
    assert!(error.to_string().contains("2 ports instead of 3"), "{error}");
    assert_eq!(double.calls().last().unwrap(), "release");
}

#[tokio::test]
async fn a_path_leads_through_both_kinds_of_gateway() {
    let ours = Gateway::start().await;
    // As the reference tells of itself unless it is told otherwise; this one is reached, though, where it listens.
    let double = Double::start(10, SLOW, Some("0.0.0.0")).await;
    let (ours_client, double_client) = (ours.client().await, double.client().await);
    let request = ConnectRequest {
        uid: Uuid::new_v4(),
        targets: vec![application("first").await],
        num_conn: 2,
        rate: 0,
        wishes: Wishes::default(),
    };
    for (producer, consumer, types) in [
        (&double_client, &ours_client, (None, Some(DataServerType::Copy))),
        (&ours_client, &double_client, (Some(DataServerType::Copy), None)),
    ] {
        let path =
            connect_path(producer, consumer, &ConnectRequest { uid: Uuid::new_v4(), ..request.clone() }).await.unwrap();
        assert_eq!((path.producer_type, path.consumer_type), types);
        for listener in &path.listeners {
            assert_eq!(heard(listener, "!").await, "first!");
        }
        disconnect(producer, consumer, path.uid).await.unwrap();
    }
    assert_eq!((ours.free(), ours.sessions()), (10, 0));
}

#[tokio::test]
async fn wishes_that_the_reference_does_not_hear_of_are_not_passed_over() {
    let double = Double::start(10, Duration::ZERO, None).await;
    let client = double.client().await;
    let none = Wishes::default;
    for (wishes, option) in [
        (Wishes { kind: Some(DataServerType::Tls), ..none() }, "type"),
        (Wishes { transport: Transport::Udp, ..none() }, "transport"),
        (Wishes { stripes: Some(2), ..none() }, "stripes"),
        (Wishes { preconnect: Some(1), ..none() }, "preconnect"),
    ] {
        let request = SessionRequest { wishes, ..asks(Producer, 1) };
        let error = client.inbound(&request, &["localhost:1".parse().unwrap()]).await.unwrap_err();
        assert!(error.to_string().ends_with(&format!("leave the {option} out")), "{error}");
        assert_eq!(double.calls().last().unwrap(), "release");
    }
    // What it does anyway.
    let wishes = Wishes { stripes: Some(1), preconnect: Some(0), ..none() };
    let request = SessionRequest { wishes, ..asks(Producer, 1) };
    client.inbound(&request, &[application("first").await]).await.unwrap();
}

#[tokio::test]
async fn a_path_to_the_reference_is_by_a_key_that_it_has_or_none() {
    let double = Double::start(10, Duration::ZERO, None).await;
    let client = double.client().await;
    let request = || ConnectRequest {
        uid: Uuid::new_v4(),
        targets: vec!["localhost:1".parse().unwrap()],
        num_conn: 1,
        rate: 0,
        wishes: Wishes::default(),
    };
    let ours = Gateway::with(|config| config.default_type = DataServerType::Tls).await;
    let error = connect_path(&client, &ours.client().await, &request()).await.unwrap_err();
    assert!(matches!(error, ClientError::Types { producer: None, .. }), "{error}");
    assert_eq!((ours.free(), ours.sessions()), (10, 0));
    assert_eq!(double.calls(), ["req PROD", "hello PROD", "release"]);

    // The reference's stunnel may be there: both are asked again, without a key.
    let ours = Gateway::with(|config| config.default_type = DataServerType::Stunnel).await;
    let ours_client = ours.client().await;
    let path = connect_path(&client, &ours_client, &request()).await.unwrap();
    assert_eq!((path.producer_type, path.consumer_type), (None, Some(DataServerType::Stunnel)));
    let calls = double.calls();
    assert_eq!(calls[3..], ["req PROD", "hello PROD", "release", "req PROD", "hello PROD", "update PROD"]);
    disconnect(&client, &ours_client, path.uid).await.unwrap();
}
