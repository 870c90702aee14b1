//! Hands items to workers as they come, and takes back what became of them.
//!
//! There is no dispatcher thread: whoever brings something (the thread that reads the broker, an executor's thread with an outcome)
//! takes the lock, notes it, and takes along the tasks that may go out now. So a worker that finishes gets its next task without a
//! wake-up in between, and no task waits for an older one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use psbench_executors::{Executor, Outcome, OutcomeSink, Task, TaskError, TaskId, WorkerId};

use crate::brokers::Message;
use crate::clock::{Clock, Nanos};
use crate::item::{self, GeneratorReport, Head, ItemHead, ItemOutcome};
use crate::plan::GeneratorKind;
use crate::recorder::{Dispatched, Recorder, Unfinished};
use crate::results::record::DispatcherBytes;
use crate::trace::Trace;

/// The generator's task; items have their sequence numbers.
pub const GENERATOR: TaskId = TaskId(u64::MAX);

/// Moves the items of one trial from broker to executor and into the recorder.
pub struct Dispatcher {
    state: Mutex<State>,
    /// An item is done, the generator has ended, or there is room for more messages.
    changed: Condvar,
    /// Weak, since an executor holds its sink.
    executor: OnceLock<Weak<dyn Executor>>,
    clock: Arc<dyn Clock>,
    bounds: Bounds,
}

/// What a dispatcher keeps within.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Tasks at the executor at any time, the generator's not counted.
    pub outstanding: usize,
    /// Bytes of messages that are held at any time, waiting or at the executor: above it no more are taken from the broker, and none
    /// goes to the executor. One message is always let through, however large.
    pub inflight_bytes: u64,
    /// Items of the trial.
    pub items: u64,
    /// Who generates. Of psbench's own generator a message with a higher number is not of this trial; of an external one it is left
    /// out, and the last of so many items ends the stream.
    pub generator: GeneratorKind,
}

struct State {
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    outstanding: HashMap<TaskId, Outstanding>,
    outstanding_bytes: u64,
    generator: Generator,
    /// How many items the end of the stream told of.
    end: Option<u64>,
    /// Why no task goes out any more.
    closed: Option<&'static str>,
    /// Threads that wait for [`Dispatcher::changed`].
    watchers: usize,
    bytes: DispatcherBytes,
    recorder: Recorder,
}

/// What is known of the generator.
#[derive(Clone, Debug, PartialEq)]
pub enum Generator {
    /// It runs.
    Running,
    /// It ended, and told.
    Ended(GeneratorReport),
    /// It ended without telling.
    Lost(String),
    /// It is another program, of which nothing is known.
    External,
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
            generator: match bounds.generator {
                GeneratorKind::Internal => Generator::Running,
                GeneratorKind::External => Generator::External,
            },
            end: None,
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

    /// Starts: tasks go to this executor, the generator's first, where there is one.
    pub fn run_on(&self, executor: &Arc<dyn Executor>, generator: Option<Bytes>) {
        self.executor.get_or_init(|| Arc::downgrade(executor));
        if let Some(head) = generator {
            executor.submit(vec![Task { id: GENERATOR, head, payload: Bytes::new(), exclusive: true }]);
        }
    }

    /// Takes messages from the broker, leaving `messages` empty.
    pub fn accept(&self, messages: &mut Vec<Message>) -> Result<(), Foreign> {
        let received = self.clock.now();
        let mut state = self.lock();
        let taken = state.take_messages(messages, received, self.bounds);
        let tasks = self.ready(&mut state, received);
        drop(state);
        self.submit(tasks);
        taken
    }

    /// The tasks that may go out now.
    fn ready(&self, state: &mut State, now: Nanos) -> Vec<Task> {
        let free = self.bounds.outstanding.saturating_sub(state.outstanding.len());
        if state.closed.is_some() || free == 0 || state.waiting.is_empty() {
            return Vec::new();
        }
        let count = free.min(state.waiting.len());
        let mut tasks = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(Waiting { head, message, received }) = state.pop_fitting(self.bounds.inflight_bytes) else {
                break;
            };
            let bytes = message.len();
            state.bytes.sent += bytes;
            let id = TaskId(head.sequence);
            state.outstanding_bytes += bytes;
            state.outstanding.insert(id, Outstanding { head, received, submitted: now, bytes });
            tasks.push(Task { id, head: message.head, payload: message.payload, exclusive: false });
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

    /// Waits, at most `wait`, for the generator's end; tells what is known of it.
    pub fn generator(&self, wait: Duration) -> Generator {
        self.wait_while(wait, |state| state.generator == Generator::Running).0.generator.clone()
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

    /// Whether the stream's end has come.
    pub fn stream_has_ended(&self) -> bool {
        self.lock().end.is_some()
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

    /// What was recorded; to be called when the executor has ended. `generated` is what is known to have been made.
    pub fn finish(&self) -> Finished {
        let mut state = self.lock();
        let told = match &state.generator {
            Generator::Ended(report) => report.generated,
            Generator::Running | Generator::Lost(_) | Generator::External => 0,
        };
        Finished {
            generated: told.max(state.end.unwrap_or(0)).max(state.recorder.seen()),
            ended: state.end.is_some(),
            bytes: state.bytes,
            recorder: std::mem::take(&mut state.recorder),
        }
    }
}

/// What a dispatcher leaves behind.
#[derive(Debug)]
pub struct Finished {
    /// Items made, as far as anyone told.
    pub generated: u64,
    /// Whether the stream's end came.
    pub ended: bool,
    /// What went through.
    pub bytes: DispatcherBytes,
    /// The items' record.
    pub recorder: Recorder,
}

impl State {
    fn take_messages(&mut self, messages: &mut Vec<Message>, received: Nanos, bounds: Bounds) -> Result<(), Foreign> {
        for message in messages.drain(..) {
            if self.end.is_some() && bounds.generator == GeneratorKind::External {
                continue;
            }
            self.bytes.received += message.len();
            match item::decode(&message.head) {
                Some(Head::Item(head)) if head.sequence < bounds.items => {
                    if !self.recorder.arrive(head.sequence) {
                        continue;
                    }
                    match self.closed {
                        None => {
                            self.waiting_bytes += message.len();
                            self.waiting.push_back(Waiting { head, message, received });
                        }
                        Some(reason) => self.not_run(&head, received, received, reason),
                    }
                    if bounds.generator == GeneratorKind::External && self.recorder.arrived() == bounds.items {
                        self.end = Some(bounds.items);
                    }
                }
                Some(Head::End { generated }) if generated <= bounds.items => self.end = Some(generated),
                // More than this trial takes.
                Some(_) if bounds.generator == GeneratorKind::External => self.end = Some(bounds.items),
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

    fn take_outcome(&mut self, outcome: Outcome, recorded: Nanos) {
        let Outcome { task, worker, result } = outcome;
        if task == GENERATOR {
            self.generator = generator_end(result);
        } else if let Some(outstanding) = self.outstanding.remove(&task) {
            self.outstanding_bytes -= outstanding.bytes;
            self.record(worker, &outstanding, result, recorded);
        } else {
            tracing::error!(task = task.0, ?worker, "the executor told of a task that it was not given");
        }
    }

    fn record(
        &mut self,
        worker: Option<WorkerId>,
        task: &Outstanding,
        result: Result<Bytes, TaskError>,
        recorded: Nanos,
    ) {
        let Outstanding { head, received, submitted, .. } = *task;
        let outcome = result.map_err(|error| error.to_string()).and_then(|bytes| {
            let outcome = item::decode::<ItemOutcome>(&bytes);
            outcome.zip(worker).ok_or_else(|| "its worker answered with something that is no outcome".into())
        });
        match outcome {
            Ok((outcome, worker)) => {
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
        Ok(report) => item::decode(&report)
            .map_or_else(|| Generator::Lost("the generator's report can't be read".into()), Generator::Ended),
        Err(error) => Generator::Lost(format!("the generator: {error}")),
    }
}

impl OutcomeSink for Dispatcher {
    fn deliver(&self, outcomes: &mut Vec<Outcome>) {
        let now = self.clock.now();
        let mut state = self.lock();
        for outcome in outcomes.drain(..) {
            state.take_outcome(outcome, now);
        }
        let tasks = self.ready(&mut state, now);
        let watched = state.watchers > 0;
        drop(state);
        // A system call, so only where somebody looks.
        if watched {
            self.changed.notify_all();
        }
        self.submit(tasks);
    }
}

#[cfg(test)]
mod tests {
    use psbench_executors::{WorkerInfo, WorkerReport};

    use super::*;
    use crate::clock::ManualClock;
    use crate::item::Body;

    /// Remembers what it was given.
    #[derive(Default)]
    struct Remembering(Mutex<Vec<TaskId>>);

    impl Executor for Remembering {
        fn submit(&self, tasks: Vec<Task>) {
            self.0.lock().unwrap().extend(tasks.iter().map(|task| task.id));
        }

        fn cancel(&self, _: TaskId) {}

        fn workers(&self) -> Vec<WorkerInfo> {
            Vec::new()
        }

        fn shutdown(&self, _: Duration) -> Vec<WorkerReport> {
            Vec::new()
        }
    }

    fn dispatcher(outstanding: usize) -> (Dispatcher, Arc<Remembering>) {
        dispatcher_of(Bounds { outstanding, ..BOUNDS })
    }

    const BOUNDS: Bounds =
        Bounds { outstanding: 8, inflight_bytes: u64::MAX, items: 100, generator: GeneratorKind::Internal };

    fn dispatcher_of(bounds: Bounds) -> (Dispatcher, Arc<Remembering>) {
        let dispatcher = Dispatcher::new(bounds, Recorder::default(), Arc::new(ManualClock::default()));
        let executor = Arc::new(Remembering::default());
        let shared: Arc<dyn Executor> = Arc::clone(&executor) as _;
        dispatcher.run_on(&shared, (bounds.generator == GeneratorKind::Internal).then(Bytes::new));
        (dispatcher, executor)
    }

    fn message(sequence: u64) -> Message {
        let body = Body::Full { size: 3, checksum: None };
        let head = ItemHead { sequence, scheduled: None, created: None, stored: None, published: None, body };
        Message { head: item::encode(&Head::Item(head)), payload: Bytes::from_static(b"abc") }
    }

    fn done(sequence: u64) -> Outcome {
        let outcome = ItemOutcome { started: 0, resolved: None, finished: 1, evicted: None, bytes: 3, failure: None };
        Outcome { task: TaskId(sequence), worker: Some(WorkerId(0)), result: Ok(item::encode(&outcome)) }
    }

    #[test]
    fn the_next_task_goes_out_with_any_outcome() {
        let (dispatcher, executor) = dispatcher(2);
        dispatcher.accept(&mut (0..5).map(message).collect()).unwrap();
        assert_eq!(*executor.0.lock().unwrap(), [GENERATOR, TaskId(0), TaskId(1)]);
        // The younger one is done first; the older one holds nothing back.
        dispatcher.deliver(&mut vec![done(1)]);
        dispatcher.deliver(&mut vec![done(2)]);
        assert_eq!(*executor.0.lock().unwrap(), [GENERATOR, TaskId(0), TaskId(1), TaskId(2), TaskId(3)]);
        assert!(!dispatcher.is_drained(Duration::ZERO));
        dispatcher.deliver(&mut vec![done(0), done(3)]);
        dispatcher.deliver(&mut vec![done(4)]);
        assert!(dispatcher.is_drained(Duration::ZERO));
        assert_eq!(dispatcher.progress(), Progress { items: 5, bytes: 15 });
    }

    #[test]
    fn no_more_bytes_are_held_than_may_be() {
        let size = message(0).len();
        let (dispatcher, executor) = dispatcher_of(Bounds { outstanding: 3, inflight_bytes: 2 * size, ..BOUNDS });
        assert!(dispatcher.has_room(Duration::ZERO));
        dispatcher.accept(&mut vec![message(0)]).unwrap();
        assert!(dispatcher.has_room(Duration::ZERO), "another one fits");
        dispatcher.accept(&mut vec![message(1), message(2)]).unwrap();
        assert_eq!(*executor.0.lock().unwrap(), [GENERATOR, TaskId(0), TaskId(1)]);
        assert!(!dispatcher.has_room(Duration::ZERO));
        dispatcher.deliver(&mut vec![done(0)]);
        assert_eq!(executor.0.lock().unwrap().last(), Some(&TaskId(2)));
        dispatcher.deliver(&mut vec![done(1)]);
        assert!(dispatcher.has_room(Duration::ZERO));
    }

    #[test]
    fn a_message_beyond_the_bound_goes_alone() {
        let (dispatcher, executor) = dispatcher_of(Bounds { outstanding: 3, inflight_bytes: 1, ..BOUNDS });
        assert!(dispatcher.has_room(Duration::ZERO));
        dispatcher.accept(&mut vec![message(0), message(1)]).unwrap();
        assert_eq!(*executor.0.lock().unwrap(), [GENERATOR, TaskId(0)]);
        dispatcher.deliver(&mut vec![done(0)]);
        assert_eq!(executor.0.lock().unwrap().last(), Some(&TaskId(1)));
    }

    #[test]
    fn a_duplicate_is_counted_and_not_run() {
        let (dispatcher, executor) = dispatcher(8);
        dispatcher.accept(&mut vec![message(0), message(0)]).unwrap();
        assert_eq!(*executor.0.lock().unwrap(), [GENERATOR, TaskId(0)]);
        assert_eq!(dispatcher.finish().recorder.balance(1, 1, 0).duplicated, 1);
    }

    #[test]
    fn what_is_not_of_the_trial_is_refused() {
        let (dispatcher, _) = dispatcher(8);
        assert_eq!(dispatcher.accept(&mut vec![message(100)]), Err(Foreign));
        let garbage = Message { head: Bytes::from_static(b"?"), payload: Bytes::new() };
        assert_eq!(dispatcher.accept(&mut vec![garbage]), Err(Foreign));
    }

    #[test]
    fn what_came_ahead_of_a_foreign_message_is_run() {
        let (dispatcher, executor) = dispatcher(8);
        assert_eq!(dispatcher.accept(&mut vec![message(0), message(100)]), Err(Foreign));
        assert_eq!(*executor.0.lock().unwrap(), [GENERATOR, TaskId(0)]);
    }

    fn end(generated: u64) -> Message {
        Message { head: item::encode(&Head::End { generated }), payload: Bytes::new() }
    }

    #[test]
    fn an_external_stream_ends_with_its_end_or_with_as_many_items_as_are_taken() {
        let bounds = Bounds { items: 3, generator: GeneratorKind::External, ..BOUNDS };
        let (dispatcher, executor) = dispatcher_of(bounds);
        dispatcher.accept(&mut vec![message(0), message(1), end(2), message(2)]).unwrap();
        assert!(dispatcher.stream_has_ended());
        assert_eq!(*executor.0.lock().unwrap(), [TaskId(0), TaskId(1)]);
        assert_eq!((dispatcher.generator(Duration::ZERO), dispatcher.finish().generated), (Generator::External, 2));

        let (dispatcher, executor) = dispatcher_of(bounds);
        dispatcher.accept(&mut (0..5).map(message).collect()).unwrap();
        assert!(dispatcher.stream_has_ended());
        assert_eq!(*executor.0.lock().unwrap(), [TaskId(0), TaskId(1), TaskId(2)]);
        assert_eq!(dispatcher.finish().generated, 3);

        // One of the three was lost.
        let (dispatcher, _) = dispatcher_of(bounds);
        dispatcher.accept(&mut vec![message(0), message(2), message(3)]).unwrap();
        assert!(dispatcher.stream_has_ended());
        let finished = dispatcher.finish();
        assert_eq!(finished.recorder.balance(3, finished.generated, 0).lost, 1);
    }

    #[test]
    fn it_does_not_keep_its_executor() {
        let (dispatcher, executor) = dispatcher(8);
        dispatcher.accept(&mut vec![message(0)]).unwrap();
        let left = Arc::downgrade(&executor);
        drop(executor);
        assert_eq!(left.strong_count(), 0);
    }

    #[test]
    fn a_lost_worker_and_a_closed_trial_are_accounted_for() {
        let (dispatcher, executor) = dispatcher(1);
        dispatcher.accept(&mut (0..3).map(message).collect()).unwrap();
        assert!(dispatcher.close("the test is over"));
        assert!(!dispatcher.close("once more"));
        let lost = TaskError::WorkerLost { label: "worker 1".into(), reason: "signal 9".into() };
        dispatcher.deliver(&mut vec![Outcome { task: TaskId(0), worker: Some(WorkerId(1)), result: Err(lost) }]);
        assert_eq!(*executor.0.lock().unwrap(), [GENERATOR, TaskId(0)]);
        let finished = dispatcher.finish();
        let balance = finished.recorder.balance(100, finished.generated, 0);
        assert_eq!((balance.generated, balance.failed, balance.lost), (3, 3, 0));
        assert!(finished.recorder.failures().iter().any(|reason| reason.contains("signal 9")));
    }

    #[test]
    fn the_generators_end_is_told() {
        let (dispatcher, _) = dispatcher(1);
        assert_eq!(dispatcher.generator(Duration::ZERO), Generator::Running);
        let report = GeneratorReport { generated: 9, ..GeneratorReport::default() };
        dispatcher.deliver(&mut vec![Outcome {
            task: GENERATOR,
            worker: Some(WorkerId(0)),
            result: Ok(item::encode(&report)),
        }]);
        assert_eq!(dispatcher.generator(Duration::ZERO), Generator::Ended(report));
        assert_eq!(dispatcher.finish().generated, 9);
    }
}
