//! Against a stand-in that speaks Globus Auth's protocol, as far as introspection goes, well and badly.

use tempfile::TempDir;
use tokio::net::TcpListener;

use super::stand_in::StandIn;
use super::*;
use crate::tls::{NewCertificate, usual_names};

const LIMIT: Duration = Duration::from_secs(60);
/// For answers that never come.
const SHORT: Duration = Duration::from_millis(300);

impl StandIn {
    fn settings(&self, time_limit: Duration) -> GlobusSettings {
        GlobusSettings {
            address: self.address.clone(),
            client_id: "gateway-1".into(),
            client_secret: "s3cret/+ word".into(),
            time_limit,
            trusted: None,
        }
    }

    fn globus(&self, time_limit: Duration) -> Globus {
        Globus::new(self.settings(time_limit)).unwrap()
    }
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "it is what was just told")]
fn unavailable(told: Result<Identity, AuthError>, why: &str) {
    assert!(matches!(&told, Err(AuthError::Unavailable(text)) if text.contains(why)), "{told:?}");
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "it is what was just told")]
fn unauthenticated(told: Result<Identity, AuthError>, why: &str) {
    assert!(matches!(&told, Err(AuthError::Unauthenticated(text)) if text.contains(why)), "{told:?}");
}

#[tokio::test]
async fn tokens_of_the_right_scope_are_their_owners() {
    let stand_in = StandIn::start(None).await;
    let globus = stand_in.globus(LIMIT);
    for token in ["good", "Bearer good"] {
        assert_eq!(globus.authenticate(Some(token)).await.unwrap().as_str(), "sub-of-good");
    }
    assert_eq!(stand_in.asked(), 1, "the second time it is remembered");
    assert_eq!(globus.authenticate(Some("other")).await.unwrap().as_str(), "sub-of-other");
    unauthenticated(globus.authenticate(Some("inactive")).await, "is not active");
    unauthenticated(globus.authenticate(Some("other-scope")).await, "scopes/gateway-1/scistream");
    unauthenticated(globus.authenticate(Some("expired")).await, "expired");
    for none in [None, Some(""), Some("Bearer ")] {
        unauthenticated(globus.authenticate(none).await, "wants a token");
    }
    assert_eq!(stand_in.asked(), 5, "nobody asks without one");
    assert!(!format!("{globus:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_token_is_not_remembered_past_its_end() {
    let stand_in = StandIn::start(None).await;
    let globus = stand_in.globus(LIMIT);
    globus.authenticate(Some("ends")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    globus.authenticate(Some("ends")).await.unwrap();
    assert_eq!(stand_in.asked(), 2);
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let stand_in = StandIn::start(None).await;
    let globus = stand_in.globus(LIMIT);
    for number in 0..MEMORY + 10 {
        let mut code = [0; 32];
        code[..8].copy_from_slice(&number.to_le_bytes());
        globus.remember(code, Identity::new("x"), Duration::MAX);
    }
    assert_eq!(globus.remembered().len(), MEMORY);
}

#[tokio::test]
async fn an_answer_that_is_none_is_its_fault_not_the_tokens() {
    let stand_in = StandIn::start(None).await;
    let globus = stand_in.globus(LIMIT);
    unavailable(globus.authenticate(Some("garbage")).await, "answered something else");
    unavailable(globus.authenticate(Some("huge")).await, "answered more than there is to say");
    unavailable(globus.authenticate(Some("nobody")).await, "did not say whose");
    unavailable(globus.authenticate(Some("busy")).await, "503");
    unavailable(globus.authenticate(Some("moved")).await, "302");
    let mut settings = stand_in.settings(LIMIT);
    settings.client_secret = "another".into();
    unavailable(Globus::new(settings).unwrap().authenticate(Some("good")).await, "own id and secret");
}

#[tokio::test]
async fn whoever_does_not_answer_is_not_waited_for() {
    let stand_in = StandIn::start(None).await;
    let globus = stand_in.globus(SHORT);
    unavailable(globus.authenticate(Some("slow")).await, "within 0.3 s");
    // Nor does a crowd of such questions wait longer than one.
    let crowd = (0..3 * AT_ONCE).map(|number| {
        let globus = &globus;
        async move { globus.authenticate(Some(if number % 2 == 0 { "slow" } else { "Bearer slow" })).await }
    });
    for told in futures_util::future::join_all(crowd).await {
        unavailable(told, "within 0.3 s");
    }
    // Accepts, and says nothing at all.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = stand_in.settings(SHORT);
    settings.address = format!("http://{}", silent.local_addr().unwrap());
    unavailable(Globus::new(settings.clone()).unwrap().authenticate(Some("good")).await, "0.3 s");
    drop(silent);
    settings.time_limit = LIMIT;
    unavailable(Globus::new(settings).unwrap().authenticate(Some("good")).await, "can't be asked: ");
}

#[tokio::test]
async fn over_tls_it_has_to_be_globus() {
    let files = TempDir::new().unwrap();
    let [certificate, key, other, other_key] = ["crt", "key", "other", "other-key"].map(|name| files.path().join(name));
    let new = NewCertificate { names: usual_names(), valid: Duration::from_secs(3600) };
    new.write(&certificate, &key, false).unwrap();
    new.write(&other, &other_key, false).unwrap();
    let stand_in = StandIn::start(Some(ServerTls::load(&certificate, &key, None).unwrap())).await;
    let mut settings = stand_in.settings(LIMIT);
    settings.trusted = Some(certificate);
    let globus = Globus::new(settings.clone()).unwrap();
    assert_eq!(globus.authenticate(Some("good")).await.unwrap().as_str(), "sub-of-good");
    settings.trusted = Some(other);
    unavailable(Globus::new(settings).unwrap().authenticate(Some("good")).await, "invalid peer certificate");
    assert_eq!(stand_in.asked(), 1, "no secret was sent to a stranger");
}

#[test]
fn secrets_go_over_no_network_in_the_clear() {
    let url = |address| introspection(address).map(|url| url.to_string());
    assert_eq!(url(GLOBUS_AUTH).unwrap(), "https://auth.globus.org/v2/oauth2/token/introspect");
    for address in ["http://127.0.0.1:1", "http://localhost:1/", "http://[::1]:1", "https://h:8443"] {
        assert!(url(address).is_some(), "{address}");
    }
    for address in ["http://auth.globus.org", "auth.globus.org", "ftp://localhost", "", "https://"] {
        assert!(url(address).is_none(), "{address}");
    }
}
