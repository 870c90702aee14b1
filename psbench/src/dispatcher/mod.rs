//! Hands items to workers as they come, and takes back what became of them.
//!
//! There is no dispatcher thread: whoever brings something (the thread that reads the broker, an executor's thread with an outcome)
//! takes the lock, notes it, and takes along the tasks that may go out now. So a worker that finishes gets its next task without a
//! wake-up in between, and no task waits for an older one.

mod allowance;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use psbench_executors::{Executor, Outcome, OutcomeSink, Task, TaskId, WorkerInfo};

use self::allowance::Allowance;
use self::state::{Outstanding, State, Waiting};
use crate::brokers::Message;
use crate::clock::Clock;
use crate::item::GeneratorReport;
use crate::plan::Share;
use crate::recorder::Recorder;
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

impl Dispatcher {
    /// For one trial. [`run_on`](Self::run_on) comes next.
    pub fn new(bounds: Bounds, recorder: Recorder, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::new(State::new(bounds, recorder)),
            changed: Condvar::new(),
            executor: OnceLock::new(),
            clock,
            bounds,
        }
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
