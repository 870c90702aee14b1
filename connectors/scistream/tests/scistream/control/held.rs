//! Paths for programs that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scistream::client::{ClientError, ConnectRequest, GatewayAccess, GatewayTls, Gateways, HeldPath, Wishes};
use scistream::dataserver::Target;
use scistream::tls::{Pem, ServerTls};
use tokio::time::sleep;
use tonic::Code;
use uuid::Uuid;

use super::tls::own_certificate;
use crate::support::{ByName, Gateway, PATIENCE, application, are_free, heard, until};

fn access(gateway: &Gateway) -> GatewayAccess {
    let address: Target = gateway.address.to_string().parse().unwrap();
    GatewayAccess { time_limit: PATIENCE, ..GatewayAccess::plain(address) }
}

fn request(targets: Vec<Target>) -> ConnectRequest {
    ConnectRequest { uid: Uuid::new_v4(), targets, num_conn: 2, rate: 0, wishes: Wishes::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_there_as_long_as_it_is_held() {
    let (producer, consumer) = (Gateway::start().await, Gateway::start().await);
    let gateways = Gateways { producer: access(&producer), consumer: access(&consumer) };
    let request = request(vec![application("first").await]);
    // In the thread of a runtime, too.
    let path = HeldPath::make(&gateways, &request).unwrap();
    assert_eq!(path.listeners().len(), 2);
    assert_eq!(path.path().uid, request.uid);
    for listener in path.listeners() {
        assert_eq!(heard(listener, " heard").await, "first heard");
    }
    let listeners = path.listeners().to_vec();
    drop(path);
    assert!(are_free(&listeners));
    assert_eq!((producer.sessions(), consumer.sessions()), (0, 0));
    // What is not there is given back.
    gateways.release(request.uid).unwrap();

    let path = HeldPath::make(&gateways, &request).unwrap();
    path.release().unwrap();
    assert_eq!((producer.sessions(), consumer.sessions()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_its_holder_is_given_back_by_its_name() {
    let (producer, consumer) = (Gateway::start().await, Gateway::start().await);
    let gateways = Gateways { producer: access(&producer), consumer: access(&consumer) };
    let request = request(vec![application("first").await]);
    std::mem::forget(HeldPath::make(&gateways, &request).unwrap());
    assert_eq!((producer.sessions(), consumer.sessions()), (1, 1));
    gateways.release(request.uid).unwrap();
    assert_eq!((producer.sessions(), consumer.sessions()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_gone_does_not_keep_the_others_half() {
    let (producer, consumer) = (Gateway::start().await, Gateway::start().await);
    let gateways = Gateways { producer: access(&producer), consumer: access(&consumer) };
    let path = HeldPath::make(&gateways, &request(vec![application("first").await])).unwrap();
    consumer.stop().await;
    let error = path.release().unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert_eq!(producer.sessions(), 0);
    let error = HeldPath::make(&gateways, &request(vec![application("first").await])).unwrap_err();
    assert!(error.to_string().contains(&gateways.consumer.address.to_string()), "{error}");
    until("nothing is left", || producer.sessions() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_a_gateway_lost_is_made_anew() {
    let (producer, consumer) = (Gateway::start().await, Gateway::start().await);
    let gateways = Gateways { producer: access(&producer), consumer: access(&consumer) };
    let request = request(vec![application("first").await]);
    let mut path = HeldPath::make(&gateways, &request).unwrap();
    assert!(path.is_there().unwrap());
    // What one that was started again knows of it.
    gateways.consumer.way().unwrap().release(request.uid).await.unwrap();
    assert!(!path.is_there().unwrap());
    path.renew().unwrap();
    assert!(path.is_there().unwrap());
    assert_eq!((producer.sessions(), consumer.sessions()), (1, 1));
    for listener in path.listeners() {
        assert_eq!(heard(listener, " heard").await, "first heard");
    }
    consumer.stop().await;
    path.is_there().unwrap_err();
    path.renew().unwrap_err();
    assert_eq!(producer.sessions(), 0);
    assert!(!path.is_there().unwrap(), "the other gateway says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_ends_when_nobody_attends_to_it() {
    let (producer, consumer) = (Gateway::start().await, Gateway::start().await);
    let gateways = Gateways { producer: access(&producer), consumer: access(&consumer) };
    let mut request = request(vec![application("first").await]);
    request.wishes.attended = Some(4);
    let path = HeldPath::make(&gateways, &request).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        assert!(path.is_there().unwrap());
        sleep(Duration::from_millis(100)).await;
    }
    until("the gateways end it", || producer.sessions() == 0 && consumer.sessions() == 0).await;
    assert!(!path.is_there().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn access_travels_with_all_that_it_needs_and_shows_no_secret() {
    let (directory, certificate, key) = own_certificate();
    let acceptor = ServerTls::load(&certificate, &key, None).unwrap().acceptor();
    let producer = Gateway::of(|_| {}, Arc::new(ByName), Some(acceptor)).await;
    let consumer = Gateway::start().await;
    let pinned = Some(Pem::read(&certificate).unwrap());
    let known = GatewayAccess {
        tls: Some(GatewayTls { pinned, client: None }),
        token: Some("ann-of-cleves".into()),
        ..access(&producer)
    };
    let gateways = Gateways { producer: known, consumer: access(&consumer) };
    let shown = format!("{gateways:?}");
    assert!(!shown.contains("cleves") && !shown.contains("BEGIN") && shown.contains("s2cs.crt"), "{shown}");
    let gateways: Gateways = serde_json::from_str(&serde_json::to_string(&gateways).unwrap()).unwrap();
    // Where it arrives there are no such files.
    drop(directory);
    let request = request(vec![application("first").await]);
    let path = HeldPath::make(&gateways, &request).unwrap();
    assert_eq!(heard(&path.listeners()[1], "").await, "first");
    drop(path);

    let mut stranger = gateways.clone();
    stranger.producer.token = Some("nobody".into());
    let error = HeldPath::make(&stranger, &request).unwrap_err();
    assert_eq!(error.code(), Some(Code::PermissionDenied), "{error}");
    stranger.producer.tls = None;
    let error = HeldPath::make(&stranger, &request).unwrap_err();
    assert!(error.to_string().contains("perhaps it wants TLS"), "{error}");
    let mut other = gateways;
    other.consumer.tls.clone_from(&other.producer.tls);
    let error = HeldPath::make(&other, &request).unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert_eq!((producer.sessions(), consumer.sessions()), (0, 0));
}
