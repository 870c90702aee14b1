//! What librdkafka calls back: errors, logs, statistics and delivery reports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;

use super::super::{ClientStatistics, Route};

/// Remembers what one client was told.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) route: Route,
    told: Mutex<Told>,
    acknowledged: AtomicU64,
}

#[derive(Debug, Default)]
struct Told {
    /// What went wrong last, in the client's words.
    trouble: Option<String>,
    /// That the cluster does not let us in, which no patience helps.
    refusal: Option<String>,
    /// Why the first message was not delivered.
    undelivered: Option<KafkaError>,
    sum: Sum,
}

/// Statistics, added up.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    samples: u64,
    queued_messages: u64,
    most_messages: u64,
    most_bytes: u64,
    round_trips: u64,
    round_trip_micros: f64,
    longest_micros: Option<u64>,
}

impl Context {
    /// Of a client whose connections take this route.
    pub(super) fn on(route: &Route) -> Self {
        Self { route: route.clone(), ..Self::default() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong last, if anything did.
    pub(super) fn trouble(&self) -> Option<String> {
        self.told().trouble.clone()
    }

    /// Why the cluster does not let this client in, if it told so.
    pub(super) fn refusal(&self) -> Option<String> {
        self.told().refusal.clone()
    }

    /// Why the first message was not delivered, of those that were given up.
    pub(super) fn undelivered(&self) -> Option<KafkaError> {
        self.told().undelivered.clone()
    }

    /// Messages that the broker said it has.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// What was counted so far; absent before the first look.
    pub(super) fn statistics(&self) -> Option<ClientStatistics> {
        const NANOS: f64 = 1e3;
        let sum = self.told().sum;
        (sum.samples > 0).then(|| ClientStatistics {
            samples: sum.samples,
            queue_mean_messages: sum.queued_messages as f64 / sum.samples as f64,
            queue_max_messages: sum.most_messages,
            queue_max_bytes: sum.most_bytes,
            round_trips: sum.round_trips,
            round_trip_mean_ns: (sum.round_trips > 0).then(|| sum.round_trip_micros * NANOS / sum.round_trips as f64),
            round_trip_max_ns: sum.longest_micros.map(|micros| micros.saturating_mul(1000)),
        })
    }
}

impl Sum {
    fn add(&mut self, seen: &Statistics) {
        let partitions = || seen.topics.values().flat_map(|topic| topic.partitions.values());
        // A producer's queue, or what a consumer has fetched.
        let messages = seen.msg_cnt + partitions().map(|partition| unsigned(partition.fetchq_cnt)).sum::<u64>();
        let bytes = seen.msg_size + partitions().map(|partition| partition.fetchq_size).sum::<u64>();
        self.samples += 1;
        self.queued_messages += messages;
        self.most_messages = self.most_messages.max(messages);
        self.most_bytes = self.most_bytes.max(bytes);
        // Each window is of the time since the look before.
        for window in seen.brokers.values().filter_map(|broker| broker.rtt.as_ref()).filter(|window| window.cnt > 0) {
            self.round_trips += unsigned(window.cnt);
            self.round_trip_micros += window.sum as f64;
            self.longest_micros = self.longest_micros.max(Some(unsigned(window.max)));
        }
    }
}

/// Counts that librdkafka may say −1 of.
fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// The code of an error, where it has one.
pub(super) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Codes that no retry helps. A group's rights are not among them: clients have one because they must, and ask it for nothing.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::Authentication
            | Code::SSL
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::ClusterAuthorizationFailed
            | Code::TopicAuthorizationFailed
    )
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // A client whose connections take paths is told of its servers a moment later.
        if !self.route.is_direct() && facility == "CONFWARN" && message.contains("bootstrap.servers") {
            return;
        }
        match level {
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!("librdkafka: {facility}: {message}"),
            _ => tracing::info!("librdkafka: {facility}: {message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.told().sum.add(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut told = self.told();
        // It says of all only that they are down, after each has said why.
        if code_of(&error) != Some(RDKafkaErrorCode::AllBrokersDown) || told.trouble.is_none() {
            told.trouble = Some(reason.to_owned());
        }
        if code_of(&error).is_some_and(is_refusal) {
            told.refusal = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.told().undelivered.get_or_insert(error.clone());
            }
        }
    }
}
