//! How sessions fare.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::auth::Identity;
use crate::dataserver::DataServerType;
use crate::forward::{Target, Traffic};
use crate::{Role, proto};

/// How a session fares.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// Which.
    pub uid: Uuid,
    /// The side that this gateway serves.
    pub role: Role,
    /// How far it has come.
    pub stage: SessionStage,
    /// Of data server.
    pub kind: DataServerType,
    /// Whose it is.
    pub identity: Identity,
    /// Where others connect to.
    pub listeners: Vec<Target>,
    /// Where these connections go, one for each listener; empty until they are known.
    pub targets: Vec<Target>,
    /// Since it was requested.
    pub age: Duration,
    /// Asked for, in kb/s; 0: none in particular.
    pub rate_asked: u64,
    /// Over the last seconds, in kb/s, the sum of both ways.
    pub rate_measured: u64,
    /// Whether it is kept to what was asked for.
    pub rate_enforced: bool,
    /// What went through it; `None`: it does not forward, or its data server does not tell.
    pub traffic: Option<Traffic>,
    /// What is wrong with its data server for good.
    pub problem: Option<String>,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionStage {
    /// It waits for hello.
    Requested,
    /// It waits for its targets.
    Greeted,
    /// It forwards.
    Forwarding,
    /// It gives everything back.
    Ended,
}

impl SessionStage {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Greeted => "greeted",
            Self::Forwarding => "forwarding",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for SessionStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which ports of a control server there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortsReport {
    /// That no session has.
    pub free: usize,
    /// In all.
    pub total: usize,
}

pub(crate) fn texts(targets: &[Target]) -> Vec<String> {
    targets.iter().map(Target::to_string).collect()
}

impl From<SessionReport> for proto::gateway::Session {
    fn from(report: SessionReport) -> Self {
        Self {
            uid: report.uid.to_string(),
            role: report.role.to_string(),
            stage: report.stage.to_string(),
            r#type: report.kind.to_string(),
            identity: report.identity.to_string(),
            listeners: texts(&report.listeners),
            targets: texts(&report.targets),
            age_ms: u64::try_from(report.age.as_millis()).unwrap_or(u64::MAX),
            rate_asked: report.rate_asked,
            rate_measured: report.rate_measured,
            rate_enforced: report.rate_enforced,
            traffic: report.traffic.map(Into::into),
            problem: report.problem.unwrap_or_default(),
        }
    }
}

impl From<Traffic> for proto::gateway::Traffic {
    fn from(traffic: Traffic) -> Self {
        let Traffic {
            bytes_to_target,
            bytes_to_client,
            connections_open,
            connections_total,
            connections_refused,
            connections_reset,
            buffered,
            dropped,
        } = traffic;
        Self {
            bytes_to_target,
            bytes_to_client,
            connections_open,
            connections_total,
            connections_refused,
            connections_reset,
            buffered,
            dropped,
        }
    }
}
