//! Telling it over HTTP.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::Seldom;
use crate::dataserver::door::Door;

/// Connections at once. The oldest makes way for one more: a scraper is served in no time.
const AT_ONCE: usize = 8;
/// Of a request's head, from the connection's start; the door has one of the same length for the whole.
const LIMIT: Duration = Duration::from_secs(10);
/// Of a request's head, in bytes.
const LARGEST: usize = 16 << 10;
/// Where this process has no descriptor left, waiting is all there is to do.
const SHORTAGE: Duration = Duration::from_millis(50);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

impl Metrics {
    /// Answers `GET /metrics` at this listener until it is told to stop.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let door = Arc::new(Door::new(AT_ONCE));
        let shortages = Seldom::default();
        // Ends them with this future.
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((socket, peer)) => {
                        let (metrics, door) = (self.clone(), Arc::clone(&door));
                        connections.spawn(async move {
                            let answered = async { metrics.answer(socket).await.map_err(io::Error::other) };
                            // What a scraper does wrong is its own affair.
                            let _ = door.admit(peer.ip(), answered).await;
                        });
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        shortages.warn(format!("can't accept a scraper of metrics: {error}"));
                        sleep(SHORTAGE).await;
                    }
                }
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accepting => {}
        }
    }

    async fn answer(&self, socket: TcpStream) -> Result<(), hyper::Error> {
        let service = service_fn(async |request| Ok::<_, Infallible>(self.respond(&request)));
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(LIMIT)
            .max_buf_size(LARGEST)
            .keep_alive(false)
            .serve_connection(TokioIo::new(socket), service)
            .await
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/metrics" if reading => match self.page() {
                Ok(page) => response(StatusCode::OK, OPEN_METRICS, page),
                Err(error) => {
                    response(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("cannot tell the metrics: {error}\n"))
                }
            },
            "/metrics" => {
                let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET alone\n".to_owned());
                refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
                refused
            }
            _ => response(StatusCode::NOT_FOUND, PLAIN, "there is /metrics\n".to_owned()),
        }
    }

    /// In the text of OpenMetrics 1.0.
    ///
    /// # Errors
    /// A value that it can't express.
    pub fn page(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use uuid::Uuid;

    use super::super::Snapshot;
    use super::*;
    use crate::Role;
    use crate::auth::Identity;
    use crate::control::{PortsReport, SessionReport, SessionStage};
    use crate::dataserver::DataServerType;
    use crate::forward::Traffic;

    fn session(uid: &str, stage: SessionStage, traffic: Option<Traffic>) -> SessionReport {
        SessionReport {
            uid: Uuid::parse_str(uid).unwrap(),
            role: Role::Producer,
            stage,
            kind: DataServerType::Copy,
            identity: Identity::new("a \"b\" \\c"),
            listeners: Vec::new(),
            targets: Vec::new(),
            age: Duration::from_millis(1500),
            rate_asked: 10_000,
            rate_measured: 8,
            rate_enforced: false,
            traffic,
            problem: None,
        }
    }

    fn metrics() -> Metrics {
        Metrics::looking(|| Snapshot {
            sessions: vec![
                session(
                    "01234567-89ab-4cde-8f01-23456789abcd",
                    SessionStage::Forwarding,
                    Some(Traffic {
                        bytes_to_target: 7,
                        bytes_to_client: 5,
                        connections_open: 1,
                        connections_total: 3,
                        ..Traffic::default()
                    }),
                ),
                session("11234567-89ab-4cde-8f01-23456789abcd", SessionStage::Requested, None),
                session("01234567-89ab-4cde-8f01-23456789abcd", SessionStage::Forwarding, None),
            ],
            ports: PortsReport { free: 99, total: 101 },
        })
    }

    #[test]
    fn what_sessions_do_is_told_by_name() {
        let page = metrics().page().unwrap();
        let labels = r#"session="d098c891",role="PROD",type="copy",identity="a \"b\" \\c""#;
        for line in [
            r#"scistream_ports{state="free"} 99.0"#.to_owned(),
            r#"scistream_sessions{stage="forwarding"} 2.0"#.to_owned(),
            r#"scistream_sessions{stage="greeted"} 0.0"#.to_owned(),
            format!(r#"scistream_session_bytes_total{{{labels},direction="to_target"}} 7"#),
            format!(r#"scistream_session_bytes_total{{{labels},direction="to_client"}} 5"#),
            format!("scistream_session_connections_total{{{labels}}} 3"),
            format!("scistream_session_connections_open{{{labels}}} 1.0"),
            format!("scistream_session_rate_asked_bits_per_second{{{labels}}} 10000000.0"),
            format!("scistream_session_rate_bits_per_second{{{labels}}} 8000.0"),
            format!("scistream_session_age_seconds{{{labels}}} 1.5"),
        ] {
            assert_eq!(page.lines().filter(|other| *other == line).count(), 1, "{line}\n{page}");
        }
        assert!(!page.contains("89ab-4cde"), "no UUID is told: it may be a key");
        assert!(page.ends_with("# EOF\n"));
    }

    async fn served() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        (address, shutdown.clone(), tokio::spawn(metrics().serve(listener, shutdown)))
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_scraper_gets_the_page_and_nothing_else() {
        let (address, shutdown, serving) = served().await;
        let page = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(
            page.starts_with("HTTP/1.1 200") && page.contains("openmetrics-text") && page.ends_with("# EOF\n"),
            "{page}"
        );
        for (request, status) in [
            ("GET / HTTP/1.1", "404"),
            ("POST /metrics HTTP/1.1", "405"),
            ("nonsense", "400"),
            ("GET /metrics HTTP/9", "400"),
        ] {
            let answer = ask(address, &format!("{request}\r\nHost: x\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        let endless = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * LARGEST));
        assert!(ask(address, &endless).await.starts_with("HTTP/1.1 431"));
        shutdown.cancel();
        serving.await.unwrap();
        TcpStream::connect(address).await.unwrap_err();
    }

    #[tokio::test]
    async fn whoever_says_nothing_keeps_nobody_out() {
        let (address, _shutdown, _serving) = served().await;
        let mut silent = Vec::new();
        for _ in 0..10 * AT_ONCE {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let page = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    }
}
