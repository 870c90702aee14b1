//! In place of Kafka's clients, where psbench was built without them.

use super::super::{Broker, BrokerError, Publisher, Route};
use super::{KafkaSettings, Refused};

const ABSENT: &str = "this psbench was built without Kafka; build it with `--features kafka`";

pub(in super::super) fn open(settings: &KafkaSettings, _route: &Route) -> Result<Box<dyn Broker>, BrokerError> {
    Err(absent(settings))
}

pub(in super::super) fn publisher(settings: &KafkaSettings, _topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
    Err(absent(settings))
}

pub(crate) fn abandon() {}

fn absent(settings: &KafkaSettings) -> BrokerError {
    BrokerError::Protocol { broker: settings.label(), reason: ABSENT.into() }
}

impl KafkaSettings {
    /// Nothing can be made of these settings.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        Err(Refused { key: String::new(), problem: ABSENT.into() })
    }
}
