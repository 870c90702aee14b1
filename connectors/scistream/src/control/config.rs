//! How a control server works.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::PortMap;
use crate::dataserver::{DataServerSettings, DataServerType};
use crate::forward::ForwardOptions;

/// How a control server works.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Where the ports of sessions are bound. Loopback by default.
    pub listener_ip: IpAddr,
    /// The host that others are told to connect to; `None`: [`listener_ip`](Self::listener_ip), or, where that is any, the address at
    /// which the user client reached this server.
    pub advertise: Option<String>,
    /// The ports of sessions, and how others are told of them.
    pub ports: PortMap,
    /// Of data server, for whoever asks for none.
    pub default_type: DataServerType,
    /// The types that may be asked for; the default is one of them in any case.
    pub types: Vec<DataServerType>,
    /// How long a request waits for hello, and hello for a request; that at most 30 seconds.
    pub hello_timeout: Duration,
    /// How long a session that was greeted may wait for its targets, so that whoever forgets about it does not keep ports for ever.
    pub update_timeout: Duration,
    /// The most that a session may last; `None`: until it is released.
    pub max_session: Option<Duration>,
    /// After how long without a byte a session ends; `None`: never. Only where its data server tells of its traffic.
    pub idle_limit: Option<Duration>,
    /// Whether sessions are kept to the rates that they ask for. Then whoever asks for a rate and a type that can't keep to one is
    /// refused.
    pub enforce_rate: bool,
    /// Whether sessions outlive this server: one that is started again with the same directory forwards at the same ports to the same
    /// targets. Connections break meanwhile.
    pub keep_sessions: bool,
    /// What this server takes on, in all.
    pub limits: Limits,
    /// What one identity may have.
    pub quotas: Quotas,
    /// How data servers forward, where a session asks for nothing else.
    pub options: ForwardOptions,
    /// What data servers need. The directory is this server's, too: it is made, for this user alone, and locked.
    pub settings: DataServerSettings,
}

/// What a control server takes on, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once.
    pub sessions: usize,
    /// Hellos that wait for their request.
    pub waiting_hellos: usize,
    /// Connections of clients, handshakes included.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions: 10_000, waiting_hellos: 1000, connections: 2000 }
    }
}

/// What one identity may have at once; `None`: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Sessions.
    pub sessions: Option<usize>,
    /// Ports of all its sessions.
    pub ports: Option<usize>,
    /// The sum of the rates that its sessions ask for, in kb/s. Then each has to ask for one. What goes through them is kept to it with
    /// [`enforce_rate`](ControlConfig::enforce_rate) alone.
    pub rate: Option<u64>,
}

impl ControlConfig {
    /// The defaults: loopback, the reference's ports and timeout, `copy` alone.
    pub fn new(settings: DataServerSettings) -> Self {
        Self {
            listener_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertise: None,
            ports: PortMap::default(),
            default_type: DataServerType::Copy,
            types: Vec::new(),
            hello_timeout: Duration::from_secs(180),
            update_timeout: Duration::from_secs(3600),
            max_session: None,
            idle_limit: None,
            enforce_rate: false,
            keep_sessions: false,
            limits: Limits::default(),
            quotas: Quotas::default(),
            options: ForwardOptions::default(),
            settings,
        }
    }
}
