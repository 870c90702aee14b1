//! The executor of one trial on an engine that outlasts it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;

use super::frames::{self, Fate, Report, Told};
use super::{Bridge, remains};
use crate::clock::{self, Bounds};
use crate::courier::{Courier, SHUT_DOWN, deliver, not_run};
use crate::fleet::frames::{MAX_HEAD, MAX_PAYLOAD, Packet, Settings};
use crate::relay::relay;
use crate::sync::{lock, wait_timeout};
use crate::{
    ClockOffset, Executor, ExecutorError, Outcome, OutcomeSink, Overhead, Task, TaskError, TaskId, WorkerEnd, WorkerId,
    WorkerInfo, WorkerReport,
};

/// How long a greeting stays at a worker, so that others go to others: longer each time that not all were met.
const STAY: Duration = Duration::from_millis(100);
const LONGEST_STAY: Duration = Duration::from_secs(2);
/// Rounds of greetings in which no further worker was met, until those that were have to do.
const VAIN_ROUNDS: u32 = 3;

/// How the tasks of a trial are run.
#[derive(Clone, Debug)]
pub struct BridgeTerms {
    /// Workers of the engine that tasks go to, at least 1: it may have more, for other things.
    pub workers: u32,
    /// The number of the first worker.
    pub first: u32,
    /// What each makes its [`Work`](crate::Work) from.
    pub setup: Bytes,
    /// Most batches at the engine for each worker, the running one included, at least 1.
    pub capacity: u32,
    /// Tasks that travel as one task of the engine, at least 1. Fewer do while the engine has workers to spare.
    pub batch: u32,
    /// Most time for a task.
    pub task_timeout: Option<Duration>,
}

impl BridgeTerms {
    /// One task at a time for each of so many workers, nothing limited.
    pub fn new(workers: u32) -> Self {
        Self { workers, first: 0, setup: Bytes::new(), capacity: 1, batch: 1, task_timeout: None }
    }
}

/// Runs shared tasks on an engine's workers. Exclusive ones are refused: give them to workers that connect.
pub struct BridgeExecutor {
    bridge: Arc<Bridge>,
    client: Arc<Client>,
}

/// Whoever hears of a bridge's outcomes.
pub(super) struct Client {
    engine: &'static str,
    terms: BridgeTerms,
    sink: Arc<dyn OutcomeSink>,
    courier: Courier,
    state: Mutex<State>,
    /// A greeting was answered, a task has ended, or the outcome of one was delivered.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Task>,
    /// The batch of each task at the engine.
    flying: HashMap<TaskId, u64>,
    /// Batches at the engine, by their first task.
    batches: HashMap<u64, Batch>,
    workers: Vec<Member>,
    /// By the bridge's number of it.
    places: HashMap<u32, usize>,
    greetings: HashMap<u64, Greeting>,
    /// What the bridge's own process had used at the start.
    bridge_cpu: Option<Duration>,
    /// Outcomes are being delivered.
    delivering: bool,
    /// It was said that there are more workers than were asked for.
    warned: bool,
    /// Why no more tasks are taken.
    closed: Option<String>,
}

struct Batch {
    /// Its tasks that have not ended.
    left: usize,
    sent: u64,
}

struct Greeting {
    sent: u64,
    answer: Option<Result<u32, String>>,
}

/// A worker of the engine: a worker process and the process of Python that holds it.
struct Member {
    info: WorkerInfo,
    progress: Option<Bytes>,
    /// `None` where its clock is this host's, or nothing is known of it.
    bounds: Option<Bounds>,
    same_clock: bool,
    python: PythonProcess,
}

struct PythonProcess {
    pid: u32,
    host: String,
    cpu_at_first: Option<u64>,
    cpu: u64,
    peak_memory: u64,
}

/// What a bridge says of a worker.
#[derive(Deserialize)]
struct About {
    host: String,
    pid: u32,
    engine_pid: u32,
    clock: String,
}

impl BridgeExecutor {
    /// Meets the engine's workers, each of which has a worker process then that has made its work.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Invalid`] for terms that can't work, [`ExecutorError::NotReady`] if no worker is met in time.
    pub fn start(bridge: Arc<Bridge>, terms: BridgeTerms, sink: Arc<dyn OutcomeSink>) -> Result<Self, ExecutorError> {
        if terms.workers == 0 || terms.capacity == 0 || terms.batch == 0 {
            return Err(ExecutorError::Invalid(
                "an engine needs a worker, a capacity and a batch of at least 1".to_owned(),
            ));
        }
        if terms.task_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(ExecutorError::Invalid("a task timeout of 0 lets no task run".to_owned()));
        }
        let settings = Settings { threads: 1, task_timeout: terms.task_timeout };
        let work = frames::work(bridge.next_number(), settings.encode(), terms.setup.clone());
        let state = State { bridge_cpu: remains::cpu_time(bridge.process.pid()), ..State::default() };
        let client = Arc::new(Client {
            engine: bridge.options.engine,
            terms,
            courier: Courier::start(Arc::clone(&sink))?,
            sink,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        {
            let mut state = lock(&bridge.state);
            if let Some(reason) = &state.end {
                return Err(ExecutorError::Engine { engine: client.engine, reason: reason.clone() });
            }
            state.client = Some(Arc::clone(&client));
        }
        bridge.send([work]);
        let executor = Self { bridge, client };
        executor.meet_workers()?;
        Ok(executor)
    }

    /// Greets until as many workers are met as there are to be, or no further one is met.
    fn meet_workers(&self) -> Result<(), ExecutorError> {
        let wanted = self.client.terms.workers as usize;
        let timeout = self.bridge.options.ready_timeout;
        let until = Instant::now() + timeout;
        let (mut met, mut stay, mut vain) = (HashSet::new(), STAY, 0);
        while met.len() < wanted && vain < VAIN_ROUNDS {
            let before = met.len();
            let answers = self.greet(stay, until).map_err(|reason| {
                // What waits in the engine can't be told from what never comes.
                self.bridge.spoil();
                let detail = match reason {
                    None => format!(": {} gave them no task within {timeout:?}", self.client.engine),
                    Some(reason) => format!(": {}: {reason}", self.client.engine),
                };
                ExecutorError::NotReady { ready: met.len(), wanted, detail }
            })?;
            met.extend(answers);
            vain = if met.len() == before { vain + 1 } else { 0 };
            stay = (stay * 2).min(LONGEST_STAY);
        }
        if met.len() < wanted {
            tracing::warn!(
                "{}: {} workers are met, not {wanted}: it runs fewer tasks at a time",
                self.client.engine,
                met.len()
            );
        }
        Ok(())
    }

    /// Sends as many greetings as there are workers; returns whom they met, or an error: why there are none, `None` for no answer in time.
    fn greet(&self, stay: Duration, until: Instant) -> Result<Vec<u32>, Option<String>> {
        let milliseconds = u32::try_from(stay.as_millis()).unwrap_or(u32::MAX);
        let greetings: Vec<u64> = (0..self.client.terms.workers).map(|_| self.bridge.next_number()).collect();
        let sent = clock::now();
        lock(&self.client.state).greetings =
            greetings.iter().map(|greeting| (*greeting, Greeting { sent, answer: None })).collect();
        self.bridge.send(greetings.iter().map(|greeting| frames::greet(*greeting, milliseconds)));
        let mut state = lock(&self.client.state);
        loop {
            if let Some(reason) = &state.closed {
                return Err(Some(reason.clone()));
            }
            let answers = || state.greetings.values().map(|greeting| greeting.answer.as_ref());
            if let Some(reason) = answers().flatten().find_map(|answer| answer.as_ref().err()) {
                return Err(Some(reason.clone()));
            }
            if answers().all(|answer| answer.is_some()) {
                return Ok(answers().flatten().filter_map(|answer| answer.as_ref().ok().copied()).collect());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(None);
            }
            state = wait_timeout(&self.client.changed, state, left);
        }
    }
}

impl Client {
    /// Takes what concerns the trial, leaving `news` empty.
    pub(super) fn hear(&self, bridge: &Bridge, news: &mut Vec<Told>) {
        let mut outcomes = Vec::new();
        let packets = {
            let mut state = lock(&self.state);
            for told in news.drain(..) {
                match told {
                    Told::Worker { worker, about } => self.introduce(&mut state, worker, &about),
                    Told::Report(report) => state.note(report),
                    Told::Outcome { task, worker, result } => {
                        outcomes.extend(self.outcome(&mut state, task, worker, result));
                    }
                    Told::Greeted { greeting, result } => {
                        if let Some(greeting) = state.greetings.get_mut(&greeting) {
                            greeting.answer = Some(result);
                        }
                    }
                    Told::Log { worker, text } => {
                        let label = state.member(worker).map_or("", |member| member.info.label.as_str());
                        text.lines().for_each(|line| relay(label, line));
                    }
                    Told::Gone { worker, end } => state.part_with(worker, end),
                    Told::Ready(_) | Told::Ended { .. } | Told::Finish => {}
                }
            }
            state.delivering = !outcomes.is_empty();
            self.next_batches(&mut state)
        };
        bridge.send(packets);
        self.changed.notify_all();
        self.finish_delivery(outcomes);
    }

    fn finish_delivery(&self, outcomes: Vec<Outcome>) {
        if outcomes.is_empty() {
            return;
        }
        deliver(&*self.sink, outcomes);
        lock(&self.state).delivering = false;
        self.changed.notify_all();
    }

    fn introduce(&self, state: &mut State, worker: u32, about: &[u8]) {
        let Ok(about) = serde_json::from_slice::<About>(about) else {
            tracing::error!("{}: what it says of worker {worker} can't be read", self.engine);
            return;
        };
        let place = state.workers.len();
        let id = WorkerId(self.terms.first + u32::try_from(place).unwrap_or(u32::MAX));
        let mut info = WorkerInfo::new(id, format!("{id} (pid {} on {})", about.pid, about.host));
        info.pid = Some(about.pid);
        info.host = (!clock::same_host(&about.clock)).then(|| about.host.clone());
        state.places.insert(worker, place);
        let alive = state.workers.iter().filter(|member| member.info.alive).count() + 1;
        if alive > self.terms.workers as usize && !std::mem::replace(&mut state.warned, true) {
            tracing::warn!(
                "{}: it runs tasks on more than the {} workers asked for: the figures are those of a larger engine",
                self.engine,
                self.terms.workers
            );
        }
        state.workers.push(Member {
            info,
            progress: None,
            bounds: None,
            same_clock: about.clock == clock::identity(),
            python: PythonProcess {
                pid: about.engine_pid,
                host: about.host,
                cpu_at_first: None,
                cpu: 0,
                peak_memory: 0,
            },
        });
    }

    /// The outcome of a task, unless nobody waits for it any more.
    fn outcome(
        &self,
        state: &mut State,
        task: TaskId,
        worker: Option<u32>,
        result: Result<Bytes, Fate>,
    ) -> Option<Outcome> {
        let batch = state.flying.remove(&task)?;
        if let Some(flying) = state.batches.get_mut(&batch) {
            flying.left -= 1;
            if flying.left == 0 {
                state.batches.remove(&batch);
            }
        }
        let place = worker.and_then(|worker| state.places.get(&worker).copied());
        let member = place.map(|place| &mut state.workers[place]);
        let label = member.as_ref().map_or_else(|| self.nobody(), |member| member.info.label.clone());
        let id = member.as_ref().map(|member| member.info.id);
        let end = match &result {
            Err(Fate::Lost(reason)) => Some(reason.clone()),
            Err(Fate::TimedOut) => Some(format!("a task ran for longer than {:?}", self.limit())),
            Ok(_) | Err(Fate::Failed(_) | Fate::NotRun(_)) => None,
        };
        if let (Some(member), Some(end)) = (member, end) {
            member.info.alive = false;
            member.info.end.get_or_insert(WorkerEnd::Lost(end));
        }
        let result = result.map_err(|fate| match fate {
            Fate::Failed(text) => TaskError::Failed(text),
            Fate::Lost(reason) => TaskError::WorkerLost { label, reason },
            Fate::NotRun(reason) => TaskError::NotRun(format!("{}: {reason}", self.engine)),
            Fate::TimedOut => TaskError::TimedOut { label, limit: self.limit() },
        });
        Some(Outcome { task, worker: id, result })
    }

    fn limit(&self) -> Duration {
        self.terms.task_timeout.unwrap_or_default()
    }

    /// As a worker is called of which the engine did not tell.
    fn nobody(&self) -> String {
        format!("a worker of {}", self.engine)
    }

    /// The tasks that may go to the engine now.
    fn next_batches(&self, state: &mut State) -> Vec<Packet> {
        let (workers, size) = (self.terms.workers as usize, self.terms.batch as usize);
        let most = workers * self.terms.capacity as usize;
        let mut packets = Vec::new();
        // Where the engine has workers to spare, nothing is gained from waiting until a batch is full.
        while state.closed.is_none()
            && state.batches.len() < most
            && (state.waiting.len() >= size || (!state.waiting.is_empty() && state.batches.len() < workers))
        {
            let count = size.min(state.waiting.len());
            let tasks: Vec<Task> = state.waiting.drain(..count).collect();
            let first = tasks[0].id.0;
            state.batches.insert(first, Batch { left: count, sent: clock::now() });
            for (number, task) in (1..).zip(tasks) {
                state.flying.insert(task.id, first);
                packets.push(frames::task(task, number == count));
            }
        }
        packets
    }

    /// The bridge is gone, and the tasks that the engine had with it.
    pub(super) fn bridge_ended(&self, reason: &str) {
        let outcomes = {
            let mut state = lock(&self.state);
            let reason = format!("{}: {reason}", self.engine);
            if state.closed.is_none() {
                tracing::error!("{reason}");
            }
            state.batches.clear();
            let lost = std::mem::take(&mut state.flying).into_keys().map(|task| self.lost(task, &reason));
            let mut outcomes: Vec<Outcome> = lost.collect();
            outcomes.extend(not_run(std::mem::take(&mut state.waiting).iter().map(|task| task.id), &reason));
            for member in &mut state.workers {
                member.info.alive = false;
            }
            state.closed.get_or_insert(reason);
            state.delivering = !outcomes.is_empty();
            outcomes
        };
        self.changed.notify_all();
        self.finish_delivery(outcomes);
    }

    fn lost(&self, task: TaskId, reason: &str) -> Outcome {
        let result = Err(TaskError::WorkerLost { label: self.nobody(), reason: reason.to_owned() });
        Outcome { task, worker: None, result }
    }
}

impl Member {
    /// Whether it is a thread of this process of this host.
    fn is_within(&self, pid: u32) -> bool {
        self.info.host.is_none() && self.python.pid == pid
    }
}

impl State {
    /// What the workers told that a process of Python's held, one after the other or all at once.
    fn of_process(&self, host: Option<&str>, pid: u32) -> impl Iterator<Item = &PythonProcess> {
        let held = move |member: &&Member| member.info.host.as_deref() == host && member.python.pid == pid;
        self.workers.iter().filter(held).map(|member| &member.python)
    }

    fn member(&self, worker: u32) -> Option<&Member> {
        self.workers.get(*self.places.get(&worker)?)
    }

    /// A worker has ended while it was idle.
    fn part_with(&mut self, worker: u32, end: String) {
        // Of a trial before this one nobody is left who is interested.
        let Some(place) = self.places.get(&worker) else { return };
        let info = &mut self.workers[*place].info;
        tracing::warn!(worker = info.label, end, "worker ended while it was idle");
        info.alive = false;
        info.end.get_or_insert(WorkerEnd::Lost(end));
    }

    fn note(&mut self, report: Report) {
        let now = clock::now();
        let batch = self.batches.get(&report.of).map(|batch| batch.sent);
        let greeting = self.greetings.get(&report.of).map(|greeting| greeting.sent);
        let Some(place) = self.places.get(&report.worker) else { return };
        let member = &mut self.workers[*place];
        member.progress = Some(report.progress);
        let python = &mut member.python;
        python.cpu_at_first.get_or_insert(report.cpu_ns);
        (python.cpu, python.peak_memory) = (report.cpu_ns, report.peak_memory);
        if let Some(sent) = batch.or(greeting).filter(|_| !member.same_clock) {
            let known = Bounds::new(sent, report.received, report.answered, now);
            member.bounds = Some(member.bounds.map_or(known, |bounds| bounds.and(known)));
            member.info.clock = member.bounds.map(Bounds::estimate);
        }
    }
}

impl Executor for BridgeExecutor {
    fn submit(&self, mut tasks: Vec<Task>) {
        let client = &self.client;
        let fits = |task: &Task| !task.exclusive && task.head.len() <= MAX_HEAD && task.payload.len() <= MAX_PAYLOAD;
        if !tasks.iter().all(fits) {
            let refused = tasks.extract_if(.., |task| !fits(task)).map(|task| task.id);
            client.courier.refuse(refused, "exclusive, or larger than what an engine is given");
        }
        let packets = {
            let mut state = lock(&client.state);
            if let Some(reason) = &state.closed {
                return client.courier.refuse(tasks.iter().map(|task| task.id), reason);
            }
            state.waiting.extend(tasks);
            client.next_batches(&mut state)
        };
        self.bridge.send(packets);
    }

    /// There are no exclusive tasks here.
    fn cancel(&self, _task: TaskId) {}

    fn tell(&self, _task: TaskId, _number: u64) {}

    fn workers(&self) -> Vec<WorkerInfo> {
        lock(&self.client.state).workers.iter().map(|member| member.info.clone()).collect()
    }

    fn clock(&self, worker: WorkerId) -> Option<ClockOffset> {
        let place = worker.0.checked_sub(self.client.terms.first)? as usize;
        lock(&self.client.state).workers.get(place)?.info.clock
    }

    fn exhausted(&self) -> Option<String> {
        lock(&self.client.state).closed.clone().filter(|reason| reason != SHUT_DOWN)
    }

    /// The engine's own processes, the bridge's first.
    fn overhead(&self) -> Vec<Overhead> {
        let pid = self.bridge.process.pid();
        let state = lock(&self.client.state);
        let cpu = remains::cpu_time(pid).zip(state.bridge_cpu).map(|(now, before)| now.saturating_sub(before));
        let engine = self.client.engine;
        let bridge = Overhead {
            label: format!("{engine} (pid {pid})"),
            pid,
            host: None,
            cpu,
            peak_memory: remains::peak_memory(pid),
        };
        // Several workers may be threads of one process, and of the bridge's; and one takes the place of another.
        let mut pythons: BTreeMap<(Option<&str>, u32), Overhead> = BTreeMap::new();
        for Member { info, python, .. } in state.workers.iter().filter(|member| !member.is_within(pid)) {
            let first = || state.of_process(info.host.as_deref(), python.pid).filter_map(|it| it.cpu_at_first).min();
            let last = || state.of_process(info.host.as_deref(), python.pid).map(|it| it.cpu).max();
            let peak = || state.of_process(info.host.as_deref(), python.pid).map(|it| it.peak_memory).max();
            pythons.entry((info.host.as_deref(), python.pid)).or_insert_with(|| Overhead {
                label: format!("{engine} worker (pid {} on {})", python.pid, python.host),
                pid: python.pid,
                host: info.host.clone(),
                cpu: first().zip(last()).map(|(first, last)| Duration::from_nanos(last.saturating_sub(first))),
                peak_memory: peak(),
            });
        }
        let workers = pythons.into_values();
        std::iter::once(bridge).chain(workers).collect()
    }

    fn shutdown(&self, grace: Duration) -> Vec<WorkerReport> {
        let begun = Instant::now();
        let client = &self.client;
        let mut state = lock(&client.state);
        if state.closed.as_deref() == Some(SHUT_DOWN) {
            return Vec::new();
        }
        state.closed = Some(SHUT_DOWN.to_owned());
        let never_run = not_run(std::mem::take(&mut state.waiting).iter().map(|task| task.id), SHUT_DOWN);
        drop(state);
        deliver(&*client.sink, never_run);
        self.bridge.send([frames::withdraw()]);

        let mut state = lock(&client.state);
        while !state.flying.is_empty() {
            let left = grace.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            state = wait_timeout(&client.changed, state, left);
        }
        let left: Vec<TaskId> = std::mem::take(&mut state.flying).into_keys().collect();
        while state.delivering {
            state = wait_timeout(&client.changed, state, Duration::from_secs(1));
        }
        for member in &mut state.workers {
            member.info.alive = false;
        }
        drop(state);
        if !left.is_empty() {
            self.bridge.spoil();
        }
        let lost = left.into_iter().map(|task| client.lost(task, "still running at the end of the shutdown's grace"));
        deliver(&*client.sink, lost.collect());
        client.courier.settle();
        lock(&self.bridge.state).client = None;
        let state = lock(&client.state);
        let report = |member: &Member| WorkerReport { worker: member.info.clone(), finish: member.progress.clone() };
        state.workers.iter().map(report).collect()
    }
}

impl Drop for BridgeExecutor {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}
