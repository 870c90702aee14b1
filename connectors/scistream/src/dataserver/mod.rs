//! Data servers (S2DS): what forwards the connections of a session's listeners to their targets.
//!
//! One trait, [`DataServer`]; one module for each type; one conformance suite, [`conformance`](crate::conformance), that all of them
//! pass. At the producer's gateway (`PROD`, inbound) a session accepts what comes from the other gateway and connects to the
//! application; at the consumer's (`CONS`, outbound) it accepts the application's connections and connects to the other gateway. The leg
//! between the gateways is the *WAN leg*, the other one the *LAN leg*.

mod copy;
pub(crate) mod door;
mod external;
mod identity;
mod in_process;
mod meter;
mod port;
mod quic;
mod registry;
mod secret;
mod sockmap;
mod splice;
#[doc(hidden)]
pub mod stripes;
mod target;
mod tls;
mod udp;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::copy::Copy;
pub use self::external::{External, end_leftovers};
pub(crate) use self::meter::{Held, Way};
pub use self::meter::{Meter, Traffic};
pub use self::port::ReservedPort;
pub use self::quic::Quic;
pub use self::registry::{DataServerSettings, data_server};
pub use self::secret::{SECRET_LEN, Secret};
pub use self::sockmap::{SOCKMAP_CONNECTIONS, Sockmap};
pub use self::splice::Splice;
pub use self::target::Target;
pub use self::tls::Tls;
#[doc(hidden)]
pub use self::tls::read_records;
use crate::Role;

/// A type of data server, as `--type` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataServerType {
    /// In user space, through bounded buffers.
    Copy,
    /// In the kernel, through pipes: splice(2).
    Splice,
    /// In the kernel, from socket to socket: eBPF.
    Sockmap,
    /// QUIC between the gateways.
    Quic,
    /// TLS 1.3 between the gateways.
    Tls,
    /// HAProxy, as a process.
    Haproxy,
    /// stunnel, as a process.
    Stunnel,
    /// nginx, as a process.
    Nginx,
}

impl DataServerType {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Copy, Self::Splice, Self::Sockmap, Self::Quic, Self::Tls, Self::Haproxy, Self::Stunnel, Self::Nginx];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::Sockmap => "sockmap",
            Self::Quic => "quic",
            Self::Tls => "tls",
            Self::Haproxy => "haproxy",
            Self::Stunnel => "stunnel",
            Self::Nginx => "nginx",
        }
    }

    /// Whether a program of its own forwards.
    pub fn is_program(self) -> bool {
        matches!(self, Self::Haproxy | Self::Stunnel | Self::Nginx)
    }
}

impl fmt::Display for DataServerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DataServerType {
    type Err = DataServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| DataServerError::Unknown(text.into()))
    }
}

/// One type of data server. A control server calls it, from many tasks at once.
pub trait DataServer: Send + Sync + 'static {
    /// Which it is.
    fn kind(&self) -> DataServerType;

    /// Whether kernel, rights and programs are there. Called before a control server offers the type.
    ///
    /// # Errors
    /// [`DataServerError::Unavailable`]: what is missing, and how to get it.
    fn check(&self) -> Result<(), DataServerError>;

    /// Whether it can keep a session to a rate.
    fn enforces_rate(&self) -> bool;

    /// Whether it can forward UDP.
    fn forwards_udp(&self) -> bool;

    /// What of these options it can't do, and what to do instead, as it is said of it; `None`: it can.
    fn refuses(&self, _options: &ForwardOptions, _transport: Transport) -> Option<String> {
        None
    }

    /// Starts to forward. Once it returns, every listener accepts. Nothing stays behind if it is dropped or fails.
    fn start(&self, plan: ForwardPlan) -> BoxFuture<'_, Result<Box<dyn Forwarding>, DataServerError>>;
}

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

/// The most connections that carry one stream together.
pub const MOST_STRIPES: u32 = stripes::preamble::MOST as u32;

/// The most connections of a lane that are made ahead of time; `quic`, whose connections carry many streams each, keeps 16.
pub const MOST_AHEAD: u32 = 64;

/// How data servers forward, whichever they are.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// The most that is held of one connection, each way, in bytes.
    pub buffer_size: usize,
    /// `SO_SNDBUF` and `SO_RCVBUF` of each socket, in bytes; `None`: the kernel tunes them.
    pub socket_buffer: Option<usize>,
    /// Which congestion control senders use.
    pub congestion: Congestion,
    /// How long a target may take to accept a connection, over all attempts.
    pub connect_timeout: Duration,
    /// After how long without a byte either way a connection is ended; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Connections of the WAN leg that are made ahead of time, for each lane.
    pub preconnect: usize,
    /// Connections of the WAN leg that carry one stream together; 1: as it is.
    pub stripes: usize,
}

impl Default for ForwardOptions {
    fn default() -> Self {
        Self {
            buffer_size: 10_000_000,
            socket_buffer: None,
            congestion: Congestion::default(),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: None,
            preconnect: 0,
            stripes: 1,
        }
    }
}

/// Which congestion control the senders of a data server use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// By each leg's round-trip time: one that does not pace where it is short, the system's own elsewhere.
    #[default]
    Auto,
    /// The system's.
    System,
    /// This one, as `tcp_available_congestion_control` names it.
    Named(String),
}

/// Why a data server does not work.
#[derive(Debug, thiserror::Error)]
pub enum DataServerError {
    /// No such type.
    #[error(
        "no such type of data server: {0:?}; there are copy, splice, sockmap, quic, tls, haproxy, stunnel and nginx"
    )]
    Unknown(String),
    /// It can't work on this host.
    #[error("data server {kind} can't work here: {problem}")]
    Unavailable {
        /// Which.
        kind: DataServerType,
        /// What is missing, and how to get it.
        problem: String,
    },
    /// It can't do what the plan wants of it.
    #[error("data server {kind} {problem}")]
    Unsupported {
        /// Which.
        kind: DataServerType,
        /// What it can't, and what to do instead.
        problem: String,
    },
    /// It did not start.
    #[error("data server {kind}: {what}")]
    Start {
        /// Which.
        kind: DataServerType,
        /// At what.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}
