//! The control server's gRPC services.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::ask::{self, Ask, Wishes};
use super::error::{SessionError, causes};
use super::report::texts;
use super::serve::Reached;
use super::server::Control;
use super::session::Hello;
use crate::auth::{AuthError, Identity};
use crate::dataserver::DataServerType;
use crate::forward::Transport;
use crate::proto::{self, gateway};
use crate::{ControlServer, Role};

/// Both services.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Control>);

/// The most texts that one message may carry, whatever the ports are.
const MOST_TEXTS: usize = 1024;

impl Service {
    /// Whoever asks.
    async fn identity<T>(&self, request: &Request<T>) -> Result<Identity, SessionError> {
        if self.0.authenticator.knows_nobody()
            && let Some(identity) =
                request.extensions().get::<Reached>().and_then(|reached| reached.certificate.clone())
        {
            return Ok(identity);
        }
        let token = match request.metadata().get("authorization").map(|token| token.to_str()) {
            None => None,
            Some(Ok(token)) => Some(token).filter(|token| !token.is_empty()),
            Some(Err(_)) => {
                let problem = "the authorization metadata has characters that no token has".into();
                return Err(AuthError::Unauthenticated(problem).into());
            }
        };
        Ok(self.0.authenticator.authenticate(token).await?)
    }

    fn ask(&self, uid: Uuid, request: proto::Request) -> Result<Ask, SessionError> {
        let Some(role) = ask::role(&request.role)? else {
            return Err(ask::invalid("role", "none; there are PROD and CONS"));
        };
        let count = ask::count(request.num_conn, self.0.ports.map().count())?;
        let rate = ask::rate(request.rate)?;
        let wishes = request.wishes.unwrap_or_default();
        let server = self.0.server(&wishes.r#type)?;
        let kind = server.kind();
        let Wishes { transport, key, preconnect, stripes, attended } = Wishes::of(&wishes)?;
        if transport == Transport::Udp && !server.forwards_udp() {
            return Err(SessionError::Unsupported(format!("type {kind} does not forward UDP; ask for copy")));
        }
        if self.0.config.enforce_rate && rate > 0 && !server.enforces_rate() {
            let problem = format!(
                "rates are enforced here, and type {kind} can't keep to one; ask for rate 0, or for another type"
            );
            return Err(SessionError::Unsupported(problem));
        }
        let ask = Ask { uid, role, count, rate, server, transport, key, preconnect, stripes, attended };
        if let Some(problem) = ask.server.refuses(&self.0.options(&ask), transport) {
            return Err(SessionError::Unsupported(format!("data server {kind} {problem}")));
        }
        let by_key = matches!(kind, DataServerType::Tls | DataServerType::Quic | DataServerType::Stunnel);
        if by_key && ask.secret().is_guessable() {
            tracing::warn!(
                %uid, r#type = %kind,
                "the session's only secret is a UUID that can be guessed; use a user client that hands out a key, or random UUIDs"
            );
        }
        Ok(ask)
    }
}

#[tonic::async_trait]
impl proto::control_server::Control for Service {
    async fn req(&self, request: Request<proto::Request>) -> Result<Response<proto::Response>, Status> {
        let owner = self.identity(&request).await?;
        let reached_at = request.extensions().get::<Reached>().and_then(|reached| reached.at);
        let message = request.into_inner();
        let uid = ask::uid(&message.uid)?;
        let request = async {
            // Before anything else: whoever asks twice learns that the first time counts, however mistaken the second is.
            self.0.table.vacant(uid)?;
            self.0.request(owner.clone(), self.ask(uid, message)?, reached_at).await
        };
        let (session, hello) = request.await.inspect_err(|error| {
            if !matches!(error, SessionError::AlreadyExists(_)) {
                self.0.table.refuse(uid, &owner, causes(error));
            }
        })?;
        Ok(Response::new(proto::Response {
            listeners: texts(&session.listeners),
            prod_listeners: hello.prod_listeners,
            r#type: session.ask.server.kind().to_string(),
        }))
    }

    async fn update(&self, request: Request<proto::UpdateTargets>) -> Result<Response<proto::Response>, Status> {
        let owner = self.identity(&request).await?;
        let message = request.into_inner();
        let uid = ask::uid(&message.uid)?;
        let role = ask::role(&message.role)?;
        let targets = ask::targets(&message.remote_listeners, self.most_texts())?;
        let (session, targets) = self.0.update(&owner, uid, role, &targets).await?;
        Ok(Response::new(proto::Response {
            listeners: texts(&session.listeners),
            prod_listeners: texts(&targets),
            r#type: session.ask.server.kind().to_string(),
        }))
    }

    async fn release(&self, request: Request<proto::Release>) -> Result<Response<proto::Response>, Status> {
        let owner = self.identity(&request).await?;
        let uid = ask::uid(&request.into_inner().uid)?;
        self.0.release(&owner, uid).await?;
        Ok(Response::new(proto::Response::default()))
    }

    async fn hello(&self, request: Request<proto::Hello>) -> Result<Response<proto::AppResponse>, Status> {
        let owner = self.identity(&request).await?;
        let message = request.into_inner();
        let uid = ask::uid(&message.uid)?;
        // Anything but a producer is a consumer to the reference, too.
        let producer = message.role.parse() == Ok(Role::Producer);
        // They come back as targets, or not at all: what they are matters then.
        ask::bounded(&message.prod_listeners, self.most_texts())?;
        let mut prod_listeners = if producer { message.prod_listeners } else { Vec::new() };
        prod_listeners.retain(|text| !ask::is_empty(text));
        let session = self.0.hello(&owner, uid, Hello { prod_listeners }).await?;
        let (message, listeners) = if producer {
            ("Sending Prod listeners...", Vec::new())
        } else {
            ("Sending listeners...", texts(&session.listeners))
        };
        Ok(Response::new(proto::AppResponse { message: message.into(), listeners }))
    }
}

impl Service {
    /// What this server uses. Looks at every program's files, which is not for the thread of all requests.
    async fn usage(&self, begin_peak: bool) -> Option<gateway::Usage> {
        let meter = Arc::clone(&self.0.usage);
        let look = move || {
            if begin_peak {
                meter.begin_peak();
            }
            meter.report()
        };
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    fn most_texts(&self) -> usize {
        self.0.ports.map().count().max(MOST_TEXTS)
    }
}

#[tonic::async_trait]
impl gateway::gateway_server::Gateway for Service {
    async fn status(&self, request: Request<gateway::StatusRequest>) -> Result<Response<gateway::StatusReply>, Status> {
        let owner = self.identity(&request).await?;
        let gateway::StatusRequest { uid, begin_peak } = request.into_inner();
        let sessions = if uid.is_empty() {
            self.0.table.all().into_iter().filter(|session| session.owner == owner).collect()
        } else {
            let session = self.0.table.find(ask::uid(&uid)?, &owner)?;
            session.attend();
            vec![session]
        };
        let ports = ControlServer(Arc::clone(&self.0)).ports();
        let enforce_rate = self.0.config.enforce_rate;
        Ok(Response::new(gateway::StatusReply {
            version: env!("CARGO_PKG_VERSION").into(),
            types: self.0.types().iter().map(ToString::to_string).collect(),
            ports_free: ports.free.try_into().unwrap_or(u32::MAX),
            ports_total: ports.total.try_into().unwrap_or(u32::MAX),
            sessions: sessions.into_iter().map(|session| session.report(enforce_rate).into()).collect(),
            sessions_total: self.0.table.count(),
            usage: self.usage(begin_peak).await,
        }))
    }
}
