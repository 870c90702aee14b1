//! Hands items to workers as they come, and takes back what became of them.
//!
//! There is no dispatcher thread: whoever brings something (the thread that reads the broker, an executor's thread with an outcome)
//! takes the lock, notes it, and takes along the tasks that may go out now. So a worker that finishes gets its next task without a
//! wake-up in between, and no task waits for an older one.

mod allowance;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use psbench_executors::{Executor, Outcome, OutcomeSink, Task, TaskError, TaskId, WorkerId, WorkerInfo};

use self::allowance::Allowance;
use crate::brokers::Message;
use crate::clock::{Clock, Nanos};
use crate::item::{self, GeneratorReport, Head, ItemHead, ItemOutcome};
use crate::plan::Share;
use crate::recorder::{Dispatched, Recorder, Unfinished};
use crate::results::record::DispatcherBytes;
use crate::trace::Trace;

/// A generator's task; items have their sequence numbers.
pub fn generator_task(generator: u32) -> TaskId {
    TaskId(u64::MAX - u64::from(generator))
}

/// Moves the items of one trial from broker to executor and into the recorder.
pub struct Dispatcher {
    state: Mutex<State>,
    /// An item is done, a generator has ended, or there is room for more messages.
    changed: Condvar,
    /// Weak, since an executor holds its sink.
    executor: OnceLock<Weak<dyn Executor>>,
    clock: Arc<dyn Clock>,
    bounds: Bounds,
}

/// What a dispatcher keeps within.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Tasks at the executor at any time, the generators' not counted.
    pub outstanding: usize,
    /// Bytes of messages that are held at any time, waiting or at the executor: above it no more are taken from the broker, and none
    /// goes to the executor. One message is always let through, however large.
    pub inflight_bytes: u64,
    /// Items under way at any time, made and not yet done with: generators are told how many they may have made. Absent for no bound.
    pub inflight_items: Option<u64>,
    /// Items of the trial.
    pub items: u64,
    /// Generators that psbench runs, 0 where another program generates. Of psbench's own a message with a higher number is not of this
    /// trial; of another program's it is left out, and the last of so many items ends the stream.
    pub generators: u32,
    /// Whether what items stand for is in the memory of their generator's process, and ends with it.
    pub held_by_generators: bool,
}

impl Bounds {
    /// Whether another program generates.
    fn is_external(self) -> bool {
        self.generators == 0
    }

    /// Whether there is a generator of this number that can have made so many items.
    fn has_share(self, generator: u32, generated: u64) -> bool {
        let generators = self.generators.max(1);
        generator < generators && generated <= Share { generator, generators }.of(self.items)
    }
}

struct State {
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    outstanding: HashMap<TaskId, Outstanding>,
    outstanding_bytes: u64,
    /// What is known of each generator.
    generators: Vec<Generator>,
    /// The worker that each generator ran on, once it has ended.
    hosts: Vec<Option<WorkerId>>,
    /// Why what each generator held can't be had any more.
    gone: Vec<Option<String>>,
    /// How many items the end of each generator's stream told of, once it has come. An external generator has one, too.
    ends: Vec<Option<u64>>,
    /// Whether a worker could not reach what each generator stored, and none has since: the others learn it with their tasks.
    doubted: Vec<bool>,
    /// What each generator may make; none where nothing bounds that.
    allowances: Vec<Allowance>,
    /// Why no task goes out any more.
    closed: Option<&'static str>,
    /// Threads that wait for [`Dispatcher::changed`].
    watchers: usize,
    bytes: DispatcherBytes,
    recorder: Recorder,
}

/// What is known of a generator.
#[derive(Clone, Debug, PartialEq)]
pub enum Generator {
    /// It runs.
    Running,
    /// It ended, and told.
    Ended(Box<GeneratorReport>),
    /// It ended without telling.
    Lost(String),
}

/// Generators that have ended, the end of whose streams has not come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Silent {
    /// Those that ended by themselves.
    pub awaited: Vec<u32>,
    /// Those that were lost.
    pub lost: Vec<u32>,
}

impl Silent {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.awaited.is_empty() && self.lost.is_empty()
    }
}

struct Waiting {
    head: ItemHead,
    message: Message,
    received: Nanos,
}

struct Outstanding {
    head: ItemHead,
    received: Nanos,
    submitted: Nanos,
    /// Of its message.
    bytes: u64,
}

/// A message is not of this trial.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message came that is not of this trial; does something else publish to its topic?")]
pub struct Foreign;

/// How far a trial has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Items done with.
    pub items: u64,
    /// Payload bytes that reached a worker.
    pub bytes: u64,
}

/// Messages that may wait for a worker: a little work ahead hides the broker's latency, and more would only hold memory.
const MAX_WAITING: u64 = 4096;
const MAX_WAITING_BYTES: u64 = 64 << 20;

impl Dispatcher {
    /// For one trial. [`run_on`](Self::run_on) comes next.
    pub fn new(bounds: Bounds, recorder: Recorder, clock: Arc<dyn Clock>) -> Self {
        let state = State {
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
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), executor: OnceLock::new(), clock, bounds }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another thread must not turn into one here: the balance at the end tells what it spoiled.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes each item in a trace, too.
    pub fn trace_into(&self, trace: Trace) {
        self.lock().recorder.trace_into(trace);
    }

    /// Starts: tasks go to this executor, first those of the generators, each of which has a plan.
    pub fn run_on(&self, executor: &Arc<dyn Executor>, generators: Vec<Bytes>) {
        self.executor.get_or_init(|| Arc::downgrade(executor));
        let tasks = (0..).zip(generators).map(|(generator, head)| Task {
            id: generator_task(generator),
            head,
            payload: Bytes::new(),
            exclusive: true,
        });
        self.submit(tasks.collect());
    }

    /// Takes messages from the broker, leaving `messages` empty.
    pub fn accept(&self, messages: &mut Vec<Message>) -> Result<(), Foreign> {
        let received = self.clock.now();
        let mut state = self.lock();
        let taken = state.take_messages(messages, received, self.bounds);
        let tasks = self.ready(&mut state);
        drop(state);
        self.submit(tasks);
        taken
    }

    /// The tasks that may go out now.
    fn ready(&self, state: &mut State) -> Vec<Task> {
        let free = self.bounds.outstanding.saturating_sub(state.outstanding.len());
        if state.closed.is_some() || free == 0 || state.waiting.is_empty() {
            return Vec::new();
        }
        let count = free.min(state.waiting.len());
        let mut tasks = Vec::with_capacity(count);
        // Read within the lock: a time from before it may be earlier than that at which another thread received the item.
        let submitted = self.clock.now();
        for _ in 0..count {
            let Some(Waiting { head, message, received }) = state.pop_fitting(self.bounds.inflight_bytes) else {
                break;
            };
            let bytes = message.len();
            state.bytes.sent += bytes;
            let id = TaskId(head.sequence);
            let message_head = state.with_doubt(&head, message.head);
            state.outstanding_bytes += bytes;
            state.outstanding.insert(id, Outstanding { head, received, submitted, bytes });
            tasks.push(Task { id, head: message_head, payload: message.payload, exclusive: false });
        }
        tasks
    }

    fn submit(&self, tasks: Vec<Task>) {
        if tasks.is_empty() {
            return;
        }
        if let Some(executor) = self.executor.get().and_then(Weak::upgrade) {
            executor.submit(tasks);
        }
    }

    fn tell(&self, news: Vec<(TaskId, u64)>) {
        if news.is_empty() {
            return;
        }
        if let Some(executor) = self.executor.get().and_then(Weak::upgrade) {
            news.into_iter().for_each(|(generator, allowed)| executor.tell(generator, allowed));
        }
    }

    /// Lets generators go on that wait for items to be done with which never came; to be called when nothing has come for long and
    /// nothing is out. Returns how many items did not come.
    pub fn miss(&self) -> u64 {
        let mut state = self.lock();
        let missing = state.allowances.iter().map(Allowance::missing).sum();
        if missing > 0 {
            state.allowances.iter_mut().filter(|allowance| allowance.missing() > 0).for_each(Allowance::double);
        }
        let news = state.news();
        drop(state);
        self.tell(news);
        missing
    }

    /// Waits, at most `wait`, until there is room for more messages; tells whether there is.
    pub fn has_room(&self, wait: Duration) -> bool {
        // Once it was full, room for one message is not worth a wake-up of the broker's reader: half must be gone.
        let limit = self.bounds.inflight_bytes;
        let full = self.wait_while(Duration::ZERO, |state| state.is_filled(limit, 1)).1;
        !(full && self.wait_while(wait, |state| state.is_filled(limit, 2)).1)
    }

    /// Waits, at most `wait`, until every item that has come is done with; tells whether they are.
    pub fn is_drained(&self, wait: Duration) -> bool {
        let busy = |state: &mut State| !state.outstanding.is_empty() || !state.waiting.is_empty();
        !self.wait_while(wait, busy).1
    }

    /// Waits, at most `wait`, for the end of all generators; tells what is known of each.
    pub fn generators(&self, wait: Duration) -> Vec<Generator> {
        self.wait_while(wait, |state| state.generators.contains(&Generator::Running)).0.generators.clone()
    }

    fn wait_while(&self, wait: Duration, condition: impl Fn(&mut State) -> bool) -> (MutexGuard<'_, State>, bool) {
        let mut state = self.lock();
        if !wait.is_zero() {
            state.watchers += 1;
            let waited = self.changed.wait_timeout_while(state, wait, |state| condition(state));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.watchers -= 1;
        }
        let still = condition(&mut state);
        (state, still)
    }

    /// Whether the stream's end has come: that of every generator's.
    pub fn stream_has_ended(&self) -> bool {
        self.lock().has_ended()
    }

    /// Once all generators have ended, those whose stream's end has not come. None before, and of another program.
    pub fn silent_generators(&self) -> Silent {
        let state = self.lock();
        if state.generators.contains(&Generator::Running) {
            return Silent::default();
        }
        let silent = || (0..).zip(&state.generators).zip(&state.ends).filter(|(_, end)| end.is_none());
        let of = |lost| silent().filter(move |((_, end), _)| matches!(end, Generator::Lost(_)) == lost);
        let numbers = |lost| of(lost).map(|((number, _), _)| number).collect();
        Silent { awaited: numbers(false), lost: numbers(true) }
    }

    /// Whether something that generators hold goes with their processes, which are not known to have ended.
    pub fn watches_hosts(&self) -> bool {
        self.bounds.held_by_generators && self.lock().hosts.iter().any(Option::is_some)
    }

    /// Fails what waits for a worker of those generators that had ended in order, and whose processes are gone since: with what they held.
    pub fn note_workers(&self, workers: &[WorkerInfo]) {
        let mut state = self.lock();
        for worker in workers.iter().filter(|worker| !worker.alive) {
            let hosted = state.hosts.iter().position(|host| *host == Some(worker.id));
            if let Some(generator) = hosted {
                let end = worker.end.as_ref().map_or_else(|| "it ended".into(), ToString::to_string);
                state.lose_held(generator, &format!("{} was lost ({end})", worker.label), self.clock.now());
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// How many messages have come for which no worker was free.
    pub fn waiting(&self) -> u64 {
        self.lock().waiting.len() as u64
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let state = self.lock();
        Progress { items: state.recorder.done(), bytes: state.recorder.payload_bytes() }
    }

    /// Lets no task go out any more: items that wait for a worker, or come from now on, fail for this reason. `false` when it was
    /// closed already.
    pub fn close(&self, reason: &'static str) -> bool {
        let mut state = self.lock();
        if state.closed.is_some() {
            return false;
        }
        state.closed = Some(reason);
        let now = self.clock.now();
        for waiting in std::mem::take(&mut state.waiting) {
            state.not_run(&waiting.head, waiting.received, now, reason);
        }
        state.waiting_bytes = 0;
        self.changed.notify_all();
        true
    }

    /// What was recorded; to be called when the executor has ended.
    pub fn finish(&self) -> Finished {
        let mut state = self.lock();
        Finished {
            generated: state.generated(),
            ended: state.has_ended(),
            bytes: state.bytes,
            recorder: std::mem::take(&mut state.recorder),
        }
    }
}

/// What a dispatcher leaves behind.
#[derive(Debug)]
pub struct Finished {
    /// Items that each generator made, as far as anyone told; an external generator is one.
    pub generated: Vec<u64>,
    /// Whether the stream's end came.
    pub ended: bool,
    /// What went through.
    pub bytes: DispatcherBytes,
    /// The items' record.
    pub recorder: Recorder,
}

impl Finished {
    /// Items that all generators made.
    pub fn all_generated(&self) -> u64 {
        self.generated.iter().sum()
    }
}

impl State {
    fn has_ended(&self) -> bool {
        self.ends.iter().all(Option::is_some)
    }

    /// How many items each generator made: what it told, what its stream's end told, or what has come of its share, where that is more.
    fn generated(&self) -> Vec<u64> {
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
    fn with_doubt(&self, head: &ItemHead, bytes: Bytes) -> Bytes {
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
    fn lose_held(&mut self, generator: usize, end: &str, now: Nanos) {
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

    fn take_messages(&mut self, messages: &mut Vec<Message>, received: Nanos, bounds: Bounds) -> Result<(), Foreign> {
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

    fn not_run(&mut self, head: &ItemHead, received: Nanos, recorded: Nanos, reason: &str) {
        let known = Unfinished { received, submitted: None, worker: None, recorded };
        self.recorder.lose(head, known, &format!("not run: {reason}"));
    }

    /// The message that waits longest, where it fits beside what the executor holds.
    fn pop_fitting(&mut self, limit: u64) -> Option<Waiting> {
        let next = self.waiting.front()?.message.len();
        if self.outstanding_bytes > 0 && self.outstanding_bytes + next > limit {
            return None;
        }
        self.waiting_bytes -= next;
        self.waiting.pop_front()
    }

    /// Whether what waits has reached its bounds divided by `share`. Where nothing is held there is always room.
    fn is_filled(&self, limit: u64, share: u64) -> bool {
        if self.waiting.is_empty() && self.outstanding.is_empty() {
            return false;
        }
        let room = MAX_WAITING_BYTES.min(limit.saturating_sub(self.outstanding_bytes));
        self.waiting.len() as u64 >= MAX_WAITING / share || self.waiting_bytes >= room / share
    }

    fn take_outcome(&mut self, outcome: Outcome, held: bool, ahead_ns: i64, recorded: Nanos) {
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
    fn news(&mut self) -> Vec<(TaskId, u64)> {
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

impl OutcomeSink for Dispatcher {
    fn deliver(&self, outcomes: &mut Vec<Outcome>) {
        let now = self.clock.now();
        let executor = self.executor.get().and_then(Weak::upgrade);
        let clock = |worker| executor.as_ref().zip(worker).and_then(|(executor, worker)| executor.clock(worker));
        let mut state = self.lock();
        for outcome in outcomes.drain(..) {
            let ahead_ns = clock(outcome.worker).map_or(0, |clock| clock.ahead_ns);
            state.take_outcome(outcome, self.bounds.held_by_generators, ahead_ns, now);
        }
        let tasks = self.ready(&mut state);
        let news = state.news();
        let watched = state.watchers > 0;
        drop(state);
        // A system call, so only where somebody looks.
        if watched {
            self.changed.notify_all();
        }
        self.submit(tasks);
        self.tell(news);
    }
}
