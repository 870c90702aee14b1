//! A broker that was opened, for the conformance suite.

use std::sync::Mutex;

use psbench::brokers::{Broker, BrokerError, Publisher, conformance};

pub(crate) struct Opened {
    broker: Box<dyn Broker>,
    topics: Mutex<Vec<String>>,
}

impl Opened {
    pub(crate) fn new(broker: Box<dyn Broker>) -> Self {
        Self { broker, topics: Mutex::default() }
    }

    /// Those that something was published to.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics.lock().unwrap().clone()
    }
}

impl conformance::Parts for Opened {
    fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    fn publisher(&self, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
        self.topics.lock().unwrap().push(topic.into());
        self.broker.config().publisher(topic)
    }
}
