//! A stand-in that speaks Globus Auth's protocol, as far as introspection goes, well and badly: for the tests here and those of programs.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::ServerTls;

/// Longer than anybody waits.
const SLOW: Duration = Duration::from_secs(60);
/// Longer than an answer may be, in bytes.
const HUGE: usize = 64 << 10;

/// Globus Auth on this host.
pub(crate) struct StandIn {
    pub(crate) address: String,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl StandIn {
    pub(crate) async fn start(tls: Option<ServerTls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, count) = (tls.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, count).await,
                        Some(tls) => match tls.acceptor().accept(socket).await {
                            Ok(stream) => serve(stream, count).await,
                            Err(error) => eprintln!("stand-in: {error}"),
                        },
                    }
                });
            }
        });
        Self { address, asked, serving }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, asked: Arc<AtomicUsize>) {
    let service = service_fn(move |request| {
        asked.fetch_add(1, Ordering::Relaxed);
        answer(request)
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let reply =
        |status: u16, body: String| Ok(Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap());
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v2/oauth2/token/introspect"));
    assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
    // gateway-1:s3cret/+ word
    let known = request.headers()["authorization"] == "Basic Z2F0ZXdheS0xOnMzY3JldC8rIHdvcmQ=";
    let form = request.into_body().collect().await.unwrap().to_bytes();
    if !known {
        return reply(401, r#"{"errors":[{"status":"401"}]}"#.into());
    }
    let token = std::str::from_utf8(&form).unwrap().strip_prefix("token=").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let scope = "https://auth.globus.org/scopes/gateway-1/scistream";
    let active = |scope: &str, exp: u64| {
        format!(
            r#"{{"active":true,"scope":"openid {scope}","sub":"sub-of-{token}","username":"a@b","client_id":"c","aud":["gateway-1"],"exp":{exp},"iat":1}}"#
        )
    };
    match token {
        "inactive" => reply(200, r#"{"active":false}"#.into()),
        "other-scope" => reply(200, active("https://auth.globus.org/scopes/gateway-2/scistream", now + 600)),
        "expired" => reply(200, active(scope, now - 1)),
        "ends" => reply(200, active(scope, now + 2)),
        "nobody" => reply(200, format!(r#"{{"active":true,"scope":"{scope}"}}"#)),
        "garbage" => reply(200, "<html>no</html>".into()),
        "huge" => reply(200, format!("{}{}", " ".repeat(HUGE), active(scope, now + 600))),
        "busy" => reply(503, String::new()),
        "moved" => {
            Ok(Response::builder().status(302).header("location", "http://127.0.0.1:1/").body(Full::default()).unwrap())
        }
        "slow" => {
            tokio::time::sleep(SLOW).await;
            reply(200, active(scope, now + 600))
        }
        _ => reply(200, active(scope, now + 600)),
    }
}
