//! Paths through two gateways.

use std::time::Duration;

use scistream::Role::Producer;
use scistream::client::{ClientError, ConnectRequest, Wishes, connect_path, disconnect};
use scistream::dataserver::{DataServerType, Forwarding};
use tonic::Code;
use uuid::Uuid;

use crate::support::{Gateway, Starts, application, are_free, asks, heard, until};

fn to(targets: Vec<scistream::dataserver::Target>, num_conn: u16) -> ConnectRequest {
    ConnectRequest { uid: Uuid::new_v4(), targets, num_conn, rate: 10_000, wishes: Wishes::default() }
}

#[tokio::test]
async fn one_command_makes_a_path_and_one_gives_it_back() {
    let (producer, consumer) = (Gateway::start().await, Gateway::start().await);
    let (at_producer, at_consumer) = (producer.client().await, consumer.client().await);
    let request = to(vec![application("first").await, application("second").await], 3);
    let path = connect_path(&at_producer, &at_consumer, &request).await.unwrap();
    for (listener, name) in path.listeners.iter().zip(["first", "second", "first"]) {
        assert_eq!(heard(listener, " heard").await, format!("{name} heard"));
    }
    assert_eq!(consumer.server.sessions()[0].targets, path.producer_listeners);
    disconnect(&at_producer, &at_consumer, path.uid).await.unwrap();
    assert!(are_free(&path.listeners) && are_free(&path.producer_listeners));
    assert_eq!((producer.free(), consumer.free()), (10, 10));
    disconnect(&at_producer, &at_consumer, path.uid).await.unwrap_err();
}

#[tokio::test]
async fn a_gateway_is_not_both_ends_of_one_path() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let error = connect_path(&client, &client, &to(vec![application("first").await], 1)).await.unwrap_err();
    assert!(matches!(error, ClientError::OneServer(_)), "{error}");
    until("nothing is left", || gateway.free() == 10 && gateway.sessions() == 0).await;
}

#[tokio::test]
async fn a_path_that_fails_leaves_nothing_at_either_end() {
    let (producer, consumer) = (Gateway::start().await, Gateway::start().await);
    let (at_producer, at_consumer) = (producer.client().await, consumer.client().await);
    let target = application("first").await;
    // Either end short of ports,
    at_consumer.reserve(&asks(Producer, 8), Producer, &[]).await.unwrap();
    for (one, other) in [(&at_producer, &at_consumer), (&at_consumer, &at_producer)] {
        let error = connect_path(one, other, &to(vec![target.clone()], 3)).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::ResourceExhausted), "{error}");
        until("nothing is left", || producer.free() == 10 && consumer.free() == 2).await;
    }
    // without targets, or at a data server that does not start.
    let error = connect_path(&at_producer, &at_consumer, &to(Vec::new(), 1)).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
    let never = Gateway::with_data_server(
        Starts(async |_| -> Result<Box<dyn Forwarding>, _> {
            let source = std::io::ErrorKind::NotFound.into();
            let (kind, what) = (DataServerType::Haproxy, "can't start haproxy".into());
            Err(scistream::dataserver::DataServerError::Start { kind, what, source })
        }),
        |_| {},
    )
    .await;
    let error = connect_path(&at_producer, &never.client().await, &to(vec![target], 1)).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Internal), "{error}");
    assert_eq!((producer.free(), producer.sessions(), consumer.free(), consumer.sessions()), (10, 0, 2, 1));
    assert_eq!((never.free(), never.sessions()), (10, 0));
}

#[tokio::test]
async fn gateways_that_would_not_understand_each_other_are_told_apart() {
    let producer = Gateway::with(|config| config.default_type = DataServerType::Tls).await;
    let consumer = Gateway::start().await;
    let (at_producer, at_consumer) = (producer.client().await, consumer.client().await);
    let error = connect_path(&at_producer, &at_consumer, &to(vec![application("first").await], 1)).await.unwrap_err();
    assert!(matches!(error, ClientError::Types { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("uses tls") && told.contains("uses copy") && told.contains("one type"), "{told}");
    assert_eq!((producer.sessions(), consumer.sessions()), (0, 0));
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_the_limit() {
    // It accepts, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = scistream::client::ClientOptions { time_limit: Duration::from_millis(100), ..Default::default() };
    let client = scistream::UserClient::connect(&silent.local_addr().unwrap().to_string(), &options).await;
    // HTTP/2 without TLS begins before the server has spoken.
    let error = match client {
        Ok(client) => client.status(None).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.to_string().contains(&silent.local_addr().unwrap().to_string()), "{error}");
}
