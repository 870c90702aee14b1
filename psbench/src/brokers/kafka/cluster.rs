//! A cluster as its administrator sees it: whether it answers, its topics, its limits.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker, MetadataTopic};
use rdkafka::producer::{BaseProducer, Producer};

use super::super::{BrokerError, Route};
use super::KafkaSettings;
use super::context::{Context, code_of};
use super::refusals::{NOT_LET_IN, Step, is_of_a_trial};
use super::resolve::create;
use super::settings::MESSAGE_OVERHEAD;

/// Connections to a cluster that neither send nor receive messages.
pub(super) struct Cluster {
    pub(super) settings: KafkaSettings,
    /// How its brokers are reached.
    pub(super) route: Route,
    admin: AdminClient<Context>,
    /// librdkafka tells what is wrong with connections only to who polls, and nobody polls an `AdminClient`'s.
    probe: BaseProducer<Context>,
    /// One of its brokers.
    broker: i32,
    made: Mutex<BTreeMap<String, Made>>,
}

/// A trial's topic that was made here, or may have been. Those of other programs' streams are theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    InUse,
    /// It could not be deleted, or nobody knows whether it was made.
    Left,
}

/// Time for the cluster to answer one request.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Time for a cluster to answer for the first time.
const CONNECT_TIME: Duration = Duration::from_secs(15);

/// What a client may have to tell after one attempt.
const EVENTS: usize = 100;

/// Time for a look whether anything listens at an address.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// Partitions of a topic that can be read: for each, the first offset and that of the message that comes next.
pub(super) type Offsets = Vec<(i64, i64)>;

impl Cluster {
    /// Connects, and sees that every broker can be reached where the cluster says it is.
    pub(super) fn connect(settings: &KafkaSettings, route: &Route) -> Result<Self, BrokerError> {
        let failed = |error| settings.failed("connect", error);
        for (host, port) in &settings.servers {
            route.to(host, *port).map_err(|source| BrokerError::Path { broker: settings.label(), source })?;
        }
        let probe: BaseProducer<Context> = create(settings.client(), route).map_err(failed)?;
        let metadata = first_metadata(settings, route, &probe)?;
        // Who answered is not told of while it is known by its address alone.
        let broker = metadata.brokers().first().map_or(-1, MetadataBroker::id);
        let admin = create(settings.client(), route).map_err(failed)?;
        let cluster =
            Self { settings: settings.clone(), route: route.clone(), admin, probe, broker, made: Mutex::default() };
        metadata.brokers().iter().try_for_each(|broker| cluster.reach(broker))?;
        Ok(cluster)
    }

    /// Sees that a broker can be reached where the cluster says it is.
    fn reach(&self, broker: &MetadataBroker) -> Result<(), BrokerError> {
        let (host, port) = (broker.host(), u16::try_from(broker.port()).unwrap_or(0));
        let (reached, from) = match self.route {
            Route::Direct => (look(host, port).map_err(|error| error.to_string()), "here"),
            // The gateway here takes every connection: that there is a broker behind it shows by its answer.
            Route::Through(_) => {
                let answer = self.describe(ResourceSpecifier::Broker(broker.id()));
                (answer.map(drop).map_err(|error| error.to_string()), "the producer's gateway")
            }
        };
        let Err(why) = reached else { return Ok(()) };
        let reason = format!("the server answers, but says that broker {} is at {host}:{port}", broker.id());
        Err(BrokerError::Kafka {
            broker: self.settings.label(),
            action: "connect".into(),
            source: format!("{reason}, which can't be reached from {from} ({why})").into(),
            remedy: "; correct advertised.listeners in the broker's configuration, or make that name known there"
                .into(),
        })
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(ANSWER_TIME)).operation_timeout(Some(ANSWER_TIME))
    }

    /// Makes a topic where there is none of this name; waits until its partitions can be used, and tells their offsets.
    pub(super) fn topic(&self, name: &str) -> Result<Offsets, BrokerError> {
        if self.partitions(name).map_err(|error| self.settings.failed("look for the topic", error))?.is_none() {
            self.create(name)?;
        } else {
            self.check_limit_of(name)?;
        }
        let until = Instant::now() + ANSWER_TIME;
        loop {
            let error = match self.offsets(name) {
                Ok(offsets) if !offsets.is_empty() => return Ok(offsets),
                // To whoever may not describe a topic the list of all is one without it.
                Ok(_) => self.asked_by_name(name).err().unwrap_or(KafkaError::MetadataFetch(UNKNOWN)),
                Err(error) => error,
            };
            if code_of(&error) == Some(RDKafkaErrorCode::TopicAuthorizationFailed) || Instant::now() >= until {
                return Err(self.settings.failed_at(Step::Look, "read the topic's offsets", name, error));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the cluster says of a topic that is asked for by its name.
    fn asked_by_name(&self, name: &str) -> KafkaResult<()> {
        let metadata = self.probe.client().fetch_metadata(Some(name), ANSWER_TIME)?;
        match metadata.topics().first().and_then(MetadataTopic::error) {
            Some(error) => Err(KafkaError::MetadataFetch(error.into())),
            None => Ok(()),
        }
    }

    /// The offsets of every partition.
    pub(super) fn offsets(&self, topic: &str) -> KafkaResult<Offsets> {
        let partitions = self.partitions(topic)?.unwrap_or(0);
        (0..partitions).map(|partition| self.watermarks(topic, partition)).collect()
    }

    /// The first offset of a partition, and that of the message that comes next.
    pub(super) fn watermarks(&self, topic: &str, partition: i32) -> KafkaResult<(i64, i64)> {
        self.probe.poll(Duration::ZERO);
        self.probe.client().fetch_watermarks(topic, partition, Duration::from_secs(1))
    }

    /// Whether the cluster has a topic of this name.
    pub(super) fn lists(&self, topic: &str) -> KafkaResult<bool> {
        Ok(self.partitions(topic)?.is_some())
    }

    /// How many partitions a topic has; `None` when there is none of this name.
    fn partitions(&self, topic: &str) -> KafkaResult<Option<i32>> {
        // All of them, since a broker may make a topic that is asked for by its name.
        let metadata = self.probe.client().fetch_metadata(None, ANSWER_TIME)?;
        let found = metadata.topics().iter().find(|known| known.name() == topic);
        Ok(found.map(|known| known.partitions().len() as i32).filter(|partitions| *partitions > 0))
    }

    fn create(&self, name: &str) -> Result<(), BrokerError> {
        let settings = &self.settings;
        let replication = TopicReplication::Fixed(settings.replication.map_or(-1, i32::from));
        let partitions = i32::try_from(settings.partitions).unwrap_or(i32::MAX);
        let retention = settings.retention.map(|retention| retention.as_millis().to_string());
        let limit = self.largest_batch()?.map(|limit| limit.to_string());
        let mut topic = NewTopic::new(name, partitions, replication);
        for (key, value) in [("retention.ms", &retention), ("max.message.bytes", &limit)] {
            if let Some(value) = value {
                topic = topic.set(key, value);
            }
        }
        let failed = |error| Err(settings.failed_at(Step::Make, "make the topic", name, error));
        if is_of_a_trial(name) {
            self.made().insert(name.into(), Made::InUse);
        }
        let made = block_on(self.admin.create_topics([&topic], &Self::options()));
        match made.map(|made| made.into_iter().find_map(Result::err)) {
            Ok(None | Some((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Ok(Some((_, code))) => {
                if !may_have_happened(code) {
                    self.made().remove(name);
                }
                failed(KafkaError::AdminOp(code))
            }
            Err(error) => failed(error),
        }
    }

    /// Deletes a topic, where there is one of this name, and with it those that could not be deleted before.
    pub(super) fn delete(&self, name: &str) -> Result<(), BrokerError> {
        let mut names = self.left();
        names.retain(|left| left != name);
        names.push(name.into());
        match self.delete_all(&names).remove(name) {
            Some(error) => Err(self.settings.failed_at(Step::Delete, "delete the topic", name, error)),
            None => Ok(()),
        }
    }

    /// Deletes all topics that were made here and not deleted yet; an error names those that stay.
    pub(super) fn delete_rest(&self) -> Result<(), BrokerError> {
        let names: Vec<_> = self.made().keys().cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let errors = self.delete_all(&names);
        self.made().clear();
        let names: Vec<_> = errors.keys().map(String::as_str).collect();
        let action = format!("topics of trials stay there ({}), which nobody else will delete", names.join(", "));
        match errors.iter().next() {
            Some((name, error)) => Err(self.settings.failed_at(Step::Delete, &action, name, error.clone())),
            None => Ok(()),
        }
    }

    /// Those of these topics that are not deleted, and why.
    fn delete_all(&self, names: &[String]) -> BTreeMap<String, KafkaError> {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let deleted = block_on(self.admin.delete_topics(&names, &Self::options()));
        let gone = |code: &RDKafkaErrorCode| *code == RDKafkaErrorCode::UnknownTopicOrPartition;
        let errors: BTreeMap<_, _> = match deleted {
            Err(error) => names.iter().map(|name| ((*name).to_owned(), error.clone())).collect(),
            Ok(topics) => {
                let refused = topics.into_iter().filter_map(Result::err).filter(|(_, code)| !gone(code));
                refused.map(|(name, code)| (name, KafkaError::AdminOp(code))).collect()
            }
        };
        let mut made = self.made();
        for name in names {
            if errors.contains_key(name) && is_of_a_trial(name) {
                made.insert(name.to_owned(), Made::Left);
            } else {
                made.remove(name);
            }
        }
        errors
    }

    /// A topic that nobody will come to delete.
    pub(super) fn leave(&self, name: &str) {
        if let Some(made) = self.made().get_mut(name) {
            *made = Made::Left;
        }
    }

    fn left(&self) -> Vec<String> {
        let made = self.made();
        made.iter().filter(|(_, made)| **made == Made::Left).map(|(name, _)| name.clone()).collect()
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<String, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic's own limit of a batch, where the broker's default is not what the items need.
    fn largest_batch(&self) -> Result<Option<u64>, BrokerError> {
        let needed = self.settings.largest_message + MESSAGE_OVERHEAD;
        let of_broker = self.broker_settings()?;
        let number = |key: &str| of_broker.get(key).and_then(|value| value.parse::<u64>().ok());
        match number(REQUEST_LIMIT) {
            Some(limit) if limit < needed => {
                let way = "in the configuration of every broker (a topic has no such setting)";
                return Err(self.too_small(REQUEST_LIMIT, limit, needed, way));
            }
            _ => {}
        }
        if let Some(wanted) = self.settings.max_message_bytes {
            return Ok(Some(wanted));
        }
        Ok(number("message.max.bytes").is_none_or(|limit| limit < needed).then_some(needed))
    }

    /// Whether a topic that is not of psbench's making takes the items.
    fn check_limit_of(&self, topic: &str) -> Result<(), BrokerError> {
        const LIMIT: &str = "max.message.bytes";
        let needed = self.settings.largest_message + MESSAGE_OVERHEAD;
        let Some(described) = self.describe(ResourceSpecifier::Topic(topic))? else { return Ok(()) };
        let limit = described.get(LIMIT).and_then(|entry| entry.value.as_ref()?.parse::<u64>().ok());
        match limit {
            Some(limit) if limit < self.settings.largest_message => Err(self.too_small(
                LIMIT,
                limit,
                needed,
                "for the topic (kafka-configs.sh --alter --entity-type topics)",
            )),
            _ => Ok(()),
        }
    }

    fn too_small(&self, setting: &str, limit: u64, needed: u64, place: &str) -> BrokerError {
        BrokerError::Kafka {
            broker: self.settings.label(),
            action: "prepare the topic".into(),
            source: format!("its {setting} is {limit}, and the items in full need {needed}").into(),
            remedy: format!("; set {setting}={needed} {place}, or use --stream-method proxy"),
        }
    }

    /// The settings of one broker; empty where we may not read them.
    pub(super) fn broker_settings(&self) -> Result<BTreeMap<String, String>, BrokerError> {
        let described = self.describe(ResourceSpecifier::Broker(self.broker))?;
        let entries = described.into_iter().flat_map(|resource| resource.entries).filter(|entry| !entry.is_sensitive);
        Ok(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }

    fn describe(&self, of: ResourceSpecifier<'_>) -> Result<Option<ConfigResource>, BrokerError> {
        let described = block_on(self.admin.describe_configs([&of], &Self::options()));
        match described {
            Ok(resources) => Ok(resources.into_iter().find_map(Result::ok)),
            Err(error) => Err(self.settings.failed("read the broker's settings", error)),
        }
    }
}

/// Whether a topic may be there although a broker answered that it could not be made.
fn may_have_happened(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::RequestTimedOut
            | Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::NotController
            | Code::NetworkException
            | Code::Unknown
    )
}

/// Said of a topic that is not in the list of all.
const UNKNOWN: RDKafkaErrorCode = RDKafkaErrorCode::UnknownTopicOrPartition;

/// What bounds every request to a broker, whatever the topic.
const REQUEST_LIMIT: &str = "socket.request.max.bytes";

/// The cluster's first answer, or why there is none.
fn first_metadata(
    settings: &KafkaSettings,
    route: &Route,
    probe: &BaseProducer<Context>,
) -> Result<Metadata, BrokerError> {
    let until = Instant::now() + CONNECT_TIME;
    let mut wait = Duration::from_millis(500);
    let error = loop {
        let answer = probe.client().fetch_metadata(None, wait);
        // One event each, of which most are only logged.
        (0..EVENTS).for_each(|_| probe.poll(Duration::ZERO));
        match answer {
            Ok(metadata) => return Ok(metadata),
            Err(error) if Instant::now() >= until || probe.context().refusal().is_some() => break error,
            // Nothing listens, which does not get better by waiting.
            Err(error) if not_there(settings, route).is_some() => break error,
            // A request that was given up is not answered: a cluster that is busy gets longer for the next one.
            Err(_) => wait *= 2,
        }
    };
    let (source, remedy) = match (probe.context().refusal(), not_there(settings, route)) {
        (Some(refusal), _) => (refusal, NOT_LET_IN),
        (None, Some(why)) => (why, "; start one (`psbench services up kafka`), or correct --stream-servers"),
        (None, None) if !route.is_direct() => (
            format!(
                "no answer came within {CONNECT_TIME:.0?} ({})",
                probe.context().trouble().unwrap_or_else(|| error.to_string())
            ),
            "; is it running, does the producer's gateway reach it by that address, and does --kafka-option security.protocol fit?",
        ),
        (None, None) => (
            format!(
                "something listens there, but did not answer as Kafka does within {CONNECT_TIME:.0?} ({})",
                probe.context().trouble().unwrap_or_else(|| error.to_string())
            ),
            "; is it a Kafka broker, and does --kafka-option security.protocol fit its listener?",
        ),
    };
    Err(BrokerError::Kafka {
        broker: settings.label(),
        action: "connect".into(),
        source: source.into(),
        remedy: remedy.into(),
    })
}

/// Why no server can be reached; `None` when one can, or when nobody can tell from here.
fn not_there(settings: &KafkaSettings, route: &Route) -> Option<String> {
    if !route.is_direct() {
        return None;
    }
    let mut why = None;
    for (host, port) in &settings.servers {
        match look(host, *port) {
            Ok(()) => return None,
            Err(error) => why = Some(format!("no broker at {host}:{port} ({error})")),
        }
    }
    why
}

/// Whether anything listens at an address.
fn look(host: &str, port: u16) -> std::io::Result<()> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, LOOK_TIME) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}
