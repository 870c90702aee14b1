//! A control server of a test's own, at an address of its own, so that no other test or program has its ports.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use scistream::auth::{Anonymous, AuthError, Authenticator, Identity};
use scistream::client::{ClientOptions, SessionRequest, UserClient, Wishes};
use scistream::control::{ControlError, PortMap};
use scistream::dataserver::{
    DataServer, DataServerError, DataServerSettings, DataServerType, ForwardPlan, Forwarding, Target,
};
use scistream::proto::control_client::ControlClient;
use scistream::{ControlConfig, ControlServer, DataPlane, Role};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

#[path = "../control/own.rs"]
mod own;

pub(crate) use own::{PATIENCE, own_address};

pub(crate) struct Gateway {
    pub(crate) server: ControlServer,
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ControlError>>,
    directory: TempDir,
}

impl Gateway {
    /// As it comes, but for ten ports and a patience for hello that tests have.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ControlConfig)) -> Self {
        Self::of(change, Arc::new(Anonymous), None).await
    }

    pub(crate) async fn of(
        change: impl FnOnce(&mut ControlConfig),
        authenticator: Arc<dyn Authenticator>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let (config, directory) = configured(change);
        Self::serving(ControlServer::new(config, authenticator).unwrap(), tls, directory).await
    }

    pub(crate) async fn with_data_server(server: impl DataServer, change: impl FnOnce(&mut ControlConfig)) -> Self {
        let servers: Vec<Arc<dyn DataServer>> = vec![Arc::new(server)];
        let (config, directory) = configured(change);
        let server = ControlServer::with_data_servers(config, Arc::new(Anonymous), servers).unwrap();
        Self::serving(server, None, directory).await
    }

    pub(crate) async fn serving(server: ControlServer, tls: Option<TlsAcceptor>, directory: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn({
            let (server, shutdown) = (server.clone(), shutdown.clone());
            async move { server.serve(listener, tls, shutdown).await }
        });
        Self { server, address, shutdown, serving, directory }
    }

    pub(crate) async fn client(&self) -> UserClient {
        self.client_with(|_| {}).await
    }

    pub(crate) async fn client_with(&self, change: impl FnOnce(&mut ClientOptions)) -> UserClient {
        let mut options = ClientOptions { time_limit: PATIENCE, ..ClientOptions::default() };
        change(&mut options);
        UserClient::connect(&self.address.to_string(), &options).await.unwrap()
    }

    /// A client that says whatever it is told to.
    pub(crate) async fn raw(&self) -> ControlClient<Channel> {
        ControlClient::new(Endpoint::new(format!("http://{}", self.address)).unwrap().connect().await.unwrap())
    }

    pub(crate) fn free(&self) -> usize {
        self.server.ports().free
    }

    pub(crate) fn sessions(&self) -> usize {
        self.server.sessions().len()
    }

    /// Leaves the directory to another.
    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap();
        self.directory
    }
}

pub(crate) fn configured(change: impl FnOnce(&mut ControlConfig)) -> (ControlConfig, TempDir) {
    let directory = TempDir::new().unwrap();
    (configured_at(directory.path(), change), directory)
}

pub(crate) fn configured_at(directory: &Path, change: impl FnOnce(&mut ControlConfig)) -> ControlConfig {
    let plane = Arc::new(DataPlane::new(NonZero::new(1)).unwrap());
    let mut config = ControlConfig::new(DataServerSettings { plane, directory: directory.into() });
    config.listener_ip = own_address();
    config.ports = ports(10);
    config.hello_timeout = PATIENCE;
    change(&mut config);
    config
}

pub(crate) fn ports(count: u16) -> PortMap {
    format!("5100-{}", 5099 + count).parse().unwrap()
}

pub(crate) fn asks(role: Role, num_conn: u16) -> SessionRequest {
    SessionRequest { uid: Uuid::new_v4(), role, num_conn, rate: 10_000, wishes: Wishes::default() }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}

/// An application that answers with what it hears, and its name before that.
pub(crate) async fn application(name: &'static str) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = connection.write_all(name.as_bytes()).await;
                let (mut reading, mut writing) = connection.split();
                let _ = tokio::io::copy(&mut reading, &mut writing).await;
            });
        }
    });
    address.to_string().parse().unwrap()
}

/// What an application answers, by way of this listener.
pub(crate) async fn heard(listener: &Target, say: &str) -> String {
    let talk = async {
        let mut connection = TcpStream::connect((listener.host(), listener.port())).await.unwrap();
        connection.write_all(say.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut heard = String::new();
        connection.read_to_string(&mut heard).await.unwrap();
        heard
    };
    timeout(PATIENCE, talk).await.unwrap()
}

/// Whether these can be bound, as by any other program.
pub(crate) fn are_free(listeners: &[Target]) -> bool {
    listeners.iter().all(|listener| std::net::TcpListener::bind((listener.host(), listener.port())).is_ok())
}

/// Knows whoever comes with a name.
pub(crate) struct ByName;

impl Authenticator for ByName {
    fn authenticate<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(std::future::ready(match token {
            None => Err(AuthError::Unauthenticated("no token".into())),
            Some("nobody") => Err(AuthError::Denied("nobody may".into())),
            Some("later") => Err(AuthError::Unavailable("ask later".into())),
            Some(name) => Ok(Identity::new(name)),
        }))
    }
}

/// A data server that starts in this way.
pub(crate) struct Starts<F>(pub(crate) F);

impl<F, S> DataServer for Starts<F>
where
    F: Fn(ForwardPlan) -> S + Send + Sync + 'static,
    S: Future<Output = Result<Box<dyn Forwarding>, DataServerError>> + Send + 'static,
{
    fn kind(&self) -> DataServerType {
        DataServerType::Haproxy
    }

    fn check(&self) -> Result<(), DataServerError> {
        Ok(())
    }

    fn enforces_rate(&self) -> bool {
        false
    }

    fn forwards_udp(&self) -> bool {
        false
    }

    fn start(&self, plan: ForwardPlan) -> BoxFuture<'_, Result<Box<dyn Forwarding>, DataServerError>> {
        Box::pin((self.0)(plan))
    }
}
