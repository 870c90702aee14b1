//! How data servers forward.

use std::num::NonZero;

use scistream::dataserver::{
    Congestion, DataServerSettings, DataServerType, ForwardOptions, MOST_AHEAD, MOST_STRIPES, data_server,
};

use crate::options::{OptionError, data_server_type};
use crate::units::{Seconds, Size};

const HEADING: &str = "Data servers";

/// Those that need nothing but psbench, which may be asked for where nobody says which.
const OWN: [DataServerType; 4] =
    [DataServerType::Copy, DataServerType::Splice, DataServerType::Tls, DataServerType::Quic];

/// How data servers forward, where a session asks for nothing else.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct DataOptions {
    /// What forwards where a user client asks for nothing else: copy, splice, sockmap, quic, tls, haproxy, stunnel or nginx
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "copy", value_parser = data_server_type)]
    kind: DataServerType,

    /// Others that may be asked for: types between commas, `all` that work here, or `none` [default: copy, splice, tls and quic, where
    /// they work]
    #[arg(long, value_name = "TYPES", value_parser = allowed)]
    allow_type: Option<Allowed>,

    /// The most that is held of a connection, each way
    #[arg(long, value_name = "SIZE", default_value = "10MB")]
    buffer_size: Size,

    /// Of the kernel's buffers of each socket, each way [default: the kernel tunes them]
    #[arg(long, value_name = "SIZE")]
    socket_buffer: Option<Size>,

    /// TCP congestion control: auto (by each leg's round-trip time), system, or a name
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = congestion)]
    congestion: Congestion,

    /// How long a target may take to accept a connection
    #[arg(long, value_name = "SECONDS", default_value = "5s")]
    connect_timeout: Seconds,

    /// End a connection on which nothing went either way for so long [default: never]
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<Seconds>,

    /// Connections to the other gateway that are made ahead of time, for each port, up to 64; quic keeps 16 at most. With copy,
    /// splice and sockmap they go on to the target at once, where they are idle until a client comes
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(MOST_AHEAD)))]
    preconnect: u32,

    /// Connections to the other gateway that carry one stream together, where that is psbench's, too, up to 32
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_STRIPES)))]
    stripes: u32,

    /// Threads that forward [default: as many as there are cores]
    #[arg(long, value_name = "N")]
    pub(super) data_threads: Option<NonZero<usize>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    All,
    These(Vec<DataServerType>),
}

impl DataOptions {
    pub(super) fn default_type(&self) -> DataServerType {
        self.kind
    }

    /// Those that may be asked for. One that was named and does not work is left to the control server to refuse.
    pub(super) fn types(&self, settings: &DataServerSettings) -> Vec<DataServerType> {
        let works = |kind: &DataServerType| data_server(*kind, settings).is_ok_and(|server| server.check().is_ok());
        match &self.allow_type {
            None => OWN.into_iter().filter(works).collect(),
            Some(Allowed::All) => DataServerType::ALL.into_iter().filter(works).collect(),
            Some(Allowed::These(kinds)) => kinds.clone(),
        }
    }

    pub(super) fn forwarding(&self) -> Result<ForwardOptions, OptionError> {
        let bytes = |option, size: Size| match usize::try_from(size.bytes()) {
            Ok(bytes) if bytes > 0 => Ok(bytes),
            _ => Err(OptionError::invalid(option, &size, "write an amount of memory above 0, such as 10MB")),
        };
        Ok(ForwardOptions {
            buffer_size: bytes("--buffer-size", self.buffer_size)?,
            socket_buffer: self.socket_buffer.map(|size| bytes("--socket-buffer", size)).transpose()?,
            congestion: self.congestion.clone(),
            connect_timeout: self.connect_timeout.duration(),
            idle_timeout: self.idle_timeout.map(Seconds::duration),
            preconnect: self.preconnect as usize,
            stripes: self.stripes as usize,
        })
    }
}

fn allowed(text: &str) -> Result<Allowed, String> {
    match text {
        "all" => Ok(Allowed::All),
        "none" => Ok(Allowed::These(Vec::new())),
        types => {
            let kinds = types.split(',').map(|kind| data_server_type(kind.trim())).collect::<Result<_, _>>();
            kinds.map(Allowed::These).map_err(|error| error.to_string())
        }
    }
}

fn congestion(text: &str) -> Result<Congestion, String> {
    match text {
        "auto" => Ok(Congestion::Auto),
        "system" => Ok(Congestion::System),
        name if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
            Ok(Congestion::Named(name.to_owned()))
        }
        _ => Err("expected auto, system, or a name of /proc/sys/net/ipv4/tcp_available_congestion_control".to_owned()),
    }
}
