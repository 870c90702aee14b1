//! The dispatcher's view of a cluster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::super::{Broker, BrokerConfig, BrokerError, MessageFormat, Publisher, Route, Subscriber};
use super::KafkaSettings;
use super::cluster::Cluster;
use super::publisher::KafkaPublisher;
use super::subscriber::subscribe;
use crate::environment::BrokerInfo;

struct KafkaBroker(Arc<Cluster>);

/// Topics that trials of this process made and did not delete yet.
static TOPICS: Mutex<Vec<(Weak<Cluster>, String)>> = Mutex::new(Vec::new());

fn topics() -> MutexGuard<'static, Vec<(Weak<Cluster>, String)>> {
    TOPICS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deletes the topics of trials that do not come to it; for a process that is about to exit.
pub(crate) fn abandon() {
    for (cluster, topic) in std::mem::take(&mut *topics()) {
        if let Some(Err(error)) = cluster.upgrade().map(|cluster| cluster.delete(&topic)) {
            tracing::warn!("{error}");
        }
    }
}

/// Connects to a cluster.
pub(in super::super) fn open(settings: &KafkaSettings, route: &Route) -> Result<Box<dyn Broker>, BrokerError> {
    Ok(Box::new(KafkaBroker(Arc::new(Cluster::connect(settings, route)?))))
}

/// A publisher to `topic`, which is made where it is missing.
pub(in super::super) fn publisher(settings: &KafkaSettings, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
    Ok(Box::new(KafkaPublisher::connect(settings, topic)?))
}

impl Broker for KafkaBroker {
    fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscriber>, BrokerError> {
        // Those of other programs' streams are theirs.
        if self.0.settings.format == MessageFormat::Psbench {
            topics().push((Arc::downgrade(&self.0), topic.to_owned()));
        }
        Ok(Box::new(subscribe(&self.0, topic)?))
    }

    fn config(&self) -> BrokerConfig {
        BrokerConfig::Kafka(self.0.settings.clone())
    }

    fn delete(&self, topic: &str) -> Result<(), BrokerError> {
        topics().retain(|(_, made)| made != topic);
        self.0.delete(topic)
    }

    fn info(&self) -> Result<BrokerInfo, BrokerError> {
        /// What decides how a stream fares.
        const SETTINGS: [&str; 10] = [
            "compression.type",
            "default.replication.factor",
            "log.flush.interval.messages",
            "message.max.bytes",
            "min.insync.replicas",
            "num.io.threads",
            "num.network.threads",
            "process.roles",
            "replica.fetch.max.bytes",
            "socket.request.max.bytes",
        ];
        let settings = &self.0.settings;
        let of_broker = self.0.broker_settings()?;
        let known = |key: &str| of_broker.get(key).map(|value| (format!("broker.{key}"), value.clone()));
        let mut configuration: std::collections::BTreeMap<_, _> = SETTINGS.into_iter().filter_map(known).collect();
        configuration
            .extend(settings.recorded().map_err(|error| settings.failed("read the client's settings", error))?);
        configuration.insert("client.librdkafka".into(), rdkafka::util::get_rdkafka_version().1);
        configuration.insert("topic.partitions".into(), settings.partitions.to_string());
        if let Some(replication) = settings.replication {
            configuration.insert("topic.replication".into(), replication.to_string());
        }
        Ok(BrokerInfo {
            name: "kafka".into(),
            version: "unknown".into(),
            address: Some(settings.address()),
            via: None,
            configuration,
        })
    }
}
