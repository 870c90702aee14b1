//! How sessions fare.

use scistream::proto::gateway::{Session, StatusReply, Traffic, Usage};
use serde::Serialize;
use uuid::Uuid;

use super::access::Access;
use super::output::print_json;
use super::{S2ucError, unless_interrupted};
use crate::cli::gateway::underscores_too;
use crate::cli::{Ending, print};
use crate::report;

/// `status`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct StatusRequest {
    /// The session [default: all of whoever asks]
    #[arg(value_name = "UID")]
    uid: Option<Uuid>,

    #[command(flatten)]
    access: Access,

    /// Print JSON: version, types, ports_free, ports_total, sessions, sessions_total, usage
    #[arg(long)]
    json: bool,
}

impl StatusRequest {
    pub(super) async fn run(self) -> Result<Ending, S2ucError> {
        let way = self.access.way()?;
        let client = way.connect().await?;
        let work = async { client.status(self.uid).await.map_err(|error| way.explain(error).into()) };
        let Some(reply) = unless_interrupted(work, async {}).await? else { return Ok(Ending::Interrupted) };
        if self.json {
            print_json(&ServerStatus::from(reply))?;
        } else {
            print(report::gateway(&reply))?;
        }
        Ok(Ending::Success)
    }
}

/// What a control server tells, for machines. Fields as in its protocol; rates in kb/s.
#[derive(Serialize)]
struct ServerStatus {
    version: String,
    types: Vec<String>,
    ports_free: u32,
    ports_total: u32,
    sessions: Vec<SessionStatus>,
    /// Those of others included.
    sessions_total: u64,
    /// Absent where the server does not tell.
    usage: Option<ServerUsage>,
}

/// Of the control server and the programs that forward for it.
#[derive(Serialize)]
struct ServerUsage {
    began_us: u64,
    cpu_ns: u64,
    peak_memory_bytes: u64,
}

#[derive(Serialize)]
struct SessionStatus {
    uid: String,
    role: String,
    stage: String,
    #[serde(rename = "type")]
    kind: String,
    identity: String,
    listeners: Vec<String>,
    targets: Vec<String>,
    age_ms: u64,
    rate_asked: u64,
    rate_measured: u64,
    rate_enforced: bool,
    /// Absent where the data server does not tell.
    traffic: Option<TrafficStatus>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct TrafficStatus {
    bytes_to_target: u64,
    bytes_to_client: u64,
    connections_open: u64,
    connections_total: u64,
    connections_refused: u64,
    connections_reset: u64,
    buffered: u64,
    dropped: u64,
}

impl From<StatusReply> for ServerStatus {
    fn from(reply: StatusReply) -> Self {
        let StatusReply { version, types, ports_free, ports_total, sessions, sessions_total, usage } = reply;
        let sessions = sessions.into_iter().map(Into::into).collect();
        Self { version, types, ports_free, ports_total, sessions, sessions_total, usage: usage.map(Into::into) }
    }
}

impl From<Usage> for ServerUsage {
    fn from(usage: Usage) -> Self {
        let Usage { began_us, cpu_ns, peak_memory_bytes } = usage;
        Self { began_us, cpu_ns, peak_memory_bytes }
    }
}

impl From<Session> for SessionStatus {
    fn from(session: Session) -> Self {
        Self {
            uid: session.uid,
            role: session.role,
            stage: session.stage,
            kind: session.r#type,
            identity: session.identity,
            listeners: session.listeners,
            targets: session.targets,
            age_ms: session.age_ms,
            rate_asked: session.rate_asked,
            rate_measured: session.rate_measured,
            rate_enforced: session.rate_enforced,
            traffic: session.traffic.map(Into::into),
            problem: Some(session.problem).filter(|problem| !problem.is_empty()),
        }
    }
}

impl From<Traffic> for TrafficStatus {
    fn from(traffic: Traffic) -> Self {
        Self {
            bytes_to_target: traffic.bytes_to_target,
            bytes_to_client: traffic.bytes_to_client,
            connections_open: traffic.connections_open,
            connections_total: traffic.connections_total,
            connections_refused: traffic.connections_refused,
            connections_reset: traffic.connections_reset,
            buffered: traffic.buffered,
            dropped: traffic.dropped,
        }
    }
}
