//! Whose sessions are whose.

use std::sync::Arc;

use scistream::Role::Producer;
use scistream::UserClient;
use scistream::client::ClientError;
use scistream::control::Quotas;
use tonic::Code;

use crate::support::{ByName, Gateway, application, asks};

async fn gateway(quotas: Quotas) -> Gateway {
    Gateway::of(|config| config.quotas = quotas, Arc::new(ByName), None).await
}

async fn comes_as(gateway: &Gateway, name: &str) -> UserClient {
    gateway.client_with(|options| options.token = Some(name.into())).await
}

fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (Code, String) {
    let error = answer.unwrap_err();
    (error.code().unwrap(), error.to_string())
}

#[tokio::test]
async fn whoever_is_nobody_is_told_why() {
    let gateway = gateway(Quotas::default()).await;
    for (name, code) in [("", Code::Unauthenticated), ("nobody", Code::PermissionDenied), ("later", Code::Unavailable)]
    {
        let client = comes_as(&gateway, name).await;
        let request = asks(Producer, 1);
        assert_eq!(refused(client.req(&request).await).0, code);
        assert_eq!(refused(client.hello(request.uid, Producer, &[]).await).0, code);
        assert_eq!(refused(client.update(request.uid, Producer, &[]).await).0, code);
        assert_eq!(refused(client.release(request.uid).await).0, code);
        assert_eq!(refused(client.status(None).await).0, code);
    }
    assert_eq!(gateway.sessions(), 0);
}

#[tokio::test]
async fn a_session_is_nobody_elses() {
    let gateway = gateway(Quotas::default()).await;
    let (ann, bob) = (comes_as(&gateway, "ann").await, comes_as(&gateway, "bob").await);
    let request = asks(Producer, 1);
    let target = [application("ann's").await];
    ann.reserve(&request, Producer, &target).await.unwrap();
    assert_eq!(refused(bob.hello(request.uid, Producer, &target).await).0, Code::PermissionDenied);
    assert_eq!(refused(bob.update(request.uid, Producer, &target).await).0, Code::PermissionDenied);
    let (code, told) = refused(bob.release(request.uid).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(told.contains("belongs to somebody else"), "{told}");
    assert_eq!(refused(bob.status(Some(request.uid)).await).0, Code::PermissionDenied);
    assert!(bob.status(None).await.unwrap().sessions.is_empty());

    ann.update(request.uid, Producer, &target).await.unwrap();
    let sessions = ann.status(None).await.unwrap().sessions;
    assert_eq!((sessions.len(), &*sessions[0].identity), (1, "ann"));
}

#[tokio::test]
async fn quotas_are_each_identitys_own() {
    let quotas = Quotas { sessions: Some(2), ports: Some(4), rate: Some(25_000) };
    let gateway = gateway(quotas).await;
    let (ann, bob) = (comes_as(&gateway, "ann").await, comes_as(&gateway, "bob").await);
    let first = asks(Producer, 3);
    ann.reserve(&first, Producer, &[]).await.unwrap();

    let (code, told) = refused(ann.reserve(&asks(Producer, 2), Producer, &[]).await);
    assert_eq!(code, Code::ResourceExhausted);
    assert!(told.contains("ann may have 4 ports, and would have 5"), "{told}");
    let mut fast = asks(Producer, 1);
    fast.rate = 15_001;
    let (_, told) = refused(ann.reserve(&fast, Producer, &[]).await);
    assert!(told.contains("25000 kb/s, and would have 25001"), "{told}");
    ann.reserve(&asks(Producer, 1), Producer, &[]).await.unwrap();
    let mut slow = asks(Producer, 1);
    slow.rate = 0;
    let (_, told) = refused(ann.reserve(&slow, Producer, &[]).await);
    assert!(told.contains("2 sessions, and would have 3"), "{told}");

    bob.reserve(&asks(Producer, 4), Producer, &[]).await.unwrap();
    // What was refused cost nothing, and what was released counts no longer.
    assert_eq!(gateway.free(), 2);
    ann.release(first.uid).await.unwrap();
    ann.reserve(&asks(Producer, 3), Producer, &[]).await.unwrap();
}

#[tokio::test]
async fn where_rates_are_rationed_one_is_asked_for() {
    let gateway = gateway(Quotas { rate: Some(25_000), ..Quotas::default() }).await;
    let mut request = asks(Producer, 1);
    request.rate = 0;
    let (code, told) = refused(comes_as(&gateway, "ann").await.reserve(&request, Producer, &[]).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(told.contains("ann may have 25000 kb/s in all; ask for a rate"), "{told}");
    assert_eq!(gateway.sessions(), 0);
}
