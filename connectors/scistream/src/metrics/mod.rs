//! How a control server fares, for Prometheus.
//!
//! Nothing is counted for it: sessions are looked at when somebody asks. What a session counted goes with it.

mod families;
mod serve;

use std::sync::Arc;

use prometheus_client::registry::Registry;

use self::families::Families;
use crate::ControlServer;
use crate::control::{PortsReport, SessionReport};

/// What Prometheus can ask about a control server.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
}

/// All that is told, as of one instant.
struct Snapshot {
    sessions: Vec<SessionReport>,
    ports: PortsReport,
}

impl Metrics {
    /// Of this control server.
    pub fn of(server: &ControlServer) -> Self {
        let server = server.clone();
        Self::looking(move || Snapshot { sessions: server.sessions(), ports: server.ports() })
    }

    fn looking(look: impl Fn() -> Snapshot + Send + Sync + 'static) -> Self {
        let mut registry = Registry::with_prefix("scistream");
        registry.register_collector(Box::new(Families(look)));
        Self { registry: Arc::new(registry) }
    }
}
