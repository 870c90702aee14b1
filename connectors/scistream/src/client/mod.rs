//! The user client (S2UC): asks control servers for sessions, psbench's and the reference implementation's.
//!
//! [`UserClient`] speaks to one control server: [`inbound`](UserClient::inbound) and [`outbound`](UserClient::outbound) make either half
//! of a path. [`connect_path`] makes both halves, with a key that the two gateways alone know, and [`HeldPath`] does so for programs that
//! wait, and gives the path back.

mod access;
mod channel;
mod error;
mod held;
mod path;
mod session;
mod told;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use tonic::Code;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub use self::access::{GatewayAccess, GatewayTls, Gateways, Way, Ways};
pub use self::error::ClientError;
pub use self::held::{HeldPath, held_at, release_held_paths};
pub use self::path::{ConnectRequest, ConnectedPath, connect_path, disconnect};
pub use self::session::{Granted, Greeting, SessionRequest, Wishes};
use crate::Role;
use crate::forward::Target;
use crate::proto::control_client::ControlClient;
use crate::proto::gateway::gateway_client::GatewayClient;
use crate::proto::{self, gateway};

/// Ten thousand sessions, with the traffic of many ports each, are no more than that.
const LONGEST_STATUS: usize = 64 << 20;

/// How a user client reaches a control server.
#[derive(Clone)]
pub struct ClientOptions {
    /// Whom to trust, and as whom to come; `None`: without TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The raw value of the `authorization` metadata.
    pub token: Option<String>,
    /// How long connecting, and each request, may take.
    pub time_limit: Duration,
}

impl Default for ClientOptions {
    /// Without TLS and token, with the reference's limit.
    fn default() -> Self {
        Self { tls: None, token: None, time_limit: Duration::from_secs(5) }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, token, time_limit } = self;
        f.debug_struct("ClientOptions")
            .field("tls", &tls.is_some())
            .field("token", &token.is_some())
            .field("time_limit", time_limit)
            .finish()
    }
}

/// A connection to one control server. Clones share it.
#[derive(Clone)]
pub struct UserClient {
    address: Target,
    control: ControlClient<Channel>,
    gateway: GatewayClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
    time_limit: Duration,
}

impl fmt::Debug for UserClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserClient").field("address", &self.address).finish_non_exhaustive()
    }
}

impl UserClient {
    /// Connects to the control server at `host:port`.
    ///
    /// # Errors
    /// It is no such address, nobody is there, or it is not who it ought to be.
    pub async fn connect(address: &str, options: &ClientOptions) -> Result<Self, ClientError> {
        let address: Target = address.parse().map_err(|_| ClientError::Address(address.into()))?;
        let token = match options.token.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => {
                let mut token = MetadataValue::try_from(token).map_err(|_| ClientError::Token)?;
                token.set_sensitive(true);
                Some(token)
            }
            None => None,
        };
        let channel = channel::connect(&address, options).await?;
        Ok(Self {
            address,
            control: ControlClient::new(channel.clone()),
            gateway: GatewayClient::new(channel).max_decoding_message_size(LONGEST_STATUS),
            token,
            time_limit: options.time_limit,
        })
    }

    /// Where it is connected.
    pub fn address(&self) -> &Target {
        &self.address
    }

    /// Asks for ports, and waits for the application's hello.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time.
    pub async fn req(&self, request: &SessionRequest) -> Result<Granted, ClientError> {
        self.req_within(request, self.time_limit).await
    }

    /// As [`req`](Self::req), for as long as this: hello may come from another program, at its leisure.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time.
    pub async fn req_within(&self, request: &SessionRequest, limit: Duration) -> Result<Granted, ClientError> {
        let mut control = self.control.clone();
        let answer = self.call("req", limit, request.to_message(), async |message| control.req(message).await).await?;
        Granted::of(self, "req", answer)
    }

    /// Says hello on behalf of an application: a producer's listens at these addresses.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time.
    pub async fn hello(&self, uid: Uuid, role: Role, listeners: &[Target]) -> Result<Greeting, ClientError> {
        let message = proto::Hello {
            uid: uid.to_string(),
            prod_listeners: listeners.iter().map(Target::to_string).collect(),
            role: role.to_string(),
        };
        let mut control = self.control.clone();
        let answer = self.call("hello", self.time_limit, message, async |message| control.hello(message).await).await?;
        Greeting::of(self, answer)
    }

    /// Starts a session towards these targets. Answers with the target of each listener.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time.
    pub async fn update(&self, uid: Uuid, role: Role, targets: &[Target]) -> Result<Granted, ClientError> {
        let message = proto::UpdateTargets {
            uid: uid.to_string(),
            remote_listeners: targets.iter().map(Target::to_string).collect(),
            role: role.to_string(),
        };
        let mut control = self.control.clone();
        let answer =
            self.call("update", self.time_limit, message, async |message| control.update(message).await).await?;
        Granted::of(self, "update", answer)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time.
    pub async fn release(&self, uid: Uuid) -> Result<(), ClientError> {
        let message = proto::Release { uid: uid.to_string() };
        let mut control = self.control.clone();
        self.call("release", self.time_limit, message, async |message| control.release(message).await).await?;
        Ok(())
    }

    /// How a session fares, or all of this client's. psbench's control servers tell, the reference's does not.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time.
    pub async fn status(&self, uid: Option<Uuid>) -> Result<gateway::StatusReply, ClientError> {
        let uid = uid.map(|uid| uid.to_string()).unwrap_or_default();
        self.ask_status(gateway::StatusRequest { uid, begin_peak: false }).await
    }

    /// As [`status`](Self::status) of all; the peak of memory that it tells of begins anew.
    ///
    /// # Errors
    /// The control server refuses, or does not answer in time.
    pub async fn status_anew(&self) -> Result<gateway::StatusReply, ClientError> {
        self.ask_status(gateway::StatusRequest { uid: String::new(), begin_peak: true }).await
    }

    async fn ask_status(&self, message: gateway::StatusRequest) -> Result<gateway::StatusReply, ClientError> {
        let mut gateway = self.gateway.clone();
        self.call("status", self.time_limit, message, async |message| gateway.status(message).await).await
    }

    async fn call<T, R>(
        &self,
        rpc: &'static str,
        limit: Duration,
        message: T,
        call: impl AsyncFnOnce(Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, ClientError> {
        let mut request = Request::new(message);
        // The server gives up, too.
        request.set_timeout(limit);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        let timed_out = || ClientError::Timeout { address: self.address.clone(), rpc, limit };
        let asked = Instant::now();
        match tokio::time::timeout(limit, call(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            // The server's gRPC library looked at its clock first.
            Ok(Err(status)) if status.code() == Code::Cancelled && asked.elapsed() >= limit => Err(timed_out()),
            Ok(Err(status)) => Err(ClientError::refused(self, rpc, &status)),
            Err(_) => Err(timed_out()),
        }
    }
}
