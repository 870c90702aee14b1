//! The generators of a trial: what each is told, what became of it, and what it stored.

use std::time::Duration;

use psbench_connectors::{ConnectorError, ConnectorSpec, Key, KeySource, StoreMetrics};
use psbench_executors::{Executor, WorkerReport};

use super::trial::finish;
use crate::brokers::BrokerConfig;
use crate::clock::Nanos;
use crate::dispatcher::{Generator, generator_task};
use crate::generator::GeneratorPlan;
use crate::item::GeneratorReport;
use crate::plan::{Settings, Share, TrialPlan};

/// Said of a generator that left no report.
const GENERATED_UNKNOWN: &str = "did not tell how many items it made: there may be more than are counted";

/// Time in which several generators get ready, so that all begin at once. One that takes longer begins when it is ready.
const HEAD_START: Duration = Duration::from_millis(250);

/// psbench's own generators of one trial; none where another program generates.
pub(super) struct Generators {
    /// Where the names of each one's objects start.
    keys: Vec<KeySource>,
}

impl Generators {
    pub(super) fn new(count: u32) -> Self {
        Self { keys: (0..count).map(|_| KeySource::random()).collect() }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.keys.len()).unwrap_or(u32::MAX)
    }

    /// The plan of each.
    pub(super) fn plans(
        &self,
        settings: &Settings,
        trial: &TrialPlan,
        broker: &BrokerConfig,
        topic: &str,
        now: Nanos,
    ) -> Vec<GeneratorPlan> {
        // Who generates alone has nobody to wait for.
        let start = (self.count() > 1).then(|| now.saturating_add(HEAD_START.as_nanos() as u64));
        let plan = |(share, keys): (Share, _)| GeneratorPlan {
            start,
            allowance: trial.inflight_items().map(|items| share.of(items)),
            ..GeneratorPlan::new(settings, trial, share, broker.clone(), topic, keys)
        };
        Share::each(self.count()).zip(&self.keys).map(plan).collect()
    }

    /// Asks all to end their streams early.
    pub(super) fn cancel(&self, executor: &dyn Executor) {
        (0..self.count()).for_each(|generator| executor.cancel(generator_task(generator)));
    }

    /// As people are told of it.
    fn name(&self, generator: u32) -> String {
        if self.count() > 1 { format!("generator {generator}") } else { "the generator".into() }
    }

    /// Said of generators that have all ended, where the end of these streams of theirs did not come.
    pub(super) fn silent(&self, silent: &[u32], silence: Duration) -> String {
        if self.count() > 1 {
            let names: Vec<_> = silent.iter().map(|generator| self.name(*generator)).collect();
            let names = names.join(", ");
            return format!(
                "all generators have ended, but the end of the stream of {names} did not come within {silence:.0?}"
            );
        }
        format!("the generator has ended, but the end of the stream did not come within {silence:.0?}")
    }

    /// What became of each.
    pub(super) fn note(&self, ended: Vec<Generator>) -> Noted {
        let mut noted = Noted::default();
        for (generator, ended) in (0..).zip(ended) {
            let name = self.name(generator);
            let unknown = format!("{name} {GENERATED_UNKNOWN}");
            match ended {
                Generator::Ended(report) => {
                    noted.causes.extend(report.failure.as_ref().map(|failure| format!("{name}: {failure}")));
                    noted.reports.push(*report);
                }
                Generator::Lost(reason) => noted.causes.extend([format!("{name}: {reason}"), unknown]),
                Generator::Running => {
                    noted.effects.extend([format!("{name} was still running and was ended by force"), unknown]);
                }
            }
        }
        noted.warn_of_late_start();
        noted
    }

    /// Objects that the processes of all still held at their end; `None` where that is not known of one, or they are elsewhere.
    pub(super) fn held(&self, reports: &[WorkerReport]) -> Option<u64> {
        let (mut told, mut sum) = (0, 0);
        for finish in reports.iter().filter_map(finish) {
            if let Some(held) = finish.held {
                told += finish.generators;
                sum += held;
            }
        }
        (told > 0 && told >= self.count()).then_some(sum)
    }

    /// Deletes the first `stored` objects of each, but for those that ended with their generator; returns how many there were.
    pub(super) fn delete_objects(&self, connector: &ConnectorSpec, stored: &[u64]) -> Result<u64, ConnectorError> {
        const TOGETHER: u64 = 1000;
        let Some(connector) = connector.outliving() else { return Ok(0) };
        let connector = connector.open(KeySource::random())?;
        let mut deleted = 0;
        for (keys, count) in self.keys.iter().zip(stored.iter().copied()) {
            for first in (0..count).step_by(TOGETHER as usize) {
                let batch: Vec<Key> = (first..count.min(first + TOGETHER)).map(|n| Key::named(keys.nth(n))).collect();
                deleted += connector.evict_batch(&batch)?;
            }
        }
        Ok(deleted)
    }

    /// Gives back what the connectors of all had at other hosts. That of a generator which ended in order is not there any more.
    pub(super) fn abandon(&self, connector: &ConnectorSpec) -> Result<(), ConnectorError> {
        let mut abandoned = Ok(());
        for keys in &self.keys {
            abandoned = abandoned.and(connector.abandon(keys));
        }
        abandoned
    }

    /// The most objects that each can have stored of so many items.
    pub(super) fn most(&self, items: u64) -> Vec<u64> {
        Share::each(self.count()).map(|share| share.of(items)).collect()
    }

    /// Where the names of all objects start, for people.
    pub(super) fn starts(&self) -> String {
        self.keys.iter().map(|keys| keys.start().to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// What became of the generators.
#[derive(Default)]
pub(super) struct Noted {
    /// What other problems follow from.
    pub(super) causes: Vec<String>,
    /// What follows from other problems.
    pub(super) effects: Vec<String>,
    /// Of those that told.
    pub(super) reports: Vec<GeneratorReport>,
}

impl Noted {
    fn warn_of_late_start(&self) {
        let began = || self.reports.iter().filter_map(|report| report.began);
        if let (Some(first), Some(last)) = (began().min(), began().max())
            && first < last
        {
            let apart = Duration::from_nanos(last - first);
            tracing::warn!(
                "generators began {apart:.0?} apart, since the last one took more than {HEAD_START:.0?} to get ready"
            );
        }
    }
}

/// What generators and workers told of their stores, added up.
pub(super) fn store_metrics(generators: &[GeneratorReport], reports: &[WorkerReport]) -> StoreMetrics {
    let mut sum = StoreMetrics::default();
    generators.iter().for_each(|report| sum += report.store);
    for finish in reports.iter().filter_map(finish) {
        sum += finish.metrics;
        sum.expired += finish.expired;
    }
    sum
}
