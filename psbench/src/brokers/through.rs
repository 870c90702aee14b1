//! A broker that the dispatcher reaches through gateways, while generators reach it directly.

use std::sync::Arc;
use std::time::Duration;

use super::paths::{PathPlan, Paths};
use super::route::Route;
use super::{
    Broker, BrokerChoice, BrokerConfig, BrokerError, ClientStatistics, LagSample, Message, Subscriber, connect,
};
use crate::clock::Nanos;
use crate::environment::BrokerInfo;

struct Through {
    /// Ahead of its way, so that it leaves while there is one.
    broker: Box<dyn Broker>,
    way: Way,
}

/// Connects to a broker over paths of this plan, which end with it.
pub(super) fn open(choice: &BrokerChoice, plan: &PathPlan) -> Result<Box<dyn Broker>, BrokerError> {
    let way = Way { label: choice.to_string(), paths: Paths::new(plan.clone()) };
    let route = Route::Through(Arc::clone(&way.paths));
    let broker = connect(choice, &route).map_err(|error| by_way_of(&way.paths, error))?;
    Ok(Box::new(Through { broker, way }))
}

/// The paths to the broker of this name.
struct Way {
    label: String,
    paths: Arc<Paths>,
}

impl Way {
    /// What the broker answers, over paths of which nobody doubts that they lead there.
    fn ask<T>(&self, ask: impl FnOnce() -> Result<T, BrokerError>) -> Result<T, BrokerError> {
        let wrong = |source| BrokerError::Path { broker: self.label.clone(), source };
        self.paths.renew_if_doubted().map_err(wrong)?;
        ask().map_err(|error| by_way_of(&self.paths, error))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.paths.close();
    }
}

/// An error of a broker, with what else may be why.
fn by_way_of(paths: &Paths, error: BrokerError) -> BrokerError {
    paths.doubt();
    match error {
        BrokerError::Path { .. } => error,
        source => BrokerError::Through { source: Box::new(source), gateways: paths.gateways() },
    }
}

impl Broker for Through {
    fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscriber>, BrokerError> {
        let subscriber = self.way.ask(|| self.broker.subscribe(topic))?;
        Ok(Box::new(ThroughSubscriber { subscriber, paths: Arc::clone(&self.way.paths) }))
    }

    /// Of generators: they are where the broker is.
    fn config(&self) -> BrokerConfig {
        self.broker.config()
    }

    fn delete(&self, topic: &str) -> Result<(), BrokerError> {
        self.way.ask(|| self.broker.delete(topic))
    }

    fn delete_rest(&self) -> Result<(), BrokerError> {
        self.way.ask(|| self.broker.delete_rest())
    }

    fn check(&self, topic: &str, largest: u64) -> Result<Vec<String>, BrokerError> {
        self.way.ask(|| self.broker.check(topic, largest))
    }

    fn subscribers(&self, topic: &str) -> Result<Option<u64>, BrokerError> {
        self.way.ask(|| self.broker.subscribers(topic))
    }

    fn info(&self) -> Result<BrokerInfo, BrokerError> {
        let info = self.way.ask(|| self.broker.info())?;
        Ok(BrokerInfo { via: self.way.paths.info(), ..info })
    }
}

struct ThroughSubscriber {
    subscriber: Box<dyn Subscriber>,
    paths: Arc<Paths>,
}

impl Subscriber for ThroughSubscriber {
    fn receive(&mut self, messages: &mut Vec<Message>, wait: Duration) -> Result<(), BrokerError> {
        self.subscriber.receive(messages, wait).map_err(|error| by_way_of(&self.paths, error))
    }

    fn received_bytes(&self) -> Option<u64> {
        self.subscriber.received_bytes()
    }

    fn lag(&self) -> Option<LagSample> {
        self.subscriber.lag()
    }

    fn may_come(&self, sent_by: Nanos) -> Option<bool> {
        self.subscriber.may_come(sent_by)
    }

    fn statistics(&self) -> Option<ClientStatistics> {
        self.subscriber.statistics()
    }
}
