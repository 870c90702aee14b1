//! How sessions end that are not released.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use scistream::Role::{Consumer, Producer};
use scistream::client::ClientError;
use scistream::dataserver::{DataServerError, DataServerType, ForwardPlan, Forwarding, Target, Traffic};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use uuid::Uuid;

use crate::support::{Gateway, PATIENCE, Starts, application, are_free, asks, heard, until};

const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_request_that_nobody_greets_gives_its_ports_back() {
    let gateway = Gateway::with(|config| config.hello_timeout = SOON).await;
    let client = gateway.client().await;
    let error = client.req(&asks(Producer, 5)).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::DeadlineExceeded));
    assert!(error.to_string().contains("Hello not received within the timeout period"), "{error}");
    assert_eq!((gateway.free(), gateway.sessions()), (10, 0));
}

#[tokio::test]
async fn a_hello_that_nobody_requests_ends() {
    let gateway = Gateway::with(|config| {
        config.hello_timeout = SOON;
        config.limits.waiting_hellos = 1;
    })
    .await;
    let client = gateway.client().await;
    for _ in 0..3 {
        let uid = Uuid::new_v4();
        let error = client.hello(uid, Producer, &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::DeadlineExceeded));
        assert!(error.to_string().contains(&format!("entry not found for uid '{uid}'")), "{error}");
    }
}

#[tokio::test]
async fn hellos_that_wait_are_bounded_and_forgotten_once_they_give_up() {
    let gateway = Gateway::with(|config| config.limits.waiting_hellos = 2).await;
    let client = gateway.client().await;
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let client = client.clone();
        waiting.spawn(async move { client.hello(Uuid::new_v4(), Producer, &[]).await });
    }
    // Whichever came last.
    let error = timeout(PATIENCE, waiting.join_next()).await.unwrap().unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::ResourceExhausted));
    waiting.shutdown().await;
    let request = asks(Producer, 1);
    let reserve = async {
        // The server hears of it a moment later.
        while client.reserve(&request, Producer, &[]).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reserve).await.unwrap();
}

#[tokio::test]
async fn whoever_goes_away_while_waiting_leaves_nothing() {
    let gateway = Gateway::start().await;
    // By giving up a request,
    let client = gateway.client().await;
    let request = asks(Producer, 5);
    let waiting = tokio::spawn({
        let request = request.clone();
        async move { client.req(&request).await }
    });
    until("it waits", || gateway.sessions() == 1).await;
    waiting.abort();
    until("the ports are back", || gateway.free() == 10).await;
    // or within its own time.
    let hasty = gateway.client_with(|options| options.time_limit = Duration::from_secs(5)).await;
    let error = hasty.req(&request).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { rpc: "req", .. }), "{error}");
    until("the ports are back", || gateway.free() == 10).await;
}

#[tokio::test]
async fn a_connection_that_breaks_ends_the_request_that_waits() {
    let gateway = Gateway::start().await;
    // A client in a runtime of its own, which is shut down with its connection.
    let address = gateway.address;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let client = scistream::UserClient::connect(&address.to_string(), &Default::default()).await.unwrap();
        client.req_within(&asks(Producer, 5), PATIENCE).await
    });
    until("it waits", || gateway.sessions() == 1).await;
    runtime.shutdown_background();
    until("the ports are back", || gateway.free() == 10 && gateway.sessions() == 0).await;
}

#[tokio::test]
async fn a_release_tells_the_request_that_waits() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Producer, 5);
    let waiting = tokio::spawn({
        let (client, request) = (client.clone(), request.clone());
        async move { client.req(&request).await }
    });
    until("it waits", || gateway.sessions() == 1).await;
    client.release(request.uid).await.unwrap();
    assert_eq!(gateway.free(), 10);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::Aborted));
    assert!(error.to_string().contains("it was released"), "{error}");
}

#[tokio::test]
async fn a_greeted_session_is_released_or_forgotten() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let request = asks(Consumer, 5);
    let granted = client.reserve(&request, Consumer, &[]).await.unwrap();
    client.release(request.uid).await.unwrap();
    assert!(are_free(&granted.listeners));
    let gateway = Gateway::with(|config| config.update_timeout = SOON).await;
    gateway.client().await.reserve(&asks(Consumer, 5), Consumer, &[]).await.unwrap();
    until("it is forgotten", || gateway.free() == 10 && gateway.sessions() == 0).await;
}

#[tokio::test]
async fn a_lease_ends_a_session_that_is_in_use() {
    let gateway = Gateway::with(|config| config.max_session = Some(Duration::from_secs(5))).await;
    let client = gateway.client().await;
    let begun = Instant::now();
    let granted = client.inbound(&asks(Producer, 1), &[application("first").await]).await.unwrap();
    until("it ends", || {
        // As long as it is there it is in use.
        let _ = std::net::TcpStream::connect((granted.listeners[0].host(), granted.listeners[0].port()));
        gateway.sessions() == 0
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(5));
    until("its ports are back", || gateway.free() == 10).await;
}

#[tokio::test]
async fn only_a_session_without_traffic_is_idle() {
    let gateway = Gateway::with(|config| config.idle_limit = Some(Duration::from_secs(6))).await;
    let client = gateway.client().await;
    let target = [application("first").await];
    let (busy, idle) = (asks(Producer, 1), asks(Producer, 1));
    let granted = client.inbound(&busy, &target).await.unwrap();
    client.inbound(&idle, &target).await.unwrap();
    let mut connection = TcpStream::connect((granted.listeners[0].host(), granted.listeners[0].port())).await.unwrap();
    let use_it = async {
        while gateway.sessions() == 2 {
            connection.write_all(b"still there").await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, use_it).await.unwrap();
    assert_eq!(gateway.server.sessions()[0].uid, busy.uid);
    until("nobody uses it any longer", || gateway.sessions() == 0).await;
}

#[tokio::test]
async fn a_rate_is_measured() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let granted = client.inbound(&asks(Producer, 1), &[application("first").await]).await.unwrap();
    let traffic = async {
        loop {
            heard(&granted.listeners[0], &"x".repeat(10_000)).await;
            let status = client.status(None).await.unwrap();
            if status.sessions[0].rate_measured > 0 {
                break status.sessions[0].traffic.unwrap();
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let traffic = timeout(PATIENCE, traffic).await.unwrap();
    assert!(traffic.bytes_to_target >= 10_000 && traffic.bytes_to_client > traffic.bytes_to_target, "{traffic:?}");
}

fn refused(_: ForwardPlan) -> Result<Box<dyn Forwarding>, DataServerError> {
    let (kind, what) = (DataServerType::Haproxy, "can't start haproxy".into());
    Err(DataServerError::Start { kind, what, source: io::Error::other("no such program") })
}

#[tokio::test]
async fn a_data_server_that_does_not_start_gives_everything_back() {
    let gateway = Gateway::with_data_server(Starts(|plan| std::future::ready(refused(plan))), |_| {}).await;
    let client = gateway.client().await;
    let request = asks(Producer, 5);
    let target: [Target; 1] = ["localhost:1".parse().unwrap()];
    let granted = client.reserve(&request, Producer, &target).await.unwrap();
    let error = client.update(request.uid, Producer, &target).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Internal));
    let told = error.to_string();
    assert!(told.contains("can't start haproxy") && told.contains("no such program"), "{told}");
    assert!(are_free(&granted.listeners));
    assert_eq!((gateway.free(), gateway.sessions()), (10, 0));
    // The same name can be had again.
    client.reserve(&request, Producer, &target).await.unwrap();
}

/// Holds its ports, and forwards nothing.
struct Holds(ForwardPlan);

impl Forwarding for Holds {
    fn traffic(&self) -> Option<Traffic> {
        None
    }

    fn release(self: Box<Self>) -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async move { drop(self.0) })
    }
}

#[tokio::test]
async fn a_session_is_released_while_its_data_server_starts() {
    let starting = Arc::new(Notify::new());
    let server = {
        let starting = Arc::clone(&starting);
        Starts(move |plan: ForwardPlan| {
            let starting = Arc::clone(&starting);
            async move {
                starting.notify_one();
                std::future::pending::<()>().await;
                Ok(Box::new(Holds(plan)) as Box<dyn Forwarding>)
            }
        })
    };
    let gateway = Gateway::with_data_server(server, |_| {}).await;
    let client = gateway.client().await;
    let target: [Target; 1] = ["localhost:1".parse().unwrap()];
    let start = async |request| {
        let granted = client.reserve(&request, Producer, &target).await.unwrap();
        let updating = tokio::spawn({
            let (client, target) = (client.clone(), target.clone());
            async move { client.update(request.uid, Producer, &target).await }
        });
        timeout(PATIENCE, starting.notified()).await.unwrap();
        (granted, updating)
    };
    let request = asks(Producer, 5);
    let (granted, updating) = start(request.clone()).await;
    let error = client.update(request.uid, Producer, &target).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    client.release(request.uid).await.unwrap();
    assert!(are_free(&granted.listeners));
    assert_eq!(updating.await.unwrap().unwrap_err().code(), Some(Code::Aborted));

    // So it is when whoever updates goes away.
    let (granted, updating) = start(asks(Producer, 5)).await;
    updating.abort();
    until("the session is gone", || gateway.sessions() == 0 && gateway.free() == 10).await;
    assert!(are_free(&granted.listeners));
}

#[tokio::test]
async fn a_data_server_that_does_not_tell_is_never_idle() {
    let server = Starts(|plan| async move { Ok(Box::new(Holds(plan)) as Box<dyn Forwarding>) });
    let gateway = Gateway::with_data_server(server, |config| config.idle_limit = Some(Duration::from_millis(20))).await;
    let client = gateway.client().await;
    let request = asks(Producer, 1);
    client.inbound(&request, &["localhost:1".parse().unwrap()]).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let status = client.status(Some(request.uid)).await.unwrap();
    assert_eq!((status.sessions[0].traffic, status.sessions[0].rate_measured), (None, 0));
    client.release(request.uid).await.unwrap();
}

#[tokio::test]
async fn all_sessions_end_with_their_control_server() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let granted = client.inbound(&asks(Producer, 2), &[application("first").await]).await.unwrap();
    let wait = |what| {
        let client = client.clone();
        tokio::spawn(async move {
            match what {
                Some(request) => client.req(&request).await.map(|_| ()),
                None => client.hello(Uuid::new_v4(), Producer, &[]).await.map(|_| ()),
            }
        })
    };
    let (requested, greeted) = (wait(Some(asks(Producer, 1))), wait(None));
    until("it waits", || gateway.sessions() == 2).await;
    sleep(SOON).await;
    let server = gateway.server.clone();
    gateway.stop().await;
    assert_eq!((server.ports().free, server.sessions().len()), (10, 0));
    assert!(are_free(&granted.listeners));
    // What had not reached it is told by the connection's end.
    let error = greeted.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable), "{error}");
    let error = requested.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable), "{error}");
    let told = error.to_string();
    assert!(told.contains("the control server ends") || told.contains("being ended"), "{told}");
}
