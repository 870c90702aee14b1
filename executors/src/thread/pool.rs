//! The threads of one executor and what they run.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use rayon::ThreadPool;

use super::ThreadOptions;
use super::seat::Seat;
use crate::courier::Courier;
use crate::orders::Orders;
use crate::run::run;
use crate::sync::lock;
use crate::{Outcome, OutcomeSink, Task, TaskContext, TaskError, TaskId, Work, WorkerEnd, WorkerId, WorkerInfo};

/// Shared by the executor and its threads.
pub(super) struct Shared {
    pub(super) options: ThreadOptions,
    pub(super) work: Arc<dyn Work>,
    pub(super) sink: Arc<dyn OutcomeSink>,
    pub(super) courier: Courier,
    pub(super) queue: Mutex<Queue>,
    /// One for each thread: rayon's, then those of the substitutes that there may be.
    pub(super) seats: Vec<Seat>,
    /// There may be a task for a substitute, or the executor was shut down.
    pub(super) stirred: Condvar,
    /// The executor was shut down.
    pub(super) ended: Condvar,
}

/// Tasks wait here, not in rayon's jobs, so that a shutdown can take those back that no thread will come to.
///
/// Tasks that outlast their time limit don't count as running.
pub(super) struct Queue {
    pub(super) tasks: VecDeque<Task>,
    /// Shared tasks that run.
    pub(super) sharing: usize,
    /// All tasks that run.
    pub(super) running: usize,
    /// Rayon's jobs that came when the next task might not run yet.
    deferred: usize,
    /// Threads that took the place of others.
    pub(super) substitutes: usize,
    /// `None` once the executor is shut down.
    pub(super) pool: Option<Arc<ThreadPool>>,
}

/// A task that was taken from the queue, with what it is told if it is exclusive.
pub(super) type Taken = (Task, Option<Arc<Orders>>);

impl Queue {
    pub(super) fn new(pool: ThreadPool) -> Self {
        Self { tasks: VecDeque::new(), sharing: 0, running: 0, deferred: 0, substitutes: 0, pool: Some(Arc::new(pool)) }
    }

    /// Takes at most so many of the jobs that were deferred, to be made up for; returns how many.
    pub(super) fn take_deferred(&mut self, most: usize) -> usize {
        let taken = self.deferred.min(most);
        self.deferred -= taken;
        taken
    }
}

impl Shared {
    /// One rayon job: runs the task that waits longest, if nobody else has taken it, and then those that other jobs had
    /// to leave.
    pub(super) fn run_next(&self) {
        let thread = rayon::current_thread_index().unwrap_or_default();
        let mut next = self.begin(thread);
        while let Some(taken) = next {
            self.run(taken, thread);
            if !self.takes_over() {
                return;
            }
            next = self.begin(thread);
        }
    }

    fn begin(&self, thread: usize) -> Option<Taken> {
        let mut queue = lock(&self.queue);
        if self.must_wait(&queue) {
            queue.deferred += 1;
            return None;
        }
        self.take(&mut queue, thread)
    }

    /// Whether the next task, if there is one, has to wait for the end of another.
    pub(super) fn must_wait(&self, queue: &Queue) -> bool {
        // Only with substitutes are there more threads than tasks that may run.
        let full = queue.substitutes > 0 && queue.running >= self.options.workers as usize;
        let shared_full = queue.sharing >= self.options.sharing as usize;
        queue.tasks.front().is_some_and(|task| full || (shared_full && !task.exclusive))
    }

    /// Takes the next task, for a thread to run it.
    pub(super) fn take(&self, queue: &mut Queue, thread: usize) -> Option<Taken> {
        let task = queue.tasks.pop_front()?;
        queue.sharing += usize::from(!task.exclusive);
        queue.running += 1;
        let orders = task.exclusive.then(Arc::default);
        let begun = self.options.task_timeout.filter(|_| !task.exclusive).map(|_| Instant::now());
        // Still under the queue's lock, so that a task is always found in one of the two places.
        self.seats[thread].begin(task.id, orders.clone(), begun);
        Some((task, orders))
    }

    /// Whether a job that was deferred is to be made up for.
    fn takes_over(&self) -> bool {
        lock(&self.queue).take_deferred(1) > 0
    }

    /// Runs a task to the delivery of its outcome.
    pub(super) fn run(&self, (task, orders): Taken, thread: usize) {
        let (id, shared) = (task.id, !task.exclusive);
        let (worker, seat) = (worker(thread), &self.seats[thread]);
        let is_cancelled = || orders.as_ref().is_some_and(|orders| orders.is_cancelled());
        let context = TaskContext::new(worker, &is_cancelled, &|| ());
        let context = match &orders {
            Some(orders) => context.telling(&orders.told),
            None => context,
        };
        let result = run(&*self.work, task, &context);
        let delivered = seat.begin_delivery(id);
        if delivered {
            self.sink.deliver(&mut vec![Outcome {
                task: id,
                worker: Some(worker),
                result: result.map_err(TaskError::Failed),
            }]);
            seat.end_delivery(id);
        }
        let counted = delivered || !seat.end_overdue(id);
        let mut queue = lock(&self.queue);
        if counted {
            queue.sharing -= usize::from(shared);
            queue.running -= 1;
        }
        if queue.substitutes > 0 {
            self.stirred.notify_all();
        }
    }

    pub(super) fn cancel(&self, task: Option<TaskId>) {
        for seat in &self.seats {
            seat.cancel(task);
        }
    }

    /// Rayon's threads and the substitutes.
    pub(super) fn threads(&self, queue: &Queue) -> usize {
        self.options.workers as usize + queue.substitutes
    }

    pub(super) fn info(&self, thread: usize) -> WorkerInfo {
        let end = self.seats[thread]
            .is_left_behind()
            .then(|| WorkerEnd::Lost(format!("left behind with a task that ran for longer than {:?}", self.limit())));
        let alive = end.is_none() && lock(&self.queue).pool.is_some();
        WorkerInfo { alive, end, ..WorkerInfo::new(worker(thread), label(thread)) }
    }
}

pub(super) fn label(thread: usize) -> String {
    format!("{} (thread)", worker(thread))
}

#[expect(clippy::cast_possible_truncation, reason = "threads are counted by a u32 at the start")]
pub(super) fn worker(thread: usize) -> WorkerId {
    WorkerId(thread as u32)
}
