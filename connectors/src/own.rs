//! Connectors that a program brings with it.

use std::sync::Arc;

use crate::registry::Registry;
use crate::{Connector, ConnectorConfig, ConnectorError, KeySource};

/// Makes connectors of a kind that this crate does not have.
///
/// Once it is [registered](OWN_CONNECTORS), a [`ConnectorConfig::Own`] of its name stands for it wherever a connector is chosen, proxies
/// included. So every process that resolves them must have registered it, too.
pub trait ConnectorFactory: Send + Sync {
    /// For whoever will store objects, under keys of `keys`. `place` is what the user wrote for it, in a form of the connector's own.
    ///
    /// The [`config`](Connector::config) of the connector has the same name, and the place that [`connect`](Self::connect) needs.
    fn open(&self, place: &str, keys: KeySource) -> Result<Arc<dyn Connector>, ConnectorError>;

    /// For whoever resolves objects that another process stored.
    fn connect(&self, place: &str) -> Result<Arc<dyn Connector>, ConnectorError> {
        self.open(place, KeySource::random())
    }

    /// Whether the objects stay where they are when the process that stored them ends.
    fn outlives_process(&self) -> bool {
        false
    }

    /// Whether another process on this host can reach the objects.
    fn reaches_other_processes(&self) -> bool {
        true
    }
}

/// The connectors that this program has added.
pub static OWN_CONNECTORS: Registry<dyn ConnectorFactory> = Registry::new();

/// The factory of this name, or the error that there is none in this process.
pub(crate) fn factory(name: &str) -> Result<Arc<dyn ConnectorFactory>, ConnectorError> {
    OWN_CONNECTORS.get(name).ok_or_else(|| ConnectorError::Unreachable {
        connector: name.into(),
        reason: "this program has no connector of that name: run every worker with the program that stored the object"
            .into(),
    })
}

impl ConnectorConfig {
    /// Of a connector that a program brings with it.
    pub fn own(name: &str, place: impl Into<String>) -> Self {
        Self::Own { name: name.into(), place: place.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_registered_is_an_error() {
        let config = ConnectorConfig::own("nowhere", "x");
        for error in [config.connect().unwrap_err(), config.open(KeySource::random()).unwrap_err()] {
            assert!(error.to_string().starts_with("nowhere: this program has no connector"), "{error}");
        }
        assert!(!config.outlives_process());
    }
}
