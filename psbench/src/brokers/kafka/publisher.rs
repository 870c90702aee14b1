//! The generator's side.
//!
//! Messages are handed to librdkafka, which sends them in the background, in batches, and tells of each whether the broker has it. So a
//! failure shows with a later message, or at the end.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::super::{BrokerError, Message, MessageFormat, Publisher, PublisherReport, Route, proxystore};
use super::KafkaSettings;
use super::cluster::Cluster;
use super::context::Context;
use super::refusals::Step;

/// Publishes to one topic.
pub(in super::super) struct KafkaPublisher {
    settings: KafkaSettings,
    producer: BaseProducer<Context>,
    topic: String,
    partitions: u64,
    /// Messages handed to librdkafka.
    sent: u64,
    /// Records ahead of them, all of which the broker has.
    greetings: u64,
}

/// Between two looks whether there is room, or an acknowledgement. The producer's own `poll` spins through the last millisecond of its
/// time, so it is given none.
const LOOK: Duration = Duration::from_micros(200);

/// What librdkafka takes beyond a message's own time to give it up.
const GRACE: Duration = Duration::from_secs(5);

impl KafkaPublisher {
    pub(in super::super) fn connect(settings: &KafkaSettings, topic: &str) -> Result<Self, BrokerError> {
        let partitions = Cluster::connect(settings, &Route::Direct)?.topic(topic)?.len() as u64;
        let producer = settings
            .producer()
            .create_with_context(Context::default())
            .map_err(|error| settings.failed("connect", error))?;
        let mut publisher =
            Self { settings: settings.clone(), producer, topic: topic.into(), partitions, sent: 0, greetings: 0 };
        publisher.greet()?;
        Ok(publisher)
    }

    /// Opens the way: an empty record to each partition, which no subscriber passes on. What a client does only once (to find the
    /// partitions' brokers, connect, get a producer's number) would take the first item half a second.
    fn greet(&mut self) -> Result<(), BrokerError> {
        if !self.settings.spreads() {
            return Ok(());
        }
        for partition in 0..self.partitions {
            self.send(partition as i32, None, None)?;
        }
        self.acknowledge_all()?;
        self.greetings = std::mem::take(&mut self.sent);
        Ok(())
    }

    /// Waits until the broker has all that was sent.
    fn acknowledge_all(&mut self) -> Result<(), BrokerError> {
        let until = Instant::now() + self.patience();
        while self.producer.in_flight_count() > 0 && Instant::now() < until {
            // So that nothing lingers; it fails while messages are on their way.
            let _ = self.producer.flush(Duration::ZERO);
            thread::sleep(LOOK);
            self.look()?;
        }
        self.look()?;
        match self.unacknowledged() {
            0 => Ok(()),
            missing => {
                let action = format!("{missing} of {} messages were not acknowledged", self.sent);
                Err(self.settings.failed(&action, KafkaError::Flush(RDKafkaErrorCode::MessageTimedOut)))
            }
        }
    }

    /// The partition of the next message.
    fn partition(&self) -> i32 {
        // A topic's partitions are counted in 32 bits.
        if self.settings.spreads() { (self.sent % self.partitions) as i32 } else { 0 }
    }

    /// Hands one message to librdkafka, which copies it, once there is room for it.
    fn send(&mut self, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), BrokerError> {
        let until = Instant::now() + self.patience();
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition);
        (record.key, record.payload) = (key, value);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused))
                    if Instant::now() < until =>
                {
                    record = refused;
                    thread::sleep(LOOK);
                    self.look()?;
                }
                Err((error, _)) => return Err(self.failed("publish", error)),
            }
        }
        self.sent += 1;
        Ok(())
    }

    fn patience(&self) -> Duration {
        /// More can't be added to an instant on every system.
        const LONGEST: Duration = Duration::from_secs(86_400 * 365);
        self.settings.outage().saturating_add(GRACE).min(LONGEST)
    }

    /// Takes the acknowledgements that have come; an error once a message was given up.
    fn look(&self) -> Result<(), BrokerError> {
        let context = self.producer.context();
        loop {
            // Serves one report, of any number of messages.
            let before = context.acknowledged();
            self.producer.poll(Duration::ZERO);
            if context.acknowledged() == before {
                break;
            }
        }
        let Some(error) = self.producer.context().undelivered() else { return Ok(()) };
        let trouble = self.producer.context().trouble().map(|trouble| format!(" ({trouble})")).unwrap_or_default();
        let action = format!("{} of {} messages were not acknowledged{trouble}", self.unacknowledged(), self.sent);
        Err(self.failed(&action, error))
    }

    fn failed(&self, action: &str, error: KafkaError) -> BrokerError {
        self.settings.failed_at(Step::Write, action, &self.topic, error)
    }

    fn unacknowledged(&self) -> u64 {
        (self.greetings + self.sent).saturating_sub(self.producer.context().acknowledged())
    }
}

impl Drop for KafkaPublisher {
    /// What was handed over is on its way, still; a publisher that ended in order has nothing left.
    fn drop(&mut self) {
        let until = Instant::now() + GRACE;
        while self.producer.in_flight_count() > 0 && Instant::now() < until && self.look().is_ok() {
            let _ = self.producer.flush(Duration::ZERO);
            thread::sleep(LOOK);
        }
    }
}

impl Publisher for KafkaPublisher {
    fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        match self.settings.format {
            MessageFormat::Psbench => {
                for Message { head, payload } in messages {
                    self.send(self.partition(), Some(head), Some(payload))?;
                }
            }
            MessageFormat::ProxyStore => {
                let batch = proxystore::batch(&self.topic, messages)
                    .map_err(|reason| BrokerError::Protocol { broker: self.settings.label(), reason })?;
                let value = batch.parts().collect::<Vec<_>>().concat();
                self.send(self.partition(), None, Some(&value))?;
            }
        }
        self.look()
    }

    fn end(&mut self, last: &Message) -> Result<(), BrokerError> {
        if self.settings.spreads() {
            // To each partition, since nothing tells in which order they are read; without a value, which no item is.
            for partition in 0..self.partitions {
                self.send(partition as i32, Some(&last.head), None)?;
            }
        } else {
            self.publish(std::slice::from_ref(last))?;
        }
        self.acknowledge_all()
    }

    fn report(&self) -> PublisherReport {
        self.producer.poll(Duration::ZERO);
        PublisherReport { unacknowledged: self.unacknowledged(), client: self.producer.context().statistics() }
    }
}
