//! Control servers that do as the reference's do, for the tests that ask for them.

#[path = "../../../../connectors/scistream/tests/control/double.rs"]
#[allow(dead_code, reason = "the rest is for scistream's own tests")]
mod double;

use std::time::Duration;

use tokio::runtime::Runtime;

/// Ports of sessions, none of which is ever given back.
const PORTS: u16 = 64;

/// A control server, without TLS. Runs until it is dropped.
pub(crate) struct Reference {
    double: double::Double,
    _runtime: Runtime,
}

impl Reference {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let double = runtime.block_on(double::Double::start(PORTS, Duration::ZERO, None));
        Self { double, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> String {
        self.double.address.to_string()
    }

    /// What it was asked, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.double.calls()
    }
}
