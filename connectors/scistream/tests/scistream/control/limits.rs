//! What a control server takes on, in all.

use scistream::Role::Producer;
use scistream::client::{ClientOptions, SessionRequest, UserClient};
use scistream::dataserver::{Congestion, DataServerType, Transport};
use scistream::{ControlConfig, ControlServer};
use tokio::time::{sleep, timeout};
use tonic::Code;

use std::sync::Arc;
use std::time::Duration;

use scistream::auth::Anonymous;

use crate::support::{Gateway, PATIENCE, Starts, application, asks, configured, heard, ports};

#[tokio::test]
async fn a_shortage_tells_the_numbers_and_gives_nothing() {
    let gateway = Gateway::with(|config| config.ports = ports(5)).await;
    let client = gateway.client().await;
    client.reserve(&asks(Producer, 3), Producer, &[]).await.unwrap();
    let error = client.reserve(&asks(Producer, 3), Producer, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::ResourceExhausted));
    assert!(error.to_string().contains("3 ports asked for and 2 of 5 are free"), "{error}");
    assert_eq!((gateway.free(), gateway.sessions()), (2, 1));
}

#[tokio::test]
async fn ports_of_other_programs_are_left_to_them() {
    let gateway = Gateway::with(|config| config.ports = ports(3)).await;
    let address = gateway.client().await;
    let granted = address.reserve(&asks(Producer, 1), Producer, &[]).await.unwrap();
    let _other = std::net::TcpListener::bind((granted.listeners[0].host(), 5101)).unwrap();
    let granted = address.reserve(&asks(Producer, 1), Producer, &[]).await.unwrap();
    assert_eq!(granted.listeners[0].port(), 5102);
    let error = address.reserve(&asks(Producer, 1), Producer, &[]).await.unwrap_err();
    assert!(error.to_string().contains("1 of which other programs have"), "{error}");
}

#[tokio::test]
async fn sessions_are_bounded() {
    let gateway = Gateway::with(|config| config.limits.sessions = 1).await;
    let client = gateway.client().await;
    let first = asks(Producer, 1);
    client.reserve(&first, Producer, &[]).await.unwrap();
    let error = client.reserve(&asks(Producer, 1), Producer, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::ResourceExhausted));
    client.release(first.uid).await.unwrap();
    client.reserve(&asks(Producer, 1), Producer, &[]).await.unwrap();
}

#[tokio::test]
async fn clients_are_bounded_and_make_room_when_they_leave() {
    let gateway = Gateway::with(|config| config.limits.connections = 1).await;
    let first = gateway.client().await;
    first.status(None).await.unwrap();
    let options = ClientOptions { time_limit: Duration::from_millis(500), ..ClientOptions::default() };
    let comes = async || match UserClient::connect(&gateway.address.to_string(), &options).await {
        Ok(client) => client.status(None).await.map(|_| ()),
        Err(error) => Err(error),
    };
    comes().await.unwrap_err();
    drop(first);
    let room = async {
        while comes().await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, room).await.unwrap();
}

/// A data server that can neither, whose starting is none of the test's business.
async fn plain(change: impl FnOnce(&mut ControlConfig)) -> Gateway {
    Gateway::with_data_server(Starts(|_| std::future::pending()), change).await
}

#[tokio::test]
async fn only_what_forwards_udp_is_asked_to() {
    let udp = || {
        let mut request = asks(Producer, 1);
        request.wishes.transport = Transport::Udp;
        request
    };
    let client = plain(|_| {}).await.client().await;
    let error = client.reserve(&udp(), Producer, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    assert!(error.to_string().contains("haproxy does not forward UDP; ask for copy"), "{error}");
    Gateway::start().await.client().await.reserve(&udp(), Producer, &[]).await.unwrap();
}

#[tokio::test]
async fn types_are_those_that_are_offered() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let of = |kind| {
        let mut request: SessionRequest = asks(Producer, 1);
        request.wishes.kind = Some(kind);
        request
    };
    client.reserve(&of(DataServerType::Copy), Producer, &[]).await.unwrap();
    let error = client.reserve(&of(DataServerType::Nginx), Producer, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    assert!(error.to_string().contains("type nginx is not offered here; there is copy"), "{error}");
}

#[tokio::test]
async fn what_a_type_cant_do_is_refused_when_it_is_asked_for() {
    let (mut config, _directory) = configured(|config| config.options.stripes = 4);
    config.default_type = DataServerType::Splice;
    let error = ControlServer::new(config, Arc::new(Anonymous)).err().unwrap();
    assert!(error.to_string().contains("splice passes streams on as they are; use copy"), "{error}");

    let (config, _directory) = configured(|config| config.options.congestion = Congestion::Named("none-such".into()));
    let error = ControlServer::new(config, Arc::new(Anonymous)).err().unwrap();
    assert!(error.to_string().contains("none-such"), "{error}");

    let gateway = Gateway::with(|config| {
        config.types = vec![DataServerType::Splice];
        config.options.stripes = 4;
    })
    .await;
    let client = gateway.client().await;
    let mut request = asks(Producer, 1);
    request.wishes.kind = Some(DataServerType::Splice);
    client.inbound(&request, &[application("first").await]).await.unwrap();
    request.uid = uuid::Uuid::new_v4();
    request.wishes.stripes = Some(2);
    let error = client.req(&request).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    assert!(error.to_string().contains("use copy for stripes"), "{error}");
}

#[tokio::test]
async fn a_rate_is_enforced_or_refused() {
    let gateway = Gateway::with(|config| config.enforce_rate = true).await;
    let client = gateway.client().await;
    let mut request = asks(Producer, 1);
    request.rate = 1600;
    let granted = client.inbound(&request, &[application("").await]).await.unwrap();
    assert!(client.status(None).await.unwrap().sessions[0].rate_enforced);
    // 200 kB/s: well over a second for so much, whatever a bucket holds.
    let begun = std::time::Instant::now();
    let said = "x".repeat(400_000);
    assert_eq!(heard(&granted.listeners[0], &said).await.len(), said.len());
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());

    let (mut config, _directory) = configured(|config| config.enforce_rate = true);
    config.default_type = DataServerType::Haproxy;
    let servers = vec![Arc::new(Starts(|_| std::future::pending())) as _];
    let error = ControlServer::with_data_servers(config, Arc::new(Anonymous), servers).err().unwrap();
    assert!(error.to_string().contains("haproxy can't keep to a rate"), "{error}");
}
