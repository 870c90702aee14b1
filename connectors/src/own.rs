//! Connectors that a program brings with it.

use std::fmt;
use std::sync::Arc;

use crate::address::Location;
use crate::registry::Registry;
use crate::{Connector, ConnectorError, ConnectorSpec, KeySource};

/// Makes connectors of a kind that this crate does not have.
///
/// Once it is [registered](OWN_CONNECTORS), its name stands for it wherever a connector is chosen, and in proxies. So every process that
/// resolves them must have registered it, too.
pub trait ConnectorFactory: Send + Sync {
    /// For whoever will store objects, under keys of `keys`. `place` is what the user wrote for it, in a form of the connector's own.
    ///
    /// The [`address`](Connector::address) of the connector is [one of the same name](crate::Address::own), with the place that
    /// [`connect`](Self::connect) needs.
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

/// What a connector of a program's own needs to find its objects.
pub(crate) struct OwnLocation {
    pub(crate) name: String,
    pub(crate) place: String,
}

impl fmt::Display for OwnLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Location for OwnLocation {
    fn connector(&self) -> &str {
        &self.name
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        factory(&self.name)?.connect(&self.place)
    }

    fn outlives_process(&self) -> bool {
        OWN_CONNECTORS.get(&self.name).is_some_and(|own| own.outlives_process())
    }
}

impl ConnectorSpec {
    /// Of a connector that a program brings with it.
    pub fn own(name: &str, place: impl Into<String>) -> Self {
        Self::Own { name: name.into(), place: place.into() }
    }
}
