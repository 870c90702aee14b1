//! From request to release.

use std::collections::HashSet;
use std::time::Duration;

use scistream::Role::{Consumer, Producer};
use scistream::client::{Granted, SessionRequest};
use scistream::control::SessionStage;
use scistream::dataserver::{DataServerType, Target};
use scistream::proto::{Hello, UpdateTargets};
use tonic::Code;
use uuid::Uuid;

use crate::support::{Gateway, application, are_free, asks, heard, ports, until};

#[tokio::test]
async fn a_session_forwards_until_it_is_released() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Producer, 3);
    let (first, second) = (application("first").await, application("second").await);
    let granted = client.inbound(&request, &[first.clone(), second.clone()]).await.unwrap();
    let numbers: Vec<_> = granted.listeners.iter().map(Target::port).collect();
    assert_eq!(numbers, [5100, 5101, 5102]);
    assert_eq!(granted.kind, Some(DataServerType::Copy));
    for (listener, name) in granted.listeners.iter().zip(["first", "second", "first"]) {
        assert_eq!(heard(listener, " heard").await, format!("{name} heard"));
    }

    let report = gateway.server.sessions().remove(0);
    assert_eq!((report.uid, report.stage, report.rate_asked), (request.uid, SessionStage::Forwarding, 10_000));
    assert_eq!(report.targets, [first.clone(), second, first]);
    let status = client.status(Some(request.uid)).await.unwrap();
    assert_eq!((status.ports_free, status.ports_total, status.sessions.len()), (7, 10, 1));
    assert_eq!(status.types, ["copy"]);
    assert_eq!((&*status.sessions[0].stage, &*status.sessions[0].role), ("forwarding", "PROD"));
    assert_eq!(status.sessions[0].traffic.unwrap().connections_total, 3);

    client.release(request.uid).await.unwrap();
    assert!(are_free(&granted.listeners));
    assert_eq!((gateway.free(), gateway.sessions()), (10, 0));
    let error = client.release(request.uid).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));
    assert!(error.to_string().contains(&format!("entry not found for uid '{}'", request.uid)), "{error}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_producers_request_answers_with_what_hello_said() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Producer, 1);
    let listens = ["localhost:7000".parse().unwrap(), "[::1]:7001".parse().unwrap()];
    let (granted, greeting) = tokio::join!(client.req(&request), client.hello(request.uid, Producer, &listens));
    let (granted, greeting) = (granted.unwrap(), greeting.unwrap());
    assert_eq!(granted.prod_listeners, ["localhost:7000", "[::1]:7001"]);
    assert_eq!((&*greeting.message, greeting.listeners.len()), ("Sending Prod listeners...", 0));
}

#[tokio::test]
async fn a_consumers_hello_answers_with_where_to_connect() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Consumer, 2);
    let (granted, greeting) = tokio::join!(client.req(&request), client.hello(request.uid, Consumer, &[]));
    let (Granted { listeners, prod_listeners, .. }, greeting) = (granted.unwrap(), greeting.unwrap());
    assert_eq!(greeting.listeners, listeners);
    assert_eq!(greeting.message, "Sending listeners...");
    assert!(prod_listeners.is_empty());
    // Said again, it is answered again.
    assert_eq!(client.hello(request.uid, Consumer, &[]).await.unwrap(), greeting);
    // Whoever is no producer is a consumer.
    let hello = Hello { uid: request.uid.to_string(), role: "consumer".into(), ..Hello::default() };
    let told = gateway.raw().await.hello(hello).await.unwrap().into_inner();
    assert_eq!((told.message, told.listeners.len()), (greeting.message, 2));
}

/// What the usual user client makes of a comma at the end, of ports and of listeners.
#[tokio::test]
async fn empty_elements_of_lists_are_passed_over() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.raw().await;
    let request = asks(Producer, 2);
    let uid = request.uid.to_string();
    let first = application("first").await.to_string();
    let client = gateway.client().await;
    let listeners = |texts: [&str; 3]| texts.map(str::to_owned).to_vec();
    let hello = Hello { uid: uid.clone(), role: "PROD".into(), prod_listeners: listeners([&first, "localhost:", ""]) };
    let (granted, greeting) = tokio::join!(client.req(&request), raw.hello(hello));
    greeting.unwrap();
    let granted = granted.unwrap();
    assert_eq!(granted.prod_listeners, [&*first]);
    let update = |texts| UpdateTargets { uid: uid.clone(), role: "PROD".into(), remote_listeners: listeners(texts) };
    let error = raw.update(update(["", ",", "localhost:"])).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("none: say where"), "{error}");
    raw.update(update(["", &format!("{first},"), "localhost:"])).await.unwrap();
    for listener in &granted.listeners {
        assert_eq!(heard(listener, "!").await, "first!");
    }
}

#[tokio::test]
async fn hello_waits_for_its_request() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Producer, 1);
    let hello = tokio::spawn({
        let client = client.clone();
        let application = application("first").await;
        async move { client.hello(request.uid, Producer, &[application]).await }
    });
    // Whoever asks for another session does not wake it.
    let other = asks(Producer, 1);
    client.reserve(&other, Producer, &[]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!hello.is_finished());
    client.req(&request).await.unwrap();
    hello.await.unwrap().unwrap();
}

#[tokio::test]
async fn hello_does_not_wait_for_a_request_that_came_to_nothing() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Producer, 11);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.hello(request.uid, Producer, &[]).await }
    });
    let refused = client.req(&request).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidArgument));
    for error in [waiting.await.unwrap(), client.hello(request.uid, Producer, &[]).await] {
        let error = error.unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound));
        assert!(error.to_string().contains("came to nothing: num_conn: 11 ports asked for, of 10"), "{error}");
    }
    // It may be asked for again.
    client.reserve(&SessionRequest { num_conn: 10, ..request }, Producer, &[]).await.unwrap();
}

#[tokio::test]
async fn two_hundred_requests_wait_at_once_and_others_are_served() {
    let gateway = Gateway::with(|config| config.ports = ports(201)).await;
    let client = gateway.client().await;
    let requests: Vec<_> = (0..200).map(|_| asks(Producer, 1)).collect();
    let waiting: Vec<_> = requests
        .iter()
        .map(|request| {
            let (client, request) = (client.clone(), request.clone());
            tokio::spawn(async move { client.req(&request).await })
        })
        .collect();
    until("all wait", || gateway.sessions() == 200).await;

    let served = asks(Producer, 1);
    client.inbound(&served, &[application("served").await]).await.unwrap();
    let last = requests.last().unwrap().uid;
    client.hello(last, Producer, &[]).await.unwrap();
    for request in &requests[..199] {
        client.hello(request.uid, Producer, &[]).await.unwrap();
    }
    let mut listeners = HashSet::new();
    for answer in waiting {
        listeners.extend(answer.await.unwrap().unwrap().listeners);
    }
    assert_eq!(listeners.len(), 200);
}

#[tokio::test]
async fn sessions_that_overlap_never_have_each_others_ports() {
    let gateway = Gateway::with(|config| config.ports = ports(40)).await;
    let mut cycles = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        let client = gateway.client().await;
        let application = application(name).await;
        cycles.push(tokio::spawn(async move {
            for round in 0..10 {
                let request = asks(Producer, 1 + (round % 4));
                let granted = client.inbound(&request, std::slice::from_ref(&application)).await.unwrap();
                assert_eq!(granted.listeners.len(), usize::from(request.num_conn));
                for listener in &granted.listeners {
                    assert_eq!(heard(listener, "!").await, format!("{name}!"));
                }
                client.release(request.uid).await.unwrap();
            }
        }));
    }
    for cycle in cycles {
        cycle.await.unwrap();
    }
    assert_eq!((gateway.free(), gateway.sessions()), (40, 0));
}

#[tokio::test]
async fn a_uid_is_one_session() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Producer, 1);
    client.inbound(&request, &[application("first").await]).await.unwrap();
    let error = client.req(&request).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::AlreadyExists));
    assert!(error.to_string().contains("Entry already found for uid"), "{error}");
    // Nor does a client that asks for it release it.
    client.inbound(&request, &["localhost:1".parse().unwrap()]).await.unwrap_err();
    // Not even one that asks for what can't be.
    for num_conn in [0, 1000] {
        client.inbound(&SessionRequest { num_conn, ..request.clone() }, &[]).await.unwrap_err();
    }
    assert_eq!((gateway.free(), gateway.sessions()), (9, 1));
}

#[tokio::test]
async fn an_update_has_its_time() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Producer, 1);
    let target = [application("first").await];
    let error = client.update(request.uid, Producer, &target).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));

    let waiting = tokio::spawn({
        let (client, request) = (client.clone(), request.clone());
        async move { client.req(&request).await }
    });
    until("it is requested", || gateway.sessions() == 1).await;
    let error = client.update(request.uid, Producer, &target).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    assert!(error.to_string().contains("send hello first"), "{error}");

    client.hello(request.uid, Producer, &target).await.unwrap();
    waiting.await.unwrap().unwrap();
    for (role, targets) in [(Consumer, &target[..]), (Producer, &[])] {
        let error = client.update(request.uid, role, targets).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument));
    }
    client.update(request.uid, Producer, &target).await.unwrap();
    let error = client.update(request.uid, Producer, &target).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    assert!(error.to_string().contains("forwards already"), "{error}");
    let listener = gateway.server.sessions()[0].listeners[0].clone();
    assert_eq!(heard(&listener, "!").await, "first!");
}

#[tokio::test]
async fn others_are_told_the_address_and_ports_that_they_can_reach() {
    let gateway = Gateway::with(|config| {
        config.ports = "5100-5109:30700-30709".parse().unwrap();
        config.advertise = Some("gateway.example".into());
    })
    .await;
    let request = asks(Producer, 2);
    let granted = gateway.client().await.inbound(&request, &[application("first").await]).await.unwrap();
    let told: Vec<_> = granted.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["gateway.example:30700", "gateway.example:30701"]);
}

#[tokio::test]
async fn a_gateway_at_any_address_tells_the_one_at_which_it_was_reached() {
    let gateway = Gateway::with(|config| {
        config.listener_ip = "0.0.0.0".parse().unwrap();
        // Of these any will do that others leave.
        config.ports = "23000-31000".parse().unwrap();
    })
    .await;
    let client = gateway.client().await;
    let request = asks(Producer, 1);
    let granted = client.inbound(&request, &[application("first").await]).await.unwrap();
    assert_eq!(granted.listeners[0].host(), "127.0.0.1");
    assert_eq!(heard(&granted.listeners[0], "!").await, "first!");
    client.release(request.uid).await.unwrap();
}

#[tokio::test]
async fn a_gateway_listens_at_ipv6() {
    let gateway = Gateway::with(|config| {
        config.listener_ip = "::1".parse().unwrap();
        config.ports = "23000-31000".parse().unwrap();
    })
    .await;
    let client = gateway.client().await;
    let granted = client.inbound(&asks(Producer, 1), &[application("first").await]).await.unwrap();
    assert_eq!(granted.listeners[0].host(), "::1");
    assert_eq!(heard(&granted.listeners[0], "!").await, "first!");
}

#[tokio::test]
async fn the_status_of_a_session_that_is_not_there_says_so() {
    let gateway = Gateway::start().await;
    let error = gateway.client().await.status(Some(Uuid::new_v4())).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));
}

#[tokio::test]
async fn a_mistaken_repeat_of_a_request_hears_that_the_session_is_there() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let mut request = asks(Producer, 1);
    client.reserve(&request, Producer, &[]).await.unwrap();
    request.wishes.kind = Some(DataServerType::Nginx);
    let error = client.req(&request).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::AlreadyExists));
    assert_eq!(gateway.sessions(), 1);
}
