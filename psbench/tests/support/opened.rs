//! A broker that was opened, for the conformance suite.

use psbench::brokers::{Broker, BrokerError, Publisher, conformance};

pub(crate) struct Opened(pub(crate) Box<dyn Broker>);

impl conformance::Parts for Opened {
    fn broker(&self) -> &dyn Broker {
        &*self.0
    }

    fn publisher(&self, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
        self.0.config().publisher(topic)
    }
}
