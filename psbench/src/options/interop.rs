//! Options that connect psbench with other programs: their streams, and a generator that is not psbench's own.

use clap::ValueEnum;
use psbench_connectors::ConnectorSpec;
use psbench_connectors::proxystore::event::is_proxystores;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choices::ZMQ;
use super::planning::Planned;
use super::{LifetimeName, OptionError, StreamScalingOptions};
use crate::brokers::{BrokerChoice, MessageFormat};
use crate::plan::{GeneratorKind, Method, TrialPlan};
use crate::units::Size;

/// Whose streams psbench speaks instead of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interop {
    /// Those of Python's ProxyStore: StreamProducer and StreamConsumer
    Proxystore,
}

/// What a stream has by default where there is one only.
const ONE_SIZE: Size = Size::from_bytes(1_000_000);
const ONE_METHOD: Method = Method::Proxy;

/// The options that `psbench generate` has of those of a sweep.
pub const OF_GENERATE: [&str; 25] = [
    "data-size-bytes",
    "stream-method",
    "task-count",
    "rate",
    "pregenerate",
    "payload-file",
    "seed",
    "verify",
    "ps-connector",
    "ps-file-dir",
    "ps-host",
    "ps-port",
    "ps-endpoints",
    "ps-multi",
    "ps-tags",
    "ps-lifetime",
    "redis-sentinel",
    "redis-ca-file",
    "redis-cert-file",
    "redis-key-file",
    "stream",
    "stream-topic",
    "stream-servers",
    "kafka-option",
    "interop",
];

impl StreamScalingOptions {
    /// What one generator publishes to exactly the given topic: a plan of one trial, whose workers are of no account.
    ///
    /// # Errors
    /// The first option that makes none, or is none of [`OF_GENERATE`].
    pub fn plan_generate(&self) -> Result<Planned, OptionError> {
        const COMMAND: &str = "psbench generate";
        if let Some(other) = self.given()?.keys().find(|name| !OF_GENERATE.contains(&name.as_str())) {
            return Err(OptionError::Elsewhere { option: other.clone(), command: COMMAND });
        }
        if self.interop.is_none() {
            return Err(OptionError::Missing { option: "--interop proxystore", needed_by: COMMAND });
        }
        if let Some(name) = self.ps_lifetime.filter(|name| !matches!(name, LifetimeName::Owned | LifetimeName::Static))
        {
            let problem = "psbench generate ends ahead of its objects; write owned, or static";
            let name = if name == LifetimeName::Run { "run" } else { "leased" };
            return Err(OptionError::invalid("--ps-lifetime", &name, problem));
        }
        // The least that makes a plan.
        let mut options = Self { max_workers: vec![2], ..self.clone() };
        options.fill_in_one();
        let planned = options.plan()?;
        one_trial(COMMAND, "one --data-size-bytes and one --stream-method", &planned.plan.trials)?;
        Ok(planned)
    }

    /// Fills in one size and method in place of the defaults of a sweep.
    pub(super) fn fill_in_one(&mut self) {
        if self.data_size_bytes.is_empty() {
            self.data_size_bytes.push(ONE_SIZE);
        }
        if self.stream_method.is_empty() {
            self.stream_method.push(ONE_METHOD.name().into());
        }
    }

    /// Who generates. An external generator makes one stream, so the options have one point where they leave it open.
    pub(super) fn generator(&mut self) -> Result<GeneratorKind, OptionError> {
        let generator = *self.generator.get_or_insert(GeneratorKind::Internal);
        if generator == GeneratorKind::External {
            if self.interop.is_none() {
                return Err(OptionError::Missing { option: "--interop proxystore", needed_by: EXTERNAL });
            }
            self.fill_in_one();
        }
        Ok(generator)
    }

    /// The form of messages.
    pub(super) fn format(&self) -> MessageFormat {
        match self.interop {
            None => MessageFormat::Psbench,
            Some(Interop::Proxystore) => MessageFormat::ProxyStore,
        }
    }

    /// Refuses what ProxyStore can't reach.
    pub(super) fn check_interop(
        &self,
        broker: &BrokerChoice,
        connector: &ConnectorSpec,
        methods: &[Method],
        generators: u32,
    ) -> Result<(), OptionError> {
        let Some(Interop::Proxystore) = self.interop else { return Ok(()) };
        if generators > 1 {
            let problem = "with --interop proxystore the first end of a stream ends its consumer; write 1";
            return Err(OptionError::invalid("--generators", &generators, problem));
        }
        if !matches!(
            broker.itself(),
            BrokerChoice::Kafka(_) | BrokerChoice::Redis { .. } | BrokerChoice::RedisQueue { .. }
        ) {
            let problem = format!(
                "ProxyStore does not reach --stream {}; use --stream redis, redis-queue or kafka",
                broker.name()
            );
            return Err(OptionError::invalid("--interop", &"proxystore", problem));
        }
        if methods.contains(&Method::Proxy) {
            is_proxystores(connector).map_err(|error| {
                let typed = self.ps_connector.as_deref().unwrap_or(connector.name());
                let served = if typed.eq_ignore_ascii_case(ZMQ) {
                    "; zmq is served by peer, which does not speak ZeroMQ"
                } else {
                    ""
                };
                OptionError::invalid("--ps-connector", &typed, format!("with --interop proxystore: {error}{served}"))
            })?;
        }
        Ok(())
    }
}

/// The option that stands for a foreign generator, as errors name it.
pub(super) const EXTERNAL: &str = "--generator external";

/// Refuses a plan of more than one trial. `once`: the options that make trials.
pub(super) fn one_trial(wanted_by: &'static str, once: &'static str, trials: &[TrialPlan]) -> Result<(), OptionError> {
    match trials.len() {
        1 => Ok(()),
        more => Err(OptionError::OneTrial { wanted_by, once, more }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(stream: &str) -> StreamScalingOptions {
        StreamScalingOptions {
            interop: Some(Interop::Proxystore),
            stream: Some(stream.into()),
            ps_connector: Some("redis".into()),
            ..StreamScalingOptions::default()
        }
    }

    fn refused(options: &StreamScalingOptions) -> String {
        options.plan().unwrap_err().to_string()
    }

    #[test]
    fn both_brokers_on_redis_speak_it_and_others_are_refused() {
        for stream in ["redis", "redis-queue"] {
            let broker = &options(stream).plan().unwrap().plan.settings.broker;
            let (BrokerChoice::Redis { format, .. } | BrokerChoice::RedisQueue { format, .. }) = broker else {
                panic!("{broker:?}")
            };
            assert_eq!(*format, MessageFormat::ProxyStore);
        }
        assert!(refused(&options("memory")).contains("--stream redis, redis-queue or kafka"));
    }

    #[test]
    fn connectors_that_proxystore_has_not_are_refused_where_they_are_used() {
        let peer = StreamScalingOptions { ps_connector: Some("peer".into()), ..options("redis") };
        assert!(refused(&peer).contains("there are: endpoint, file, multi (of these), redis"), "{}", refused(&peer));
        let zmq = StreamScalingOptions { ps_connector: Some("zmq".into()), ..peer.clone() };
        assert!(refused(&zmq).starts_with("--ps-connector zmq: with --interop proxystore"), "{}", refused(&zmq));
        assert!(refused(&zmq).contains("does not speak ZeroMQ"), "{}", refused(&zmq));
        StreamScalingOptions { stream_method: vec!["default".into()], ..peer }.plan().unwrap();
    }

    #[test]
    fn a_stream_of_proxystores_has_one_generator() {
        let several = StreamScalingOptions { generators: Some(2), ..options("redis") };
        let refused = refused(&several);
        assert!(refused.starts_with("--generators 2: with --interop proxystore"), "{refused}");
    }

    #[test]
    fn an_external_generator_is_one_trial() {
        let external = StreamScalingOptions { generator: Some(GeneratorKind::External), ..options("redis") };
        let planned = external.plan().unwrap();
        assert_eq!(planned.plan.trials.len(), 1);
        assert_eq!(planned.options.plan().unwrap().options, planned.options);
        for more in [
            StreamScalingOptions { repeat: Some(2), ..external.clone() },
            StreamScalingOptions { max_workers: vec![2, 3], ..external.clone() },
            StreamScalingOptions { stream_method: vec!["default".into(), "proxy".into()], ..external.clone() },
        ] {
            assert!(refused(&more).contains("one trial, not 2"), "{}", refused(&more));
        }
        let several = StreamScalingOptions { generators: Some(2), ..external.clone() };
        assert!(refused(&several).starts_with("--generators 2: another program generates"), "{}", refused(&several));
        let alone = StreamScalingOptions { interop: None, ..external.clone() };
        assert!(refused(&alone).contains("needs --interop proxystore"));
        let idle = StreamScalingOptions { rate: Some("5/s".parse().unwrap()), ..external };
        assert_eq!(idle.plan().unwrap().notes, ["--rate has no effect with --generator external"]);
    }

    #[test]
    fn generate_has_its_own_options_only() {
        let planned = options("redis").plan_generate().unwrap();
        assert_eq!(planned.plan.trials.len(), 1);
        let other = StreamScalingOptions { executor: Some("thread".into()), ..options("redis") };
        let error = other.plan_generate().unwrap_err().to_string();
        assert!(error.contains("--executor") && error.contains("psbench generate"), "{error}");
        let none = StreamScalingOptions { interop: None, ..options("redis") };
        assert!(none.plan_generate().unwrap_err().to_string().contains("needs --interop proxystore"));
        let run = StreamScalingOptions { ps_lifetime: Some(LifetimeName::Run), ..options("redis") };
        assert!(run.plan_generate().unwrap_err().to_string().contains("--ps-lifetime run: psbench generate ends"));
        let all: Vec<String> = OF_GENERATE.map(|name| format!("\"{name}\"")).to_vec();
        let struct_has = serde_json::to_string(&StreamScalingOptions::default()).unwrap();
        assert!(all.iter().all(|name| struct_has.contains(name)), "{struct_has}");
    }
}
