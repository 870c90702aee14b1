//! Properties of librdkafka: what psbench sets, what the user may, and what comes from the environment alone.

use std::env;
use std::fmt::Display;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::NativeClientConfig;
use rdkafka::error::{KafkaError, KafkaResult};

use super::settings::MESSAGE_OVERHEAD;
use super::{KafkaSettings, Refused};

/// Properties that hold a secret, each with the variable of the environment that gives it.
const SECRETS: [(&str, &str); 6] = [
    ("sasl.password", "PSBENCH_KAFKA_SASL_PASSWORD"),
    ("sasl.oauthbearer.client.secret", "PSBENCH_KAFKA_OAUTHBEARER_CLIENT_SECRET"),
    ("sasl.oauthbearer.config", "PSBENCH_KAFKA_OAUTHBEARER_CONFIG"),
    ("ssl.key.password", "PSBENCH_KAFKA_SSL_KEY_PASSWORD"),
    ("ssl.key.pem", "PSBENCH_KAFKA_SSL_KEY_PEM"),
    ("ssl.keystore.password", "PSBENCH_KAFKA_SSL_KEYSTORE_PASSWORD"),
];

/// Properties on which the measurement rests, each with what to do instead.
const RESERVED: [(&str, &str); 11] = [
    ("bootstrap.servers", "write --stream-servers"),
    ("metadata.broker.list", "write --stream-servers"),
    ("group.id", "each trial has a group of its own"),
    ("group.instance.id", "each trial has a group of its own"),
    ("enable.auto.commit", "a trial begins at known offsets and commits none"),
    ("auto.commit.enable", "a trial begins at known offsets and commits none"),
    ("enable.auto.offset.store", "a trial begins at known offsets and commits none"),
    ("enable.partition.eof", "psbench learns from it that a partition was read"),
    ("transactional.id", "the generator sends without transactions"),
    ("test.mock.num.brokers", "psbench measures real brokers; see `psbench services up kafka`"),
    ("plugin.library.paths", "psbench loads no code that an option names"),
];

/// Other names of properties that psbench sets.
const ALIASES: [(&str, &str); 6] = [
    ("acks", "request.required.acks"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("compression.type", "compression.codec"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
];

/// What results record of a publisher's properties.
const RECORDED: [&str; 8] = [
    "acks",
    "linger.ms",
    "compression.type",
    "enable.idempotence",
    "batch.size",
    "message.max.bytes",
    "message.timeout.ms",
    "security.protocol",
];

/// The largest message that librdkafka sends, bytes.
const LARGEST: u64 = 1_000_000_000;

impl KafkaSettings {
    /// Whether clients can be made of these settings.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        for key in self.properties.keys() {
            let refused = |problem: String| Refused { key: key.clone(), problem };
            if let Some((_, variable)) = SECRETS.iter().find(|(secret, _)| secret == key) {
                return Err(refused(format!("a secret would end up in logs and results; set {variable} instead")));
            }
            if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == key) {
                return Err(refused(format!("not to be set: {instead}")));
            }
        }
        for client in [self.producer(), self.consumer("check")] {
            client.create_native_config().map_err(|error| match error {
                KafkaError::ClientConfig(_, description, key, _) => Refused { problem: in_words(&description), key },
                other => Refused { key: String::new(), problem: other.to_string() },
            })?;
        }
        if self.largest_message > LARGEST {
            return Err(Refused {
                key: "message.max.bytes".into(),
                problem: format!(
                    "items in full need {} bytes, and Kafka's clients send {LARGEST} at most; use --stream-method proxy",
                    self.largest_message
                ),
            });
        }
        Ok(())
    }

    /// What sends.
    pub(super) fn producer(&self) -> ClientConfig {
        /// Messages on their way may take this much; beyond it a generator waits. Cold memory is slow to touch.
        const QUEUE: u64 = 64 << 20;
        let mut client = self.client();
        let queue = QUEUE.max(2 * self.largest_message).div_ceil(1024).min(2_097_151);
        self.set(&mut client, "queue.buffering.max.kbytes", queue);
        // An item is due now: a batch is what has come while the one before was on its way.
        self.set(&mut client, "linger.ms", 0);
        self.set(&mut client, "message.timeout.ms", OUTAGE.as_millis());
        // Retries neither repeat nor reorder. It needs the acknowledgement of all replicas.
        if !["acks", "enable.idempotence", "max.in.flight"].iter().any(|key| self.is_given(key)) {
            client.set("enable.idempotence", "true");
        }
        client
    }

    /// What receives, in the group `group`.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let largest = self.largest_message + MESSAGE_OVERHEAD;
        let mut client = self.client();
        client.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        client.set("enable.partition.eof", "true");
        // Messages that are gone are an error, not a jump.
        client.set("auto.offset.reset", "error");
        self.set(&mut client, "max.partition.fetch.bytes", largest.clamp(4 << 20, LARGEST));
        let fetch = largest.clamp(16 << 20, LARGEST);
        self.set(&mut client, "fetch.max.bytes", fetch);
        self.set(&mut client, "receive.message.max.bytes", fetch + (1 << 20));
        // Past its bounds librdkafka waits for this long, by default a second, however soon there is room.
        self.set(&mut client, "fetch.queue.backoff.ms", 2);
        self.set(&mut client, "queued.max.messages.kbytes", (4 * largest).max(64 << 20).div_ceil(1024).min(2_097_151));
        // A dispatcher that is full does not ask for more, for however long.
        self.set(&mut client, "max.poll.interval.ms", 86_400_000);
        client
    }

    /// What neither sends nor receives.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.address());
        self.set(&mut client, "client.id", "psbench");
        self.set(&mut client, "statistics.interval.ms", 200);
        self.set(&mut client, "message.max.bytes", (self.largest_message + MESSAGE_OVERHEAD).clamp(1_000_000, LARGEST));
        // A broker that comes back is found soon.
        self.set(&mut client, "reconnect.backoff.max.ms", 1000);
        self.set(&mut client, "socket.connection.setup.timeout.ms", 5000);
        for (key, value) in self.properties.iter().filter(|(key, _)| *key != AUTO_OFFSET_RESET) {
            client.set(key, value);
        }
        for (key, variable) in SECRETS {
            if let Ok(secret) = env::var(variable) {
                client.set(key, secret);
            }
        }
        client
    }

    /// Sets what the user left open.
    fn set(&self, client: &mut ClientConfig, key: &str, value: impl Display) {
        if !self.is_given(key) {
            client.set(key, value.to_string());
        }
    }

    fn is_given(&self, key: &str) -> bool {
        let is = |name: &str| self.properties.contains_key(name);
        is(key) || ALIASES.iter().any(|(name, alias)| (*name == key && is(alias)) || (*alias == key && is(name)))
    }

    /// How long the cluster may be away: then messages not acknowledged are lost, and a subscriber gives up.
    pub(super) fn outage(&self) -> Duration {
        let given = ["message.timeout.ms", "delivery.timeout.ms"].iter().find_map(|key| self.properties.get(*key));
        match given.and_then(|text| text.parse().ok()) {
            // librdkafka's word for no end.
            Some(0) => Duration::MAX,
            Some(millis) => Duration::from_millis(millis),
            None => OUTAGE,
        }
    }

    /// Whether a subscriber begins with what a topic holds, instead of what comes.
    pub(super) fn begins_with_what_is_there(&self) -> bool {
        self.properties
            .get(AUTO_OFFSET_RESET)
            .is_some_and(|value| ["smallest", "earliest", "beginning"].contains(&value.as_str()))
    }

    /// The properties in force that bear on results, defaults included.
    pub(super) fn recorded(&self) -> KafkaResult<Vec<(String, String)>> {
        let native: NativeClientConfig = self.producer().create_native_config()?;
        let recorded = RECORDED.iter().filter_map(|key| Some((format!("client.{key}"), native.get(key).ok()?)));
        let given = self.properties.iter().map(|(key, value)| (format!("client.{key}"), value.clone()));
        Ok(recorded.chain(given).collect())
    }
}

/// For [`KafkaSettings::outage`] where the user does not say.
const OUTAGE: Duration = Duration::from_secs(30);

/// Whose meaning psbench fulfils itself: it assigns offsets.
const AUTO_OFFSET_RESET: &str = "auto.offset.reset";

/// librdkafka's description of what is wrong, for people.
fn in_words(description: &str) -> String {
    if description.starts_with("No such configuration property") {
        return "librdkafka has no property of that name; see its CONFIGURATION.md".into();
    }
    if description.contains("not available in this build") || description.contains("not supported in this build") {
        return format!("{description}; build psbench with `--features kafka-ssl` for SSL and SASL/SCRAM");
    }
    description.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::brokers::MessageFormat;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            servers: vec![("localhost".into(), 9092), ("::1".into(), 1)],
            properties: properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            format: MessageFormat::Psbench,
            partitions: 1,
            replication: None,
            retention: None,
            max_message_bytes: None,
            largest_message: 1000,
        }
    }

    fn recorded(properties: &[(&str, &str)]) -> BTreeMap<String, String> {
        settings(properties).recorded().unwrap().into_iter().collect()
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        for (key, value, problem) in [
            ("linger", "1", "no property of that name"),
            ("linger.ms", "soon", "Invalid value"),
            ("bootstrap.servers", "here:1", "--stream-servers"),
            ("sasl.password", "secret", "PSBENCH_KAFKA_SASL_PASSWORD"),
            ("group.id", "mine", "a group of its own"),
        ] {
            let refused = settings(&[(key, value)]).check().unwrap_err();
            assert!(refused.key == key && refused.problem.contains(problem), "{refused:?}");
            assert!(!refused.problem.contains("secret\""), "{refused:?}");
        }
        let large = KafkaSettings { largest_message: LARGEST + 1, ..settings(&[]) };
        assert!(large.check().unwrap_err().problem.contains("--stream-method proxy"));
        assert_eq!(settings(&[("compression.type", "lz4"), ("acks", "1")]).check(), Ok(()));
    }

    #[test]
    fn the_users_properties_win_by_either_name() {
        let ours = recorded(&[]);
        assert_eq!((&*ours["client.acks"], &*ours["client.linger.ms"]), ("-1", "0"));
        assert_eq!(ours["client.enable.idempotence"], "true");
        for name in ["linger.ms", "queue.buffering.max.ms"] {
            assert_eq!(recorded(&[(name, "7")])["client.linger.ms"], "7");
        }
        let theirs = recorded(&[("request.required.acks", "1"), ("compression.codec", "zstd")]);
        assert_eq!((&*theirs["client.acks"], &*theirs["client.compression.type"]), ("1", "zstd"));
        assert_eq!(theirs["client.enable.idempotence"], "false");
        assert_eq!(settings(&[("delivery.timeout.ms", "1500")]).outage(), Duration::from_millis(1500));
    }

    #[test]
    fn servers_are_written_as_librdkafka_reads_them() {
        assert_eq!(settings(&[]).address(), "localhost:9092,[::1]:1");
    }

    #[test]
    fn every_property_named_here_exists() {
        let aliases = ALIASES.iter().flat_map(|(name, alias)| [*name, *alias]);
        let all = aliases.chain(RECORDED).chain(RESERVED.map(|(key, _)| key)).chain(SECRETS.map(|(key, _)| key));
        for key in all {
            let made = ClientConfig::new().set(key, "x").create_native_config();
            if let Err(KafkaError::ClientConfig(_, description, ..)) = made {
                assert!(!description.starts_with("No such configuration property"), "{key}");
            }
        }
    }
}
