//! Data servers (S2DS): what forwards the connections of a session's listeners to their targets.
//!
//! One trait, [`DataServer`]; one module for each type; one conformance suite, [`conformance`](crate::conformance), that all of them
//! pass.

mod copy;
pub(crate) mod door;
mod external;
mod identity;
mod in_process;
mod quic;
mod registry;
mod sockmap;
mod splice;
#[doc(hidden)]
pub mod stripes;
mod tls;
mod udp;

use std::fmt;
use std::io;
use std::str::FromStr;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use self::copy::Copy;
pub use self::external::{External, end_leftovers};
pub use self::quic::Quic;
pub use self::registry::{DataServerSettings, data_server};
pub use self::sockmap::{SOCKMAP_CONNECTIONS, Sockmap};
pub use self::splice::Splice;
pub use self::tls::Tls;
#[doc(hidden)]
pub use self::tls::read_records;
pub use crate::forward::{
    Congestion, ForwardOptions, ForwardPlan, Forwarding, Lane, MOST_AHEAD, MOST_STRIPES, Meter, ReservedPort,
    SECRET_LEN, Secret, Target, Traffic, Transport,
};

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
