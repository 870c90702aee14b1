//! What is kept of a trial's items, and what it comes to.

mod histogram;
mod jitter;
mod lag;
mod sequence;

use std::collections::BTreeMap;
use std::time::Duration;

use psbench_executors::WorkerId;

use self::histogram::Times;
use self::jitter::{Passage, Unevenness};
pub use self::lag::Backlog;
use self::sequence::Sequence;
use crate::clock::Nanos;
use crate::item::{ItemHead, ItemOutcome};
use crate::plan::Share;
use crate::results::record::{Balance, Jitter, Latency, Rates};
use crate::trace::{Trace, TracedItem};

/// When one item passed the dispatcher's stages.
#[derive(Clone, Copy, Debug)]
pub struct Dispatched {
    /// When its message came.
    pub received: Nanos,
    /// When its task was handed to the executor.
    pub submitted: Nanos,
    /// When its outcome came back.
    pub recorded: Nanos,
}

/// How far an item came that has no outcome of its own.
#[derive(Clone, Copy, Debug)]
pub struct Unfinished {
    /// When its message came.
    pub received: Nanos,
    /// When its task was handed to the executor, where it was.
    pub submitted: Option<Nanos>,
    /// Which worker had it, where one did.
    pub worker: Option<WorkerId>,
    /// When that was known.
    pub recorded: Nanos,
}

/// Takes note of every item of one trial.
#[derive(Debug, Default)]
pub struct Recorder {
    arrivals: Sequence,
    finished: u64,
    failed: u64,
    corrupt: u64,
    late: u64,
    resolved: u64,
    evicted: u64,
    failures: Vec<String>,
    deadline: Option<Duration>,
    times: [Times; Stage::ALL.len()],
    unevenness: Unevenness,
    payload_bytes: u64,
    first_received: Option<Nanos>,
    first_scheduled: Option<Nanos>,
    first_created: Option<Nanos>,
    last_arrived: Nanos,
    last_recorded: Option<Nanos>,
    tasks: BTreeMap<WorkerId, u64>,
    trace: Option<Trace>,
}

/// The times that are taken of each item.
#[derive(Clone, Copy)]
enum Stage {
    ScheduleLag,
    Store,
    Publish,
    Broker,
    Queue,
    Dispatch,
    Resolve,
    Work,
    Report,
    Lifetime,
    Arrival,
    EndToEnd,
}

impl Stage {
    const ALL: [Self; 12] = [
        Self::ScheduleLag,
        Self::Store,
        Self::Publish,
        Self::Broker,
        Self::Queue,
        Self::Dispatch,
        Self::Resolve,
        Self::Work,
        Self::Report,
        Self::Lifetime,
        Self::Arrival,
        Self::EndToEnd,
    ];

    /// As results name it.
    fn name(self) -> &'static str {
        match self {
            Self::ScheduleLag => "schedule_lag",
            Self::Store => "store",
            Self::Publish => "publish",
            Self::Broker => "broker",
            Self::Queue => "queue",
            Self::Dispatch => "dispatch",
            Self::Resolve => "resolve",
            Self::Work => "work",
            Self::Report => "report",
            Self::Lifetime => "lifetime",
            Self::Arrival => "arrival",
            Self::EndToEnd => "end_to_end",
        }
    }
}

/// By how much the clocks of those may be off that are not on the dispatcher's host, ns: the largest of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockErrors {
    /// Of generators; `None` where all read the dispatcher's clock.
    pub generators: Option<u64>,
    /// Of workers; likewise.
    pub workers: Option<u64>,
}

impl Stage {
    /// By how much a time may be off, where its two ends are stamped by different clocks.
    fn clock_error(self, errors: ClockErrors) -> Option<u64> {
        let ends = match self {
            // At the generator alone, at the dispatcher alone, at the worker alone.
            Self::ScheduleLag | Self::Store | Self::Publish | Self::Queue | Self::Resolve | Self::Work => [None, None],
            Self::Broker => [errors.generators, None],
            Self::Dispatch | Self::Report => [errors.workers, None],
            Self::Lifetime | Self::Arrival | Self::EndToEnd => [errors.generators, errors.workers],
        };
        ends.into_iter().flatten().reduce(u64::saturating_add)
    }
}

/// Reasons of failures that are kept in words; the rest is counted.
const FAILURES_IN_WORDS: usize = 5;

impl Recorder {
    /// For a trial of so many generators at a broker of so many partitions, whose items should have finished `deadline` after they
    /// were scheduled.
    pub fn new(deadline: Option<Duration>, generators: u32, partitions: u32) -> Self {
        // A generator's `k`th message goes to partition `k` modulo their number, and is item `k` of its share: so what one generator
        // sends to one partition, which is all whose order is kept, are the numbers that leave one remainder by the product.
        let arrivals = Sequence::new(generators.saturating_mul(partitions));
        Self { deadline, arrivals, ..Self::default() }
    }

    /// An item's message has come; `false` when it had come before.
    pub fn arrive(&mut self, sequence: u64) -> bool {
        self.arrivals.arrive(sequence)
    }

    /// How many items have come.
    pub fn arrived(&self) -> u64 {
        self.arrivals.distinct
    }

    /// How many items a generator has made, as far as they show: up to the last one of its share that has come.
    pub fn seen(&self, share: Share) -> u64 {
        share.of(self.arrivals.end(share))
    }

    /// Items that are done with, well or not.
    pub fn done(&self) -> u64 {
        self.finished + self.failed
    }

    /// Items whose task ended well.
    pub fn finished(&self) -> u64 {
        self.finished
    }

    /// Objects that workers resolved.
    pub fn resolved(&self) -> u64 {
        self.resolved
    }

    /// Objects that workers deleted.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Payload bytes that reached a worker.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Reasons of the first failures.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Tasks that each worker ran.
    pub fn tasks(&self, worker: WorkerId) -> u64 {
        self.tasks.get(&worker).copied().unwrap_or(0)
    }

    /// When the first item was due; where no generator told, when the first one came.
    pub fn first_due(&self) -> Option<Nanos> {
        self.first_scheduled.or(self.first_received)
    }

    /// Mean size of the finished items, bytes; `None` when none finished.
    pub fn mean_size(&self) -> Option<u64> {
        self.payload_bytes.checked_div(self.finished)
    }

    /// When the last outcome was back.
    pub fn last_recorded(&self) -> Option<Nanos> {
        self.last_recorded
    }

    /// Notes each item in a trace, too, from now on.
    pub fn trace_into(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// Ends the trace, if there is one: all of it is on its way to its file.
    pub fn end_trace(&mut self) {
        self.trace = None;
    }

    /// An item's task never ran to an outcome of its own.
    pub fn lose(&mut self, head: &ItemHead, known: Unfinished, reason: &str) {
        let reason = format!("item {}: {reason}", head.sequence);
        if let Some(trace) = &mut self.trace {
            trace.push(TracedItem::unfinished(head, &known, &reason));
        }
        self.fail(reason);
    }

    fn fail(&mut self, reason: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_IN_WORDS && !self.failures.contains(&reason) {
            self.failures.push(reason);
        }
    }

    /// An item's task ended.
    pub fn record(&mut self, worker: WorkerId, head: &ItemHead, dispatched: Dispatched, outcome: ItemOutcome) {
        *self.tasks.entry(worker).or_default() += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(TracedItem::ended(worker, head, &dispatched, &outcome));
        }
        let arrived = outcome.resolved.unwrap_or(outcome.started);
        let Dispatched { received, submitted, recorded } = dispatched;
        self.time(Stage::ScheduleLag, head.scheduled, head.created);
        self.time(Stage::Store, head.created, head.stored);
        self.time(Stage::Publish, head.stored.or(head.created), head.published);
        self.time(Stage::Broker, head.published, received);
        self.time(Stage::Queue, received, submitted);
        self.time(Stage::Dispatch, submitted, outcome.started);
        self.time(Stage::Report, outcome.finished, recorded);
        self.time(Stage::Lifetime, head.stored, outcome.evicted);
        self.evicted += u64::from(outcome.evicted.is_some());
        self.last_recorded = self.last_recorded.max(Some(recorded));
        self.first_received = earliest(self.first_received, Some(received));
        self.first_scheduled = earliest(self.first_scheduled, head.scheduled);
        self.first_created = earliest(self.first_created, head.created);
        if let Some(failure) = outcome.failure {
            self.corrupt += u64::from(failure.corrupt);
            self.fail(failure.reason);
            return;
        }
        self.finished += 1;
        self.resolved += u64::from(outcome.resolved.is_some());
        self.payload_bytes += outcome.bytes;
        self.last_arrived = self.last_arrived.max(arrived);
        if let Some(created) = head.created {
            self.unevenness.push(Passage { arrived, created });
        }
        self.time(Stage::Resolve, outcome.started, outcome.resolved);
        self.time(Stage::Work, arrived, outcome.finished);
        self.time(Stage::Arrival, head.scheduled, arrived);
        self.time(Stage::EndToEnd, head.scheduled, outcome.finished);
        let due = head.scheduled.zip(self.deadline);
        let limit = due.map(|(scheduled, deadline)| u128::from(scheduled) + deadline.as_nanos());
        self.late += u64::from(limit.is_some_and(|limit| u128::from(outcome.finished) > limit));
    }

    /// Records the time of a stage, where both its ends are known.
    fn time(&mut self, stage: Stage, from: impl Into<Option<Nanos>>, to: impl Into<Option<Nanos>>) {
        if let (Some(from), Some(to)) = (from.into(), to.into()) {
            self.times[stage as usize].record(from, to);
        }
    }

    /// Where the items went, of which `planned` were asked for and `generated` were made.
    pub fn balance(&self, planned: u64, generated: u64, orphaned: u64) -> Balance {
        Balance {
            planned,
            generated,
            finished: self.finished,
            failed: self.failed,
            lost: generated.saturating_sub(self.arrived()),
            unacknowledged: 0,
            duplicated: self.arrivals.duplicated,
            reordered: self.arrivals.reordered,
            corrupt: self.corrupt,
            late: self.late,
            orphaned,
        }
    }

    /// Which of so many items that each generator made have not come, for people: `3–5, 17`, and no more than a line of them.
    pub fn missing(&self, generated: &[u64]) -> String {
        const MOST_RANGES: usize = 8;
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in self.arrivals.missing(generated) {
            if let Some((_, last)) = ranges.last_mut().filter(|(_, last)| *last + 1 == number) {
                *last = number;
            } else if ranges.len() < MOST_RANGES {
                ranges.push((number, number));
            } else {
                return ranges_of(&ranges) + ", …";
            }
        }
        ranges_of(&ranges)
    }

    /// Rates of a trial that ran from `start` to `end`; `None` when nothing finished.
    pub fn rates(&self, start: Nanos, end: Nanos, scheduled: Option<f64>, ideal: Option<f64>) -> Option<Rates> {
        let seconds = end.saturating_sub(start) as f64 / 1e9;
        (self.finished > 0 && seconds > 0.0).then(|| {
            let items_per_s = self.finished as f64 / seconds;
            Rates {
                items_per_s,
                goodput_bytes_per_s: self.goodput(),
                scheduled_items_per_s: scheduled,
                ideal_items_per_s: ideal,
                efficiency: ideal.map(|ideal| items_per_s / ideal),
            }
        })
    }

    fn goodput(&self) -> Option<f64> {
        let seconds = self.last_arrived.checked_sub(self.first_created?)? as f64 / 1e9;
        (self.finished >= 2 && seconds > 0.0).then(|| self.payload_bytes as f64 / seconds)
    }

    /// Times between stages, by name.
    pub fn latency(&self, errors: ClockErrors) -> BTreeMap<String, Latency> {
        let summary = |stage: &Stage| {
            let latency = self.times[*stage as usize].summary()?;
            Some((stage.name().into(), Latency { clock_error_ns: stage.clock_error(errors), ..latency }))
        };
        Stage::ALL.iter().filter_map(summary).collect()
    }

    /// Unevenness of arrival.
    pub fn jitter(&mut self) -> Option<Jitter> {
        self.unevenness.summary()
    }
}

fn earliest(known: Option<Nanos>, other: Option<Nanos>) -> Option<Nanos> {
    known.into_iter().chain(other).min()
}

fn ranges_of(ranges: &[(u64, u64)]) -> String {
    let one = |(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}–{last}"),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Body, ItemFailure};

    const DISPATCHED: Dispatched = Dispatched { received: 40, submitted: 50, recorded: 100 };

    fn head(sequence: u64) -> ItemHead {
        ItemHead {
            sequence,
            scheduled: Some(0),
            created: Some(10),
            stored: Some(20),
            published: Some(30),
            body: Body::Proxy,
        }
    }

    fn outcome() -> ItemOutcome {
        ItemOutcome { started: 60, resolved: Some(70), finished: 90, evicted: Some(70), bytes: 1000, failure: None }
    }

    #[test]
    fn each_time_is_between_its_stages() {
        let mut recorder = Recorder::default();
        recorder.record(WorkerId(1), &head(0), DISPATCHED, outcome());
        let latency = recorder.latency(ClockErrors::default());
        let p50: Vec<(&str, u64)> = latency.iter().map(|(name, latency)| (name.as_str(), latency.p50_ns)).collect();
        let expected = [
            ("arrival", 70),
            ("broker", 10),
            ("dispatch", 10),
            ("end_to_end", 90),
            ("lifetime", 50),
            ("publish", 10),
            ("queue", 10),
            ("report", 10),
            ("resolve", 10),
            ("schedule_lag", 10),
            ("store", 10),
            ("work", 20),
        ];
        assert_eq!(p50, expected);
        assert_eq!((recorder.tasks(WorkerId(1)), recorder.evicted()), (1, 1));
    }

    #[test]
    fn a_stage_that_did_not_happen_is_absent() {
        let mut recorder = Recorder::default();
        let head = ItemHead { stored: None, body: Body::Full { size: 1000, checksum: None }, ..head(0) };
        recorder.record(WorkerId(0), &head, DISPATCHED, ItemOutcome { resolved: None, evicted: None, ..outcome() });
        let latency = recorder.latency(ClockErrors::default());
        assert!(["store", "resolve", "lifetime"].iter().all(|stage| !latency.contains_key(*stage)));
        assert_eq!(latency["arrival"].p50_ns, 60);
    }

    #[test]
    fn what_a_foreign_generator_does_not_tell_is_absent() {
        let mut recorder = Recorder::new(Some(Duration::ZERO), 1, 1);
        for sequence in 0..2 {
            let unknown = ItemHead { scheduled: None, created: None, stored: None, published: None, ..head(sequence) };
            recorder.record(WorkerId(0), &unknown, DISPATCHED, outcome());
        }
        let latency = recorder.latency(ClockErrors::default());
        let stages: Vec<&str> = latency.keys().map(String::as_str).collect();
        assert_eq!(stages, ["dispatch", "queue", "report", "resolve", "work"]);
        assert_eq!((recorder.jitter(), recorder.rates(0, 100, None, None).unwrap().goodput_bytes_per_s), (None, None));
        assert_eq!((recorder.first_due(), recorder.mean_size(), recorder.evicted()), (Some(40), Some(1000), 2));
        assert_eq!(recorder.balance(2, 2, 0).late, 0);
    }

    #[test]
    fn the_balance_adds_up() {
        let mut recorder = Recorder::new(Some(Duration::from_nanos(80)), 1, 1);
        for sequence in [0, 2, 1, 1] {
            if recorder.arrive(sequence) {
                let failure =
                    (sequence == 2).then(|| ItemFailure { corrupt: true, unreachable: false, reason: "bad".into() });
                recorder.record(WorkerId(0), &head(sequence), DISPATCHED, ItemOutcome { failure, ..outcome() });
            }
        }
        let balance = recorder.balance(10, 5, 2);
        let expected = Balance {
            planned: 10,
            generated: 5,
            finished: 2,
            failed: 1,
            lost: 2,
            unacknowledged: 0,
            duplicated: 1,
            reordered: 1,
            corrupt: 1,
            late: 2,
            orphaned: 2,
        };
        assert_eq!(balance, expected);
        assert_eq!(recorder.failures(), ["bad"]);
    }

    #[test]
    fn goodput_is_from_the_first_creation_to_the_last_arrival() {
        let mut recorder = Recorder::default();
        recorder.record(WorkerId(0), &head(0), DISPATCHED, outcome());
        assert_eq!(recorder.rates(0, 100, None, None).unwrap().goodput_bytes_per_s, None);
        recorder.record(WorkerId(0), &head(1), DISPATCHED, ItemOutcome { resolved: Some(110), ..outcome() });
        let rates = recorder.rates(0, 200, None, Some(2e7)).unwrap();
        // 2,000 bytes in 100 ns; 2 items in 200 ns.
        assert!((rates.goodput_bytes_per_s.unwrap() / 2e10 - 1.0).abs() < 1e-12);
        assert!((rates.efficiency.unwrap() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn times_between_hosts_tell_by_how_much_they_may_be_off() {
        let errors = ClockErrors { generators: Some(7), workers: Some(5) };
        let of = |stage: Stage| stage.clock_error(errors);
        assert_eq!([of(Stage::Broker), of(Stage::Report), of(Stage::EndToEnd)], [Some(7), Some(5), Some(12)]);
        assert_eq!([of(Stage::Store), of(Stage::Queue), of(Stage::Work)], [None; 3]);
        assert_eq!(Stage::Dispatch.clock_error(ClockErrors::default()), None, "all on one host");
    }

    #[test]
    fn what_is_missing_is_told_by_number() {
        let mut recorder = Recorder::default();
        for number in [0, 1, 4, 6] {
            assert!(recorder.arrive(number));
        }
        assert_eq!(recorder.missing(&[7]), "2–3, 5");
        assert_eq!(recorder.missing(&[3, 2]), "2–3");
        assert_eq!(recorder.missing(&[0]), "");
        (8..60).step_by(2).for_each(|number| assert!(recorder.arrive(number)));
        assert!(recorder.missing(&[60]).ends_with(", …"), "{}", recorder.missing(&[60]));
    }
}
