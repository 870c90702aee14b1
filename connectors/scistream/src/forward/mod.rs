//! What a session forwards, and what is counted of it: the terms that data servers and the [relay](crate::relay) below them share.
//!
//! At the producer's gateway (`PROD`, inbound) a session accepts what comes from the other gateway and connects to the application; at
//! the consumer's (`CONS`, outbound) it accepts the application's connections and connects to the other gateway. The leg between the
//! gateways is the *WAN leg*, the other one the *LAN leg*.

mod meter;
mod options;
mod port;
mod secret;
mod target;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use self::meter::{Held, Open, Way};
pub use self::meter::{Meter, Traffic};
pub use self::options::{Congestion, ForwardOptions, MOST_AHEAD, MOST_STRIPES};
pub use self::port::ReservedPort;
pub use self::secret::{SECRET_LEN, Secret};
pub use self::target::Target;
use crate::Role;

/// A session's data server at work. Dropping it ends it too, as fast as that goes.
pub trait Forwarding: Send + Sync + 'static {
    /// What went through it; `None` where it does not tell.
    fn traffic(&self) -> Option<Traffic>;

    /// What is wrong with it for good, in a line; `None`: nothing.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Ends all connections and gives up the ports: once this returns they can be bound again, and no process, task, descriptor or file
    /// is left.
    fn release(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// What a session is to forward.
#[derive(Debug)]
pub struct ForwardPlan {
    /// The session.
    pub uid: Uuid,
    /// The side: `PROD` accepts from the other gateway, `CONS` connects to it.
    pub role: Role,
    /// Listeners and their targets.
    pub lanes: Vec<Lane>,
    /// What the listeners accept.
    pub transport: Transport,
    /// What both gateways of this session know.
    pub secret: Secret,
    /// How.
    pub options: ForwardOptions,
    /// Kept to by all connections of the session together, each way for itself, in bits/s; `None`: unlimited.
    pub rate: Option<u64>,
    /// Counts what goes through.
    pub meter: Arc<Meter>,
}

/// One listener and where its connections go.
#[derive(Debug)]
pub struct Lane {
    /// Where connections come in.
    pub port: ReservedPort,
    /// Where they go.
    pub target: Target,
}

/// What a session carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}
