//! The control server: what it does at each request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::ControlConfig;
use super::ask::Ask;
use super::directory::Directory;
use super::error::{ControlError, SessionError, Why};
use super::kept::{Kept, KeptSession};
use super::ports::PortPool;
use super::report::{PortsReport, SessionReport};
use super::session::{Hello, Session};
use super::table::{Found, Table};
use super::usage::UsageMeter;
use crate::Role;
use crate::auth::{Authenticator, Identity};
use crate::dataserver::{DataServer, DataServerError, DataServerType, data_server};
use crate::forward::{ForwardOptions, ForwardPlan, Lane, Meter, ReservedPort, Target, Transport};
use crate::relay::Choice;

/// How long a data server may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The most that a hello waits for its request: whoever sends both does so within moments, and may send it again.
const EARLY_LIMIT: Duration = Duration::from_secs(30);

/// How long all sessions may take to end with the control server.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(15);

/// A control server (S2CS). Clones are the same one.
#[derive(Clone)]
pub struct ControlServer(pub(crate) Arc<Control>);

impl ControlServer {
    /// One that offers the types of its configuration, and serves once it is told to.
    ///
    /// # Errors
    /// A type can't work on this host, the configuration contradicts itself, or the directory is another's.
    pub fn new(config: ControlConfig, authenticator: Arc<dyn Authenticator>) -> Result<Self, ControlError> {
        let mut kinds = vec![config.default_type];
        for kind in &config.types {
            if !kinds.contains(kind) {
                kinds.push(*kind);
            }
        }
        let servers = kinds.into_iter().map(|kind| data_server(kind, &config.settings)).collect::<Result<_, _>>()?;
        Self::with_data_servers(config, authenticator, servers)
    }

    /// One that offers these data servers, the first by default, whatever types its configuration has.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_data_servers(
        config: ControlConfig,
        authenticator: Arc<dyn Authenticator>,
        servers: Vec<Arc<dyn DataServer>>,
    ) -> Result<Self, ControlError> {
        for server in &servers {
            server.check()?;
        }
        if let Some(first) = servers.first()
            && config.enforce_rate
            && !first.enforces_rate()
        {
            return Err(ControlError::Rate(first.kind()));
        }
        if let Some(first) = servers.first()
            && let Some(problem) = first.refuses(&config.options, Transport::Tcp)
        {
            return Err(DataServerError::Unsupported { kind: first.kind(), problem }.into());
        }
        Choice::of(&config.options.congestion).check().map_err(ControlError::Congestion)?;
        let advertise = match &config.advertise {
            Some(host) => Some(Target::with_host(host, 1).ok_or_else(|| ControlError::Advertise(host.clone()))?),
            None => None,
        };
        let directory = Directory::lock(&config.settings.directory)?;
        directory.clear()?;
        let kept = Kept::open(&directory, config.keep_sessions)?;
        let table = Table::new(config.limits, config.quotas);
        let ports = PortPool::new(config.listener_ip, config.ports);
        Ok(Self(Arc::new(Control {
            config,
            advertise,
            authenticator,
            servers,
            table,
            ports,
            kept,
            usage: Arc::new(UsageMeter::new()),
            ends: TaskTracker::new(),
            _directory: directory,
        })))
    }

    /// All sessions, those that were requested first at the front.
    pub fn sessions(&self) -> Vec<SessionReport> {
        self.0.table.all().iter().map(|session| session.report(self.0.config.enforce_rate)).collect()
    }

    /// Which ports there are.
    pub fn ports(&self) -> PortsReport {
        PortsReport { free: self.0.ports.free(), total: self.0.ports.map().count() }
    }

    /// The types that can be asked for, the default first.
    pub fn types(&self) -> Vec<DataServerType> {
        self.0.types()
    }
}

pub(crate) struct Control {
    pub(crate) config: ControlConfig,
    /// The host that others are told of, with a port that does not matter.
    advertise: Option<Target>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// The default first.
    servers: Vec<Arc<dyn DataServer>>,
    pub(crate) table: Table,
    pub(crate) ports: Arc<PortPool>,
    kept: Kept,
    pub(crate) usage: Arc<UsageMeter>,
    /// Sessions that are giving everything back.
    ends: TaskTracker,
    _directory: Directory,
}

/// Ends a session whose client went away in the middle of a request.
struct EndsUnlessKept<'a> {
    control: &'a Arc<Control>,
    session: Option<&'a Arc<Session>>,
    why: Why,
}

impl EndsUnlessKept<'_> {
    fn keep(mut self) {
        self.session = None;
    }
}

impl Drop for EndsUnlessKept<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            self.control.begin_end(session, self.why);
        }
    }
}

/// Forgets a hello that no longer waits for its request.
struct Waiting<'a>(&'a Table, Uuid);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl Control {
    pub(crate) fn types(&self) -> Vec<DataServerType> {
        self.servers.iter().map(|server| server.kind()).collect()
    }

    /// The data server that a user client names, or the default.
    pub(crate) fn server(&self, name: &str) -> Result<Arc<dyn DataServer>, SessionError> {
        let named = |kind| self.servers.iter().find(|server| server.kind() == kind);
        let found = if name.is_empty() {
            self.servers.first()
        } else {
            let kind: DataServerType =
                name.parse().map_err(|_| SessionError::Invalid { field: "type", problem: self.no_such_type() })?;
            return named(kind).cloned().ok_or_else(|| SessionError::NotOffered { kind, offered: self.types() });
        };
        found.cloned().ok_or_else(|| SessionError::Unsupported("this control server has no data server".into()))
    }

    fn no_such_type(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(|server| server.kind().as_str()).collect();
        format!("no such type of data server; this control server offers {}", names.join(", "))
    }

    /// Reserves ports, and waits for hello. Answers with the session and what the application said.
    pub(crate) async fn request(
        self: &Arc<Self>,
        owner: Identity,
        ask: Ask,
        reached_at: Option<IpAddr>,
    ) -> Result<(Arc<Session>, Hello), SessionError> {
        self.table.admits(&ask, &owner)?;
        let (claim, ports) = self.ports.reserve(ask.count)?;
        let listeners = self.advertised(&ports, reached_at)?;
        let (session, hello) = Session::requested(ask, owner, listeners, (claim, ports));
        self.table.insert(&session)?;
        let guard = EndsUnlessKept { control: self, session: Some(&session), why: Why::Disconnected };
        session.log("session requested");
        let greeted = tokio::select! {
            greeted = timeout(self.config.hello_timeout, hello) => greeted,
            error = session.ending() => return Err(error),
        };
        match greeted {
            Ok(Ok(hello)) => {
                guard.keep();
                Ok((session, hello))
            }
            // It ends, whose first step is to say why.
            Ok(Err(_)) => Err(session.ending().await),
            Err(_) => {
                guard.keep();
                self.end(&session, Why::NoHello).await;
                Err(SessionError::HelloTimeout(self.config.hello_timeout))
            }
        }
    }

    /// What others are told of these ports.
    fn advertised(&self, ports: &[ReservedPort], reached_at: Option<IpAddr>) -> Result<Vec<Target>, SessionError> {
        let own = self.ports.ip();
        let host = match &self.advertise {
            Some(host) => host.clone(),
            None if !own.is_unspecified() => Target::from((own, 1)),
            None => {
                let reached_at = reached_at.map(|ip| ip.to_canonical()).filter(|ip| ip.is_ipv4() == own.is_ipv4());
                Target::from((reached_at.ok_or(SessionError::NoAddress)?, 1))
            }
        };
        let map = self.ports.map();
        Ok(ports.iter().map(|port| host.at(map.advertised(port.address().port()))).collect())
    }

    /// Tells a session that its application is there; waits for the session where it is not.
    pub(crate) async fn hello(&self, owner: &Identity, uid: Uuid, hello: Hello) -> Result<Arc<Session>, SessionError> {
        let waited = self.config.hello_timeout.min(EARLY_LIMIT);
        let until = Instant::now() + waited;
        let session = loop {
            match self.table.find_or_wait(uid, owner)? {
                Found::Session(session) => break session,
                Found::NotYet(requested) => {
                    let _waiting = Waiting(&self.table, uid);
                    let Ok(requested) = timeout_at(until, requested).await else {
                        return Err(SessionError::NeverRequested { uid, waited });
                    };
                    if requested.is_err() {
                        return Err(SessionError::Closing);
                    }
                }
            }
        };
        session.greet(hello)?;
        session.log("session greeted");
        Ok(session)
    }

    /// Starts the data server of a session towards these targets. Answers with the target of each listener.
    pub(crate) async fn update(
        self: &Arc<Self>,
        owner: &Identity,
        uid: Uuid,
        role: Option<Role>,
        targets: &[Target],
    ) -> Result<(Arc<Session>, Vec<Target>), SessionError> {
        let session = self.table.find(uid, owner)?;
        if let Some(role) = role
            && role != session.ask.role
        {
            let problem = format!("{role}, of a session that was requested as {}", session.ask.role);
            return Err(SessionError::Invalid { field: "role", problem });
        }
        if targets.is_empty() {
            let problem = "none: say where the session is to forward to, as host:port".into();
            return Err(SessionError::Invalid { field: "remote_listeners", problem });
        }
        let targets: Vec<_> = targets.iter().cycle().take(session.ask.count).cloned().collect();
        self.start(&session, &targets, Why::Disconnected).await?;
        Ok((session, targets))
    }

    /// Starts its data server. `dropped`: why it ends where nobody waits for that.
    async fn start(
        self: &Arc<Self>,
        session: &Arc<Session>,
        targets: &[Target],
        dropped: Why,
    ) -> Result<(), SessionError> {
        let Ok(work) = session.work.try_lock() else {
            return Err(SessionError::Busy(session.ask.uid));
        };
        let ports = session.starts()?;
        // Whatever happens from here on, the session forwards at its end or is no more.
        let guard = EndsUnlessKept { control: self, session: Some(session), why: dropped };
        let numbers: Vec<_> = ports.iter().map(|port| port.address().port()).collect();
        let server = &session.ask.server;
        let plan = self.plan(session, ports, targets);
        let started = tokio::select! {
            biased;
            error = session.ending() => Err(error),
            started = timeout(START_LIMIT, server.start(plan)) => match started {
                Ok(Ok(forwarding)) => Ok(forwarding),
                Ok(Err(error)) => Err(SessionError::Start(error)),
                Err(_) => Err(SessionError::StartTimeout { kind: server.kind(), limit: START_LIMIT }),
            },
        };
        guard.keep();
        match started {
            Ok(forwarding) => {
                session.forwards(forwarding, targets.to_vec());
                self.kept.write(|| KeptSession::of(session, &numbers, targets));
                session.log("session forwards");
                Ok(())
            }
            Err(error) => {
                drop(work);
                tracing::warn!(uid = %session.ask.uid, "{}", super::error::causes(&error));
                self.end(session, Why::NotStarted).await;
                Err(error)
            }
        }
    }

    /// How a session is forwarded. What this server has to say of stripes and connections ahead of time is said of the default type.
    pub(crate) fn options(&self, ask: &Ask) -> ForwardOptions {
        let options = &self.config.options;
        let is_default = self.servers.first().is_some_and(|first| first.kind() == ask.server.kind());
        let (preconnect, stripes) = if is_default { (options.preconnect, options.stripes) } else { (0, 1) };
        ForwardOptions {
            preconnect: ask.preconnect.unwrap_or(preconnect),
            stripes: ask.stripes.unwrap_or(stripes),
            ..options.clone()
        }
    }

    fn plan(&self, session: &Session, ports: Vec<ReservedPort>, targets: &[Target]) -> ForwardPlan {
        let ask = &session.ask;
        ForwardPlan {
            uid: ask.uid,
            role: ask.role,
            lanes: ports.into_iter().zip(targets).map(|(port, target)| Lane { port, target: target.clone() }).collect(),
            transport: ask.transport,
            secret: ask.secret(),
            options: self.options(ask),
            // A kb is 1000 bits.
            rate: (self.config.enforce_rate && ask.rate > 0).then(|| ask.rate * 1000),
            meter: Arc::new(Meter::default()),
        }
    }

    /// Ends somebody's session; its ports can be bound again when this returns.
    pub(crate) async fn release(self: &Arc<Self>, owner: &Identity, uid: Uuid) -> Result<(), SessionError> {
        let session = self.table.find(uid, owner)?;
        self.end(&session, Why::Released).await;
        Ok(())
    }

    /// Ends a session, and waits until it has given everything back.
    pub(crate) async fn end(self: &Arc<Self>, session: &Arc<Session>, why: Why) {
        self.begin_end(session, why);
        session.gone().await;
    }

    /// Ends a session by a task of its own: whoever asked for it may go away.
    pub(crate) fn begin_end(self: &Arc<Self>, session: &Arc<Session>, why: Why) {
        if !self.table.remove(session) {
            return;
        }
        // Outside of a runtime this process is about to end, and the session with it.
        let Ok(runtime) = Handle::try_current() else { return };
        let (control, session) = (Arc::clone(self), Arc::clone(session));
        let end = async move {
            if session.ask.server.kind().is_program() {
                control.usage.look();
            }
            session.end(why).await;
            if !(why == Why::Shutdown && control.config.keep_sessions) {
                control.kept.remove(session.ask.uid);
            }
            // Last, so that nothing of it is a successor's by mistake.
            control.table.gone(session.ask.uid);
            session.is_gone();
        };
        self.ends.spawn_on(end, &runtime);
    }

    /// Starts the sessions again that outlived a former control server.
    pub(crate) async fn restore(self: &Arc<Self>) {
        for kept in self.kept.read() {
            let uid = kept.uid;
            if let Err(error) = self.restore_one(kept).await {
                tracing::warn!(%uid, "a session that was kept can't start again: {}", super::error::causes(&error));
                self.kept.remove(uid);
            }
        }
    }

    async fn restore_one(self: &Arc<Self>, kept: KeptSession) -> Result<(), SessionError> {
        let server = self.server(&kept.kind)?;
        let claimed = self.ports.reserve_again(&kept.ports)?;
        let (ask, owner, since) = kept.ask(server)?;
        let listeners = super::ask::targets(&kept.listeners, usize::MAX)?;
        let targets = super::ask::targets(&kept.targets, usize::MAX)?;
        let session = Session::greeted(ask, owner, listeners, since, claimed);
        self.table.insert(&session)?;
        // Only a shutdown keeps it from its start; its file stays then.
        self.start(&session, &targets, Why::Shutdown).await
    }

    /// Ends all sessions.
    pub(crate) async fn shut_down(self: &Arc<Self>) {
        self.table.close();
        for session in self.table.all() {
            self.begin_end(&session, Why::Shutdown);
        }
        self.ends.close();
        if timeout(SHUTDOWN_LIMIT, self.ends.wait()).await.is_err() {
            tracing::error!("sessions did not end within {} s", SHUTDOWN_LIMIT.as_secs());
        }
    }
}
