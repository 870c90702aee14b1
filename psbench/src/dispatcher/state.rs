//! What the dispatcher knows, behind its lock.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use psbench_executors::{Outcome, TaskError, TaskId, WorkerId};

use super::allowance::Allowance;
use super::{Bounds, Foreign, Generator, generator_task};
use crate::brokers::Message;
use crate::clock::Nanos;
use crate::item::{self, Head, ItemHead, ItemOutcome};
use crate::plan::Share;
use crate::recorder::{Dispatched, Recorder, Unfinished};
use crate::results::record::DispatcherBytes;

pub(super) struct State {
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) waiting_bytes: u64,
    pub(super) outstanding: HashMap<TaskId, Outstanding>,
    pub(super) outstanding_bytes: u64,
    /// What is known of each generator.
    pub(super) generators: Vec<Generator>,
    /// The worker that each generator ran on, once it has ended.
    pub(super) hosts: Vec<Option<WorkerId>>,
    /// Why what each generator held can't be had any more.
    pub(super) gone: Vec<Option<String>>,
    /// How many items the end of each generator's stream told of, once it has come. An external generator has one, too.
    pub(super) ends: Vec<Option<u64>>,
    /// Whether a worker could not reach what each generator stored, and none has since: the others learn it with their tasks.
    pub(super) doubted: Vec<bool>,
    /// What each generator may make; none where nothing bounds that.
    pub(super) allowances: Vec<Allowance>,
    /// Why no task goes out any more.
    pub(super) closed: Option<&'static str>,
    /// Threads that wait for [`Dispatcher::changed`].
    pub(super) watchers: usize,
    pub(super) bytes: DispatcherBytes,
    pub(super) recorder: Recorder,
}

pub(super) struct Waiting {
    pub(super) head: ItemHead,
    pub(super) message: Message,
    pub(super) received: Nanos,
}

pub(super) struct Outstanding {
    pub(super) head: ItemHead,
    pub(super) received: Nanos,
    pub(super) submitted: Nanos,
    /// Of its message.
    pub(super) bytes: u64,
}

/// Messages that may wait for a worker: a little work ahead hides the broker's latency, and more would only hold memory.
const MAX_WAITING: u64 = 4096;
const MAX_WAITING_BYTES: u64 = 64 << 20;

impl State {
    pub(super) fn new(bounds: Bounds, recorder: Recorder) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            outstanding: HashMap::with_capacity(bounds.outstanding),
            outstanding_bytes: 0,
            generators: vec![Generator::Running; bounds.generators as usize],
            hosts: vec![None; bounds.generators as usize],
            gone: vec![None; bounds.generators as usize],
            ends: vec![None; bounds.generators.max(1) as usize],
            doubted: vec![false; bounds.generators.max(1) as usize],
            allowances: bounds
                .inflight_items
                .map(|ahead| Allowance::each(ahead, bounds.items, bounds.generators))
                .unwrap_or_default(),
            closed: None,
            watchers: 0,
            bytes: DispatcherBytes::default(),
            recorder,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ends.iter().all(Option::is_some)
    }

    /// How many items each generator made: what it told, what its stream's end told, or what has come of its share, where that is more.
    pub(super) fn generated(&self) -> Vec<u64> {
        let shares = Share::each(u32::try_from(self.ends.len()).unwrap_or(u32::MAX));
        let told = self.generators.iter().map(|generator| match generator {
            Generator::Ended(report) => report.generated,
            Generator::Running | Generator::Lost(_) => 0,
        });
        let all = shares.zip(&self.ends).zip(told.chain(std::iter::repeat(0)));
        all.map(|((share, end), told)| told.max(end.unwrap_or(0)).max(self.recorder.seen(share))).collect()
    }

    /// The end of a generator's stream has come; further ones tell nothing.
    fn end(&mut self, generator: usize, generated: u64) {
        self.ends[generator].get_or_insert(generated);
    }

    /// The generator whose task this is.
    fn generator_of(&self, task: TaskId) -> Option<usize> {
        usize::try_from(u64::MAX - task.0).ok().filter(|generator| *generator < self.generators.len())
    }

    /// The generator that made an item.
    fn maker_of(&self, sequence: u64) -> usize {
        (sequence % self.generators.len().max(1) as u64) as usize
    }

    /// Why an item can't be had that comes, or waits: with its generator, what that held is gone.
    fn gone(&self, head: &ItemHead) -> Option<&String> {
        self.gone.get(self.maker_of(head.sequence))?.as_ref()
    }

    /// A task's head, which tells where other workers could not reach the item's bytes.
    pub(super) fn with_doubt(&self, head: &ItemHead, bytes: Bytes) -> Bytes {
        if self.doubted[self.maker_of(head.sequence)] { [&bytes[..], &[item::DOUBTED]].concat().into() } else { bytes }
    }

    fn note_reach(&mut self, sequence: u64, outcome: &ItemOutcome) {
        let unreachable = outcome.failure.as_ref().is_some_and(|failure| failure.unreachable);
        if unreachable || outcome.resolved.is_some() {
            let maker = self.maker_of(sequence);
            self.doubted[maker] = unreachable;
        }
    }

    /// Fails what waits of a generator's items, which it held.
    pub(super) fn lose_held(&mut self, generator: usize, end: &str, now: Nanos) {
        self.hosts[generator] = None;
        let reason = format!("its bytes were lost with its generator: {end}");
        for waiting in std::mem::take(&mut self.waiting) {
            if self.maker_of(waiting.head.sequence) == generator {
                self.waiting_bytes -= waiting.message.len();
                self.not_run(&waiting.head, waiting.received, now, &reason);
            } else {
                self.waiting.push_back(waiting);
            }
        }
        self.gone[generator] = Some(reason);
    }

    fn generator_ended(&mut self, generator: usize, outcome: Outcome, held: bool, now: Nanos) {
        if let (true, Err(error @ TaskError::WorkerLost { .. })) = (held, &outcome.result) {
            self.lose_held(generator, &error.to_string(), now);
        } else {
            self.hosts[generator] = outcome.worker;
        }
        self.generators[generator] = generator_end(outcome.result);
    }

    pub(super) fn take_messages(
        &mut self,
        messages: &mut Vec<Message>,
        received: Nanos,
        bounds: Bounds,
    ) -> Result<(), Foreign> {
        for message in messages.drain(..) {
            if bounds.is_external() && self.has_ended() {
                continue;
            }
            self.bytes.received += message.len();
            match item::decode(&message.head) {
                Some(Head::Item(head)) if head.sequence < bounds.items => {
                    if !self.recorder.arrive(head.sequence) {
                        continue;
                    }
                    match (self.closed, self.gone(&head).cloned()) {
                        (None, None) => {
                            self.waiting_bytes += message.len();
                            self.waiting.push_back(Waiting { head, message, received });
                        }
                        (Some(reason), _) => self.not_run(&head, received, received, reason),
                        (None, Some(reason)) => self.not_run(&head, received, received, &reason),
                    }
                    if bounds.is_external() && self.recorder.arrived() == bounds.items {
                        self.end(0, bounds.items);
                    }
                }
                Some(Head::End { generator, generated }) if bounds.has_share(generator, generated) => {
                    self.end(generator as usize, generated);
                }
                // More than this trial takes.
                Some(_) if bounds.is_external() => self.end(0, bounds.items),
                _ => return Err(Foreign),
            }
        }
        Ok(())
    }

    pub(super) fn not_run(&mut self, head: &ItemHead, received: Nanos, recorded: Nanos, reason: &str) {
        let known = Unfinished { received, submitted: None, worker: None, recorded };
        self.recorder.lose(head, known, &format!("not run: {reason}"));
    }

    /// The message that waits longest, where it fits beside what the executor holds.
    pub(super) fn pop_fitting(&mut self, limit: u64) -> Option<Waiting> {
        let next = self.waiting.front()?.message.len();
        if self.outstanding_bytes > 0 && self.outstanding_bytes + next > limit {
            return None;
        }
        self.waiting_bytes -= next;
        self.waiting.pop_front()
    }

    /// Whether what waits has reached its bounds divided by `share`. Where nothing is held there is always room.
    pub(super) fn is_filled(&self, limit: u64, share: u64) -> bool {
        if self.waiting.is_empty() && self.outstanding.is_empty() {
            return false;
        }
        let room = MAX_WAITING_BYTES.min(limit.saturating_sub(self.outstanding_bytes));
        self.waiting.len() as u64 >= MAX_WAITING / share || self.waiting_bytes >= room / share
    }

    pub(super) fn take_outcome(&mut self, outcome: Outcome, held: bool, ahead_ns: i64, recorded: Nanos) {
        if let Some(generator) = self.generator_of(outcome.task) {
            return self.generator_ended(generator, outcome, held, recorded);
        }
        let Outcome { task, worker, result } = outcome;
        if let Some(outstanding) = self.outstanding.remove(&task) {
            self.outstanding_bytes -= outstanding.bytes;
            if !self.allowances.is_empty() {
                let generator = (task.0 % self.allowances.len() as u64) as usize;
                self.allowances[generator].note_done();
            }
            self.record(worker, &outstanding, result, ahead_ns, recorded);
        } else {
            tracing::error!(task = task.0, ?worker, "the executor told of a task that it was not given");
        }
    }

    /// What generators are to be told of how many items they may make.
    pub(super) fn news(&mut self) -> Vec<(TaskId, u64)> {
        let news = (0..).zip(&mut self.allowances);
        news.filter_map(|(generator, allowance)| Some((generator_task(generator), allowance.news()?))).collect()
    }

    fn record(
        &mut self,
        worker: Option<WorkerId>,
        task: &Outstanding,
        result: Result<Bytes, TaskError>,
        ahead_ns: i64,
        recorded: Nanos,
    ) {
        let Outstanding { head, received, submitted, .. } = *task;
        let outcome = result.map_err(|error| error.to_string()).and_then(|bytes| {
            let outcome = item::decode::<ItemOutcome>(&bytes).map(|outcome| outcome.behind(ahead_ns));
            outcome.zip(worker).ok_or_else(|| "its worker answered with something that is no outcome".into())
        });
        match outcome {
            Ok((outcome, worker)) => {
                self.note_reach(head.sequence, &outcome);
                self.recorder.record(worker, &head, Dispatched { received, submitted, recorded }, outcome);
            }
            Err(reason) => {
                let known = Unfinished { received, submitted: Some(submitted), worker, recorded };
                self.recorder.lose(&head, known, &reason);
            }
        }
    }
}

fn generator_end(result: Result<Bytes, TaskError>) -> Generator {
    match result {
        Ok(report) => {
            item::decode(&report).map_or_else(|| Generator::Lost("its report can't be read".into()), Generator::Ended)
        }
        Err(error) => Generator::Lost(error.to_string()),
    }
}
