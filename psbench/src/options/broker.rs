//! The broker of a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use psbench_connectors::redis::RedisKind;

use super::checks::within;
use super::choices::{Named, StreamName, choose_any};
use super::{OptionError, StreamScalingOptions, server};
use crate::brokers::{BrokerChoice, KafkaSettings, LONGEST_TOPIC, OF_A_TRIAL};
use crate::generator::BATCH_BYTES;
use crate::plan::{GeneratorKind, Method};
use crate::units::{Seconds, Size};

const SERVERS: &str = "--stream-servers";
const KAFKA_OPTION: &str = "--kafka-option";

/// More partitions than a cluster has in all are a mistake.
const MOST_PARTITIONS: u32 = 100_000;

impl StreamScalingOptions {
    pub(super) fn broker(&mut self, methods: &[Method], sizes: &[Size]) -> Result<BrokerChoice, OptionError> {
        let broker = self.broker_itself(methods, sizes)?;
        if !*self.stream_via_scistream.get_or_insert(false) {
            return Ok(broker);
        }
        if let BrokerChoice::Memory | BrokerChoice::Own { .. } = broker {
            let problem = "it has no server behind a gateway; use --stream redis, redis-queue or kafka, or leave --stream-via-scistream out";
            return Err(OptionError::invalid("--stream", &broker.name(), problem));
        }
        if let BrokerChoice::Redis { server, .. } | BrokerChoice::RedisQueue { server, .. } = &broker
            && (server.is_local() || server.kind != RedisKind::Server)
        {
            let problem = "a path through gateways leads to one HOST:PORT; name that of the server itself";
            return Err(OptionError::invalid(SERVERS, server, problem));
        }
        let plan = Arc::new(self.path_plan("--stream-via-scistream")?);
        Ok(BrokerChoice::Through { broker: Box::new(broker), plan })
    }

    fn broker_itself(&mut self, methods: &[Method], sizes: &[Size]) -> Result<BrokerChoice, OptionError> {
        match choose_any(self.stream.get_or_insert_with(|| "memory".into()))? {
            Named::Ours(StreamName::Memory) => {
                if let Some(topic) = self.stream_topic.as_ref().filter(|topic| topic.len() > LONGEST_IN_MEMORY) {
                    let problem =
                        format!("is of {} bytes, and may have {LONGEST_IN_MEMORY} with --stream memory", topic.len());
                    return Err(OptionError::invalid("--stream-topic", topic, problem));
                }
                Ok(BrokerChoice::Memory)
            }
            Named::Ours(StreamName::Redis) => {
                Ok(BrokerChoice::Redis { server: self.redis_broker()?, format: self.format() })
            }
            Named::Ours(StreamName::RedisQueue) => {
                Ok(BrokerChoice::RedisQueue { server: self.redis_broker()?, format: self.format() })
            }
            Named::Ours(StreamName::Kafka) => self.kafka(methods, sizes).map(BrokerChoice::Kafka),
            Named::Own(name) => Ok(BrokerChoice::Own { name, servers: self.stream_servers.clone() }),
        }
    }

    fn kafka(&mut self, methods: &[Method], sizes: &[Size]) -> Result<KafkaSettings, OptionError> {
        if self.stream_servers.is_empty() {
            return Err(OptionError::Missing {
                option: "--stream-servers host:port (`psbench services up kafka` starts a private broker and prints it)",
                needed_by: "--stream kafka",
            });
        }
        // Kafka's own tools take a list with commas.
        let servers = self.stream_servers.iter().flat_map(|servers| servers.split(','));
        let servers = servers.map(|server| server::parse(SERVERS, server)).collect::<Result<_, _>>()?;
        let partitions = within("--stream-partitions", *self.stream_partitions.get_or_insert(1), 1..=MOST_PARTITIONS)?;
        if partitions > 1 && self.interop.is_some() {
            let problem = "with --interop proxystore: a StreamConsumer ends with the first end it sees, so all goes to one partition; \
                           leave it out";
            return Err(OptionError::invalid("--stream-partitions", &partitions, problem));
        }
        if let Some(topic) = &self.stream_topic {
            let exact = self.generator == Some(GeneratorKind::External);
            check_topic(topic, if exact { LONGEST_TOPIC } else { LONGEST_TOPIC - OF_A_TRIAL })?;
        }
        let settings = KafkaSettings {
            servers,
            properties: self.kafka_properties()?,
            format: self.format(),
            partitions,
            replication: self
                .stream_replication
                .map(|replicas| within("--stream-replication", replicas, 1..=i16::MAX as u16))
                .transpose()?,
            retention: self.stream_retention.map(Seconds::duration),
            max_message_bytes: self.stream_max_message_bytes.map(Size::bytes),
            largest_message: self.largest_message(methods, sizes),
        };
        settings.check().map_err(|refused| match &*refused.key {
            "" => OptionError::invalid("--stream", &"kafka", refused.problem),
            key => {
                let value = settings.properties.get(key).map(|value| format!("{key}={value}"));
                OptionError::invalid(KAFKA_OPTION, &value.unwrap_or_else(|| key.into()), refused.problem)
            }
        })?;
        Ok(settings)
    }

    fn kafka_properties(&self) -> Result<BTreeMap<String, String>, OptionError> {
        let pair = |text: &String| {
            let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                OptionError::invalid(KAFKA_OPTION, text, "write property=value, for example compression.type=lz4")
            })?;
            Ok((key.to_owned(), value.to_owned()))
        };
        self.kafka_option.iter().map(pair).collect()
    }

    /// The largest message that a trial sends, bytes, its metadata not counted.
    fn largest_message(&self, methods: &[Method], sizes: &[Size]) -> u64 {
        if !methods.contains(&Method::Default) {
            return 0;
        }
        let largest = sizes.iter().map(|size| size.bytes()).max().unwrap_or(0);
        // Another program's form has what is due together in one message.
        if self.interop.is_some() { largest.max(BATCH_BYTES) } else { largest }
    }
}

/// A publisher tells the length of its topic by a byte.
const LONGEST_IN_MEMORY: usize = u8::MAX as usize - OF_A_TRIAL;

/// Whether Kafka takes a topic whose name begins so, or is so.
fn check_topic(topic: &str, most: usize) -> Result<(), OptionError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let problem = if topic.is_empty() || !topic.bytes().all(is_plain) {
        "Kafka's topics have letters, digits, dots, underscores and hyphens".to_owned()
    } else if topic.len() > most {
        format!("is of {} characters, and may have {most} with --stream kafka", topic.len())
    } else if most == LONGEST_TOPIC && matches!(topic, "." | "..") {
        "Kafka has no topic of that name".to_owned()
    } else {
        return Ok(());
    };
    Err(OptionError::invalid("--stream-topic", &topic, problem))
}
