//! Tasks run on threads of this process.

mod overdue;
mod pool;
mod seat;

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::courier::{Courier, SHUT_DOWN, deliver, not_run};
use crate::run::finish;
use crate::sync::lock;
use crate::{Executor, ExecutorError, Outcome, OutcomeSink, Task, TaskError, TaskId, Work, WorkerInfo, WorkerReport};
use overdue::MAX_SUBSTITUTES;
use pool::{Queue, Shared, label, worker};
use seat::Seat;

/// How many threads there are and what they may do.
#[derive(Clone, Debug)]
pub struct ThreadOptions {
    /// Threads, at least 1.
    pub workers: u32,
    /// Most shared tasks that run at a time, at least 1; threads beyond are for exclusive tasks.
    pub sharing: u32,
    /// Most time for a shared task, counted from when it begins. One that takes longer ends as
    /// [`TaskError::TimedOut`]; its thread is left behind until the task returns, its result ignored, and another
    /// thread takes its place: at most 64 do, over the executor's life. Once all threads are left behind, tasks end as
    /// [`TaskError::NotRun`].
    pub task_timeout: Option<Duration>,
}

impl ThreadOptions {
    /// So many threads, all of which share, with no time limit.
    pub fn new(workers: u32) -> Self {
        Self { workers, sharing: u32::MAX, task_timeout: None }
    }

    fn check(&self) -> Result<(), ExecutorError> {
        if self.workers == 0 || self.sharing == 0 {
            return Err(ExecutorError::Invalid(
                "the thread executor needs at least 1 worker, and 1 that shares".to_owned(),
            ));
        }
        if self.task_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(ExecutorError::Invalid("a task timeout of 0 lets no task run".to_owned()));
        }
        Ok(())
    }
}

/// Runs tasks on a pool of rayon threads. Payloads are shared with the submitter, never copied.
///
/// A thread can't be ended by force: a task that outlasts the grace of [`shutdown`](Executor::shutdown) is reported as
/// [`TaskError::WorkerLost`] and its thread left behind, its later result ignored.
pub struct ThreadExecutor {
    shared: Arc<Shared>,
    /// Delivers overdue tasks.
    deadline: Mutex<Option<JoinHandle<()>>>,
}

impl ThreadExecutor {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Invalid`] for options that can't work, [`ExecutorError::Start`] if the system refuses the
    /// threads.
    pub fn start(
        options: ThreadOptions,
        work: Arc<dyn Work>,
        sink: Arc<dyn OutcomeSink>,
    ) -> Result<Self, ExecutorError> {
        options.check()?;
        let workers = options.workers as usize;
        let pool = ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|index| format!("psbench-worker-{index}"))
            .build()
            .map_err(|error| ExecutorError::Start {
                what: format!("{workers} worker threads"),
                source: io::Error::other(error),
            })?;
        let substitutes = if options.task_timeout.is_some() { MAX_SUBSTITUTES } else { 0 };
        let shared = Arc::new(Shared {
            options,
            work,
            courier: Courier::start(Arc::clone(&sink))?,
            sink,
            queue: Mutex::new(Queue::new(pool)),
            seats: (0..workers + substitutes).map(|_| Seat::default()).collect(),
            stirred: Condvar::new(),
            ended: Condvar::new(),
        });
        let deadline = Mutex::new(shared.watch()?);
        Ok(Self { shared, deadline })
    }
}

impl Shared {
    /// Gives rayon so many jobs, each of which runs a task.
    fn spawn_jobs(self: &Arc<Self>, pool: &ThreadPool, count: usize) {
        for _ in 0..count {
            let shared = Arc::clone(self);
            pool.spawn_fifo(move || shared.run_next());
        }
    }
}

impl Executor for ThreadExecutor {
    fn submit(&self, tasks: Vec<Task>) {
        let count = tasks.len();
        let shared = &self.shared;
        let pool = {
            let mut queue = lock(&shared.queue);
            let refuse = |reason: &str| shared.courier.refuse(tasks.iter().map(|task| task.id), reason);
            let Some(pool) = queue.pool.clone() else {
                return refuse(SHUT_DOWN);
            };
            if let Some(reason) = shared.exhausted(&queue) {
                return refuse(&reason);
            }
            if queue.substitutes > 0 {
                shared.stirred.notify_all();
            }
            queue.tasks.extend(tasks);
            pool
        };
        shared.spawn_jobs(&pool, count);
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

    fn tell(&self, task: TaskId, number: u64) {
        self.shared.seats.iter().for_each(|seat| seat.tell(task, number));
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        let threads = self.shared.threads(&lock(&self.shared.queue));
        (0..threads).map(|thread| self.shared.info(thread)).collect()
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
        shared.stirred.notify_all();
        shared.ended.notify_all();
        if let Some(deadline) = lock(&self.deadline).take()
            && deadline.join().is_err()
        {
            tracing::error!("outcomes may be missing: the sink has panicked");
        }
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
