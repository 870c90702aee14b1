//! The dispatcher's view of a cluster.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::super::{Broker, BrokerConfig, BrokerError, Publisher, Route, Subscriber};
use super::KafkaSettings;
use super::cluster::Cluster;
use super::publisher::KafkaPublisher;
use super::subscriber::subscribe;
use crate::environment::BrokerInfo;

struct KafkaBroker(Arc<Cluster>);

/// Those of this process.
static CLUSTERS: Mutex<Vec<Weak<Cluster>>> = Mutex::new(Vec::new());

/// Deletes the topics of trials that do not come to it; for a process that is about to exit.
pub(crate) fn abandon() {
    let clusters = std::mem::take(&mut *CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner));
    for cluster in clusters.iter().filter_map(Weak::upgrade) {
        if let Err(error) = cluster.delete_rest() {
            tracing::warn!("{error}");
        }
    }
}

/// Connects to a cluster.
pub(in super::super) fn open(settings: &KafkaSettings, route: &Route) -> Result<Box<dyn Broker>, BrokerError> {
    let cluster = Arc::new(Cluster::connect(settings, route)?);
    CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&cluster));
    Ok(Box::new(KafkaBroker(cluster)))
}

/// A publisher to `topic`, which is made where it is missing.
pub(in super::super) fn publisher(settings: &KafkaSettings, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
    Ok(Box::new(KafkaPublisher::connect(settings, topic)?))
}

impl Broker for KafkaBroker {
    fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscriber>, BrokerError> {
        match subscribe(&self.0, topic) {
            Ok(subscriber) => Ok(Box::new(subscriber)),
            Err(error) => {
                self.0.leave(topic);
                Err(error)
            }
        }
    }

    fn config(&self) -> BrokerConfig {
        BrokerConfig::Kafka(self.0.settings.clone())
    }

    fn delete(&self, topic: &str) -> Result<(), BrokerError> {
        self.0.delete(topic)
    }

    fn delete_rest(&self) -> Result<(), BrokerError> {
        self.0.delete_rest()
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
