//! Apache Kafka as a broker, through librdkafka.
//!
//! Each trial has a topic of its own. A message of psbench's is a record whose key is the head and whose value is the payload; the end of
//! a stream is a record without a value, in every partition, and one without a key either is a publisher's greeting. The feature `kafka` of this package, on by default, has librdkafka in it;
//! `kafka-ssl` has it with OpenSSL.

mod settings;

#[cfg(feature = "kafka")]
mod broker;
#[cfg(feature = "kafka")]
mod cluster;
#[cfg(feature = "kafka")]
mod context;
#[cfg(feature = "kafka")]
mod message;
#[cfg(feature = "kafka")]
mod properties;
#[cfg(feature = "kafka")]
mod publisher;
#[cfg(feature = "kafka")]
mod refusals;
#[cfg(feature = "kafka")]
mod resolve;
#[cfg(feature = "kafka")]
mod subscriber;

#[cfg(not(feature = "kafka"))]
#[path = "absent.rs"]
mod broker;

pub(crate) use self::broker::abandon;
pub(super) use self::broker::{open, publisher};
pub use self::settings::KafkaSettings;
pub(crate) use self::settings::{LONGEST_TOPIC, OF_A_TRIAL};

/// Why a property of librdkafka can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The property.
    pub(crate) key: String,
    /// What is wrong, and what to do instead.
    pub(crate) problem: String,
}
