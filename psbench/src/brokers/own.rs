//! Brokers that a program brings with it.

use std::sync::Arc;

use psbench_connectors::Registry;

use super::{Broker, BrokerError, Publisher};

/// Makes the two sides of a broker that psbench does not have.
///
/// A generator runs in a worker process: it must have registered the factory, too.
pub trait BrokerFactory: Send + Sync {
    /// For the dispatcher. `servers` is what the user wrote for `--stream-servers`; may be empty.
    ///
    /// The [`config`](Broker::config) of the broker is a [`BrokerConfig::Own`](super::BrokerConfig::Own) of the same name, with the place
    /// that [`publisher`](Self::publisher) needs.
    fn open(&self, servers: &[String]) -> Result<Box<dyn Broker>, BrokerError>;

    /// For the generator: publishes to `topic`.
    fn publisher(&self, place: &str, topic: &str) -> Result<Box<dyn Publisher>, BrokerError>;
}

/// The brokers that this program has added.
pub static OWN_BROKERS: Registry<dyn BrokerFactory> = Registry::new();

/// The factory of this name, or the error that there is none in this process.
pub(super) fn factory(name: &str) -> Result<Arc<dyn BrokerFactory>, BrokerError> {
    OWN_BROKERS.get(name).ok_or_else(|| BrokerError::Protocol {
        broker: name.into(),
        reason: "this program has no broker of that name: run every worker with the program that has it".into(),
    })
}
