//! Tasks run on threads of this process.

mod seat;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use seat::Seat;

use crate::courier::{Courier, deliver, not_run};
use crate::run::{finish, run};
use crate::sync::lock;
use crate::{
    Executor, ExecutorError, Outcome, OutcomeSink, Task, TaskContext, TaskError, TaskId, Work, WorkerId, WorkerInfo,
    WorkerReport,
};

const SHUT_DOWN: &str = "the executor was shut down";

/// Runs tasks on a pool of rayon threads. Payloads are shared with the submitter, never copied.
///
/// A thread can't be ended by force: a task that outlasts the grace of [`shutdown`](Executor::shutdown) is reported as
/// [`TaskError::WorkerLost`] and its thread left behind, its later result ignored.
pub struct ThreadExecutor {
    shared: Arc<Shared>,
}

struct Shared {
    work: Arc<dyn Work>,
    sink: Arc<dyn OutcomeSink>,
    courier: Courier,
    queue: Mutex<Queue>,
    /// One for each thread.
    seats: Vec<Seat>,
    /// Most shared tasks that run at a time.
    sharing: usize,
}

/// Tasks wait here, not in rayon's jobs, so that a shutdown can take those back that no thread will come to.
struct Queue {
    tasks: VecDeque<Task>,
    /// Shared tasks that run.
    running: usize,
    /// Rayon's jobs that came when a shared task was next and no more of them might run.
    deferred: usize,
    /// `None` once the executor is shut down.
    pool: Option<Arc<ThreadPool>>,
}

impl ThreadExecutor {
    /// Starts `workers` threads, of which at most `sharing` run shared tasks at a time; the others are for exclusive ones.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Invalid`] for no workers or no sharing, [`ExecutorError::Start`] if the system refuses the threads.
    pub fn start(
        workers: u32,
        sharing: u32,
        work: Arc<dyn Work>,
        sink: Arc<dyn OutcomeSink>,
    ) -> Result<Self, ExecutorError> {
        if workers == 0 || sharing == 0 {
            return Err(ExecutorError::Invalid(
                "the thread executor needs at least 1 worker, and 1 that shares".to_owned(),
            ));
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(workers as usize)
            .thread_name(|index| format!("psbench-worker-{index}"))
            .build()
            .map_err(|error| ExecutorError::Start {
                what: format!("{workers} worker threads"),
                source: io::Error::other(error),
            })?;
        let shared = Shared {
            work,
            courier: Courier::start(Arc::clone(&sink))?,
            sink,
            queue: Mutex::new(Queue { tasks: VecDeque::new(), running: 0, deferred: 0, pool: Some(Arc::new(pool)) }),
            seats: (0..workers).map(|_| Seat::default()).collect(),
            sharing: sharing as usize,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    /// One rayon job: runs the task that waits longest, if a shutdown has not taken it back, and then those that other jobs
    /// had to leave.
    fn run_next(&self) {
        let thread = rayon::current_thread_index().unwrap_or_default();
        let seat = &self.seats[thread];
        let mut next = self.begin(seat);
        while let Some((task, cancelled)) = next {
            let shared = !task.exclusive;
            self.run(task, cancelled.as_deref(), thread, seat);
            if !self.takes_over(shared) {
                return;
            }
            next = self.begin(seat);
        }
    }

    /// Notes the end of a task; tells whether a job that was deferred is to be made up for.
    fn takes_over(&self, shared: bool) -> bool {
        let mut queue = lock(&self.queue);
        queue.running -= usize::from(shared);
        let owed = queue.deferred > 0;
        queue.deferred -= usize::from(owed);
        owed
    }

    fn run(&self, task: Task, cancelled: Option<&AtomicBool>, thread: usize, seat: &Seat) {
        let id = task.id;
        let worker = worker(thread);
        let is_cancelled = || cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed));
        let context = TaskContext::new(worker, &is_cancelled, &|| ());
        let result = run(&*self.work, task, &context);
        if seat.begin_delivery(id) {
            self.sink.deliver(&mut vec![Outcome {
                task: id,
                worker: Some(worker),
                result: result.map_err(TaskError::Failed),
            }]);
            seat.end_delivery(id);
        }
    }

    fn begin(&self, seat: &Seat) -> Option<(Task, Option<Arc<AtomicBool>>)> {
        let mut queue = lock(&self.queue);
        if queue.running == self.sharing && queue.tasks.front().is_some_and(|task| !task.exclusive) {
            queue.deferred += 1;
            return None;
        }
        let task = queue.tasks.pop_front()?;
        queue.running += usize::from(!task.exclusive);
        let cancelled = task.exclusive.then(Arc::default);
        // Still under the queue's lock, so that a task is always found in one of the two places.
        seat.begin(task.id, cancelled.clone());
        Some((task, cancelled))
    }

    fn cancel(&self, task: Option<TaskId>) {
        for seat in &self.seats {
            seat.cancel(task);
        }
    }

    fn info(&self, thread: usize) -> WorkerInfo {
        WorkerInfo {
            id: worker(thread),
            label: label(thread),
            pid: None,
            alive: lock(&self.queue).pool.is_some(),
            end: None,
        }
    }
}

impl Executor for ThreadExecutor {
    fn submit(&self, tasks: Vec<Task>) {
        let count = tasks.len();
        let pool = {
            let mut queue = lock(&self.shared.queue);
            let Some(pool) = queue.pool.clone() else {
                let ids = tasks.iter().map(|task| task.id);
                return self.shared.courier.refuse(ids, SHUT_DOWN);
            };
            queue.tasks.extend(tasks);
            pool
        };
        for _ in 0..count {
            let shared = Arc::clone(&self.shared);
            pool.spawn_fifo(move || shared.run_next());
        }
    }

    fn cancel(&self, task: TaskId) {
        let mut queue = lock(&self.shared.queue);
        let waiting = queue.tasks.iter().position(|queued| queued.exclusive && queued.id == task);
        match waiting {
            Some(index) => {
                queue.tasks.remove(index);
                self.shared.courier.refuse([task], "cancelled before it ran");
            }
            None => self.shared.cancel(Some(task)),
        }
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        (0..self.shared.seats.len()).map(|thread| self.shared.info(thread)).collect()
    }

    fn shutdown(&self, grace: Duration) -> Vec<WorkerReport> {
        let begun = Instant::now();
        let shared = &*self.shared;
        let never_run = {
            let mut queue = lock(&shared.queue);
            // Its threads end once their jobs are done. Dropping it does not wait for them.
            if queue.pool.take().is_none() {
                return Vec::new();
            }
            std::mem::take(&mut queue.tasks)
        };
        shared.cancel(None);
        deliver(&*shared.sink, not_run(never_run.iter().map(|task| task.id), SHUT_DOWN));

        let lost = shared.seats.iter().enumerate().flat_map(|(thread, seat)| {
            let given_up = seat.vacate(begun, grace).into_iter();
            given_up.map(move |task| left_behind(task, thread, grace))
        });
        deliver(&*shared.sink, lost.collect());
        shared.courier.settle();
        vec![WorkerReport { worker: shared.info(0), finish: finish(&*shared.work) }]
    }
}

impl Drop for ThreadExecutor {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

fn left_behind(task: TaskId, thread: usize, grace: Duration) -> Outcome {
    Outcome {
        task,
        worker: Some(worker(thread)),
        result: Err(TaskError::WorkerLost {
            label: label(thread),
            reason: format!("left behind, still running {grace:?} after the shutdown"),
        }),
    }
}

fn label(thread: usize) -> String {
    format!("{} (thread)", worker(thread))
}

#[expect(clippy::cast_possible_truncation, reason = "threads are counted by a u32 at the start")]
fn worker(thread: usize) -> WorkerId {
    WorkerId(thread as u32)
}
