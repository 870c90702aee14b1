//! How data servers forward, whichever they are.

use std::time::Duration;

/// The most connections that carry one stream together.
pub const MOST_STRIPES: u32 = 32;

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
