//! Tasks run by an engine that runs closures in this process: the short way to an executor of one's own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::courier::{Courier, SHUT_DOWN, deliver, not_run};
use crate::orders::Orders;
use crate::run::{finish, run};
use crate::sync::{lock, wait_timeout};
use crate::{
    Executor, ExecutorError, Outcome, OutcomeSink, Task, TaskContext, TaskError, TaskId, Work, WorkerId, WorkerInfo,
    WorkerReport,
};

/// Runs tasks until none waits. Returns; never panics.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs, each on a thread of its choice, at some time soon and once.
pub trait Engine: Send + Sync + 'static {
    /// Takes a job and returns without waiting for it.
    fn spawn(&self, job: Job);
}

/// An executor on an [`Engine`], for which it keeps the whole contract: bounds, cancelling, panics, and one outcome for each task.
///
/// The engine gets as many jobs at a time as there are workers, and has to run them all at once. A task that outlasts the grace of
/// [`shutdown`](Executor::shutdown) is reported as [`TaskError::WorkerLost`] and its later result ignored.
pub struct EngineExecutor {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Box<dyn Engine>,
    work: Arc<dyn Work>,
    sink: Arc<dyn OutcomeSink>,
    courier: Courier,
    state: Mutex<State>,
    /// No outcome is owed any more.
    settled: Condvar,
    workers: u32,
    /// Most shared tasks that run at a time.
    sharing: usize,
}

struct State {
    waiting: VecDeque<Task>,
    running: HashMap<TaskId, Running>,
    /// The workers that no job stands for.
    idle: Vec<WorkerId>,
    /// Outcomes that are being delivered.
    delivering: usize,
    shut_down: bool,
}

struct Running {
    worker: WorkerId,
    exclusive: bool,
    /// What it is told, if it is exclusive.
    orders: Arc<Orders>,
}

impl EngineExecutor {
    /// Runs at most `workers` tasks at a time on `engine`, of which at most `sharing` are shared ones.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Invalid`] for no workers, [`ExecutorError::Start`] if the system refuses a thread.
    pub fn start(
        engine: impl Engine,
        workers: u32,
        sharing: u32,
        work: Arc<dyn Work>,
        sink: Arc<dyn OutcomeSink>,
    ) -> Result<Self, ExecutorError> {
        if workers == 0 || sharing == 0 {
            return Err(ExecutorError::Invalid("an engine needs at least 1 worker, and 1 that shares".to_owned()));
        }
        let state = State {
            waiting: VecDeque::new(),
            running: HashMap::new(),
            idle: (0..workers).rev().map(WorkerId).collect(),
            delivering: 0,
            shut_down: false,
        };
        let shared = Shared {
            engine: Box::new(engine),
            work,
            courier: Courier::start(Arc::clone(&sink))?,
            sink,
            state: Mutex::new(state),
            settled: Condvar::new(),
            workers,
            sharing: sharing as usize,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    fn spawn_jobs(self: &Arc<Self>) {
        while let Some((worker, task, orders)) = self.next_for_an_idle_worker() {
            let shared = Arc::clone(self);
            self.engine.spawn(Box::new(move || {
                let mut next = Some((task, orders));
                while let Some((task, orders)) = next {
                    shared.run(task, worker, &orders);
                    next = shared.next_or_rest(worker);
                }
            }));
        }
    }

    fn next_for_an_idle_worker(&self) -> Option<(WorkerId, Task, Arc<Orders>)> {
        let mut state = lock(&self.state);
        let worker = state.idle.pop()?;
        let next = state.begin(worker, self.sharing);
        if next.is_none() {
            state.idle.push(worker);
        }
        next.map(|(task, orders)| (worker, task, orders))
    }

    fn next_or_rest(&self, worker: WorkerId) -> Option<(Task, Arc<Orders>)> {
        let mut state = lock(&self.state);
        let next = state.begin(worker, self.sharing);
        if next.is_none() {
            state.idle.push(worker);
        }
        next
    }

    fn run(&self, task: Task, worker: WorkerId, orders: &Orders) {
        let id = task.id;
        let is_cancelled = || orders.is_cancelled();
        let context = TaskContext::new(worker, &is_cancelled, &|| ()).telling(&orders.told);
        let result = run(&*self.work, task, &context);
        {
            let mut state = lock(&self.state);
            // Whoever shut the executor down has told of it already.
            if state.running.remove(&id).is_none() {
                return;
            }
            state.delivering += 1;
        }
        let result = result.map_err(TaskError::Failed);
        self.sink.deliver(&mut vec![Outcome { task: id, worker: Some(worker), result }]);
        lock(&self.state).delivering -= 1;
        self.settled.notify_all();
    }

    fn info(&self, worker: WorkerId) -> WorkerInfo {
        WorkerInfo { alive: !lock(&self.state).shut_down, ..WorkerInfo::new(worker, label(worker)) }
    }
}

impl State {
    /// Takes the task that waits longest, of those that may run now.
    fn begin(&mut self, worker: WorkerId, sharing: usize) -> Option<(Task, Arc<Orders>)> {
        let full = self.running.values().filter(|running| !running.exclusive).count() >= sharing;
        let next = self.waiting.iter().position(|task| task.exclusive || !full)?;
        let task = self.waiting.remove(next)?;
        let orders = Arc::<Orders>::default();
        self.running.insert(task.id, Running { worker, exclusive: task.exclusive, orders: Arc::clone(&orders) });
        Some((task, orders))
    }
}

impl Executor for EngineExecutor {
    fn submit(&self, tasks: Vec<Task>) {
        {
            let mut state = lock(&self.shared.state);
            if state.shut_down {
                return self.shared.courier.refuse(tasks.iter().map(|task| task.id), SHUT_DOWN);
            }
            state.waiting.extend(tasks);
        }
        self.shared.spawn_jobs();
    }

    fn cancel(&self, task: TaskId) {
        let mut state = lock(&self.shared.state);
        let waiting = state.waiting.iter().position(|waiting| waiting.exclusive && waiting.id == task);
        if let Some(index) = waiting {
            state.waiting.remove(index);
            self.shared.courier.refuse([task], "cancelled before it ran");
        } else if let Some(running) = state.running.get(&task).filter(|running| running.exclusive) {
            running.orders.cancel();
        }
    }

    fn tell(&self, task: TaskId, number: u64) {
        let state = lock(&self.shared.state);
        if let Some(running) = state.running.get(&task).filter(|running| running.exclusive) {
            running.orders.told.tell(number);
        }
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        (0..self.shared.workers).map(|worker| self.shared.info(WorkerId(worker))).collect()
    }

    fn shutdown(&self, grace: Duration) -> Vec<WorkerReport> {
        let begun = Instant::now();
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        if std::mem::replace(&mut state.shut_down, true) {
            return Vec::new();
        }
        state.running.values().for_each(|running| running.orders.cancel());
        let never_run = not_run(std::mem::take(&mut state.waiting).iter().map(|task| task.id), SHUT_DOWN);
        drop(state);
        deliver(&*shared.sink, never_run);

        let mut state = lock(&shared.state);
        while !state.running.is_empty() {
            let left = grace.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            state = wait_timeout(&shared.settled, state, left);
        }
        let lost = std::mem::take(&mut state.running).into_iter().map(lost).collect();
        drop(state);
        deliver(&*shared.sink, lost);

        let mut state = lock(&shared.state);
        while state.delivering > 0 {
            state = wait_timeout(&shared.settled, state, Duration::from_secs(1));
        }
        drop(state);
        shared.courier.settle();
        let worker = shared.info(WorkerId(0));
        vec![WorkerReport { worker, finish: finish(&*shared.work) }]
    }
}

fn lost((task, Running { worker, .. }): (TaskId, Running)) -> Outcome {
    let reason = "left behind, still running at the end of the shutdown's grace".to_owned();
    let result = Err(TaskError::WorkerLost { label: label(worker), reason });
    Outcome { task, worker: Some(worker), result }
}

fn label(worker: WorkerId) -> String {
    format!("{worker} (of the engine)")
}

impl Drop for EngineExecutor {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}
