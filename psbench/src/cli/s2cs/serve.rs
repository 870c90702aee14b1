//! Serving.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use scistream::auth::{Authenticator, OnlyToken};
use scistream::dataserver::{DataServerSettings, DataServerType};
use scistream::metrics::Metrics;
use scistream::tls::ServerTls;
use scistream::{ControlConfig, ControlServer, DataPlane};
use serde::Serialize;
use tokio::net::TcpListener;

use super::{S2cs, S2csError, lifeline};
use crate::cli::{Ending, print};
use crate::logging::{self, LogLevel};
use crate::scratch::Scratch;
use crate::signals::Interrupts;

impl S2cs {
    /// Until it is told to end; then all sessions are over, too.
    pub(super) fn serve(&self) -> Result<Ending, S2csError> {
        logging::start_on_stderr(if self.verbose { LogLevel::Debug } else { self.log_level })?;
        if let Some(option) = self.identity.insecure() {
            self.place.only_this_host(option)?;
        }
        let tls = self.identity.tls()?;
        let authenticator = if self.lifeline {
            Arc::new(OnlyToken::new(&lifeline::read_token().map_err(S2csError::System)?)?)
        } else {
            self.identity.authenticator()?
        };
        // Requests take microseconds; what moves data has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(S2csError::System)?;
        runtime.block_on(self.serve_with(tls, authenticator))
    }

    async fn serve_with(
        &self,
        tls: Option<ServerTls>,
        authenticator: Arc<dyn Authenticator>,
    ) -> Result<Ending, S2csError> {
        let shutdown = Interrupts::of_this_process().token;
        if self.lifeline {
            lifeline::hold_on(shutdown.clone()).map_err(S2csError::System)?;
        }
        let (listener, address) = listen(self.place.control(), "--port").await?;
        let metrics = match self.place.metrics {
            Some(address) => Some(listen(address, "--metrics").await?),
            None => None,
        };
        let directory = self.directory()?;
        let server = ControlServer::new(self.config(&directory)?, authenticator)?;
        self.warn(address, &server.types());
        let report = Report {
            address,
            tls: tls.is_some(),
            listener_ip: self.place.listener_ip().to_string(),
            ports: self.place.ports().to_string(),
            types: server.types().iter().map(ToString::to_string).collect(),
            metrics: metrics.as_ref().map(|(_, address)| *address),
            state_dir: directory.path().to_owned(),
        };
        self.tell(&report).map_err(S2csError::Print)?;
        let telling = metrics.map(|(listener, _)| tokio::spawn(Metrics::of(&server).serve(listener, shutdown.clone())));
        let served = server.serve(listener, tls.map(|tls| tls.acceptor()), shutdown).await;
        if let Some(telling) = telling {
            telling.abort();
        }
        served?;
        tracing::info!("the control server has ended");
        // In order, as it was told to: this is no failure.
        Ok(Ending::Success)
    }

    fn config(&self, directory: &Directory) -> Result<ControlConfig, S2csError> {
        let plane = Arc::new(DataPlane::new(self.data.data_threads).map_err(S2csError::System)?);
        let settings = DataServerSettings { plane, directory: directory.path().to_owned() };
        let types = self.data.types(&settings);
        let mut config = ControlConfig::new(settings);
        config.listener_ip = self.place.listener_ip();
        config.advertise = self.place.advertise();
        config.ports = self.place.ports();
        config.default_type = self.data.default_type();
        config.types = types;
        config.options = self.data.forwarding()?;
        self.sessions.apply(&mut config);
        Ok(config)
    }

    fn directory(&self) -> Result<Directory, S2csError> {
        match &self.sessions.state_dir {
            Some(named) if self.lifeline => Ok(Directory::Private(named.clone())),
            Some(named) => Ok(Directory::Named(named.clone())),
            None => match self.place.control().port() {
                // Nobody could find it again.
                0 => Scratch::new().map(Directory::Temporary).map_err(S2csError::System),
                port => {
                    let uid = rustix::process::getuid().as_raw();
                    Ok(Directory::Named(std::env::temp_dir().join(format!("psbench-s2cs-{uid}-{port}"))))
                }
            },
        }
    }

    fn warn(&self, address: SocketAddr, types: &[DataServerType]) {
        let untold = |kind: &&DataServerType| matches!(kind, DataServerType::Nginx | DataServerType::Stunnel);
        if self.sessions.ends_idle_ones()
            && let Some(kind) = types.iter().find(untold)
        {
            tracing::warn!(
                "--idle-session: sessions of type {kind}, which does not tell what goes through, are never idle"
            );
        }
        if let Some(option) = self.identity.insecure()
            && !self.lifeline
        {
            tracing::warn!(
                "{option}: whoever is on this host can read tokens and sessions' keys, and ask for sessions"
            );
        } else if self.identity.insecure().is_none() && !address.ip().is_loopback() && self.identity.lets_everybody_in()
        {
            tracing::warn!(
                "whoever reaches {address} can have sessions; --tokens, --globus-client-id or --client-ca let in only some"
            );
        }
    }

    fn tell(&self, report: &Report) -> std::io::Result<()> {
        if self.json {
            return print(serde_json::to_string(report)?);
        }
        let Report { address, tls, listener_ip, ports, types, metrics, .. } = report;
        let tls = if *tls { "TLS" } else { "without TLS" };
        let metrics = metrics.map(|address| format!(", metrics at http://{address}/metrics")).unwrap_or_default();
        print(format_args!(
            "S2CS listens at {address} ({tls}), sessions at ports {ports} of {listener_ip}, types {}{metrics}",
            types.join(", ")
        ))
    }
}

/// Where it listens.
#[derive(Debug, Serialize)]
struct Report {
    address: SocketAddr,
    tls: bool,
    listener_ip: String,
    ports: String,
    types: Vec<String>,
    metrics: Option<SocketAddr>,
    state_dir: PathBuf,
}

/// What is the control server's own.
enum Directory {
    Named(PathBuf),
    /// Of whoever holds on to it, and goes with it where that can't see to it.
    Private(PathBuf),
    /// Goes with it.
    Temporary(Scratch),
}

impl Directory {
    fn path(&self) -> &std::path::Path {
        match self {
            Self::Named(path) | Self::Private(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Self::Private(path) = self {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

async fn listen(address: SocketAddr, option: &'static str) -> Result<(TcpListener, SocketAddr), S2csError> {
    let wrong = |source| S2csError::Listen { address, option, source };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    Ok((listener, address))
}
