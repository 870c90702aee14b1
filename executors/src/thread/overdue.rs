//! Tasks that outlast their time limit, and the threads that take the place of those that they occupy.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::pool::{Queue, Shared, label, worker};
use super::seat::Seat;
use crate::courier::deliver;
use crate::sync::{lock, wait, wait_timeout};
use crate::{ExecutorError, Outcome, TaskError, TaskId};

/// Most threads that take the place of others, over an executor's life.
pub(super) const MAX_SUBSTITUTES: usize = 64;

impl Shared {
    /// Starts the thread that delivers overdue tasks until the shutdown, if time is limited.
    pub(super) fn watch(self: &Arc<Self>) -> Result<Option<JoinHandle<()>>, ExecutorError> {
        let Some(limit) = self.options.task_timeout else {
            return Ok(None);
        };
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("psbench-deadline".to_owned())
            .spawn(move || shared.deliver_overdue(limit))
            .map(Some)
            .map_err(|source: io::Error| ExecutorError::Start { what: "the deadline thread".to_owned(), source })
    }

    /// The time limit for shared tasks, where there is one.
    pub(super) fn limit(&self) -> Duration {
        self.options.task_timeout.unwrap_or(Duration::MAX)
    }

    /// Why no task can run any more, if that is so.
    pub(super) fn exhausted(&self, queue: &Queue) -> Option<String> {
        let threads = self.threads(queue);
        let occupied = self.options.task_timeout.is_some() && self.seats[..threads].iter().all(Seat::is_left_behind);
        occupied.then(|| {
            format!("all {threads} threads are left behind with tasks that ran for longer than {:?}", self.limit())
        })
    }

    fn deliver_overdue(self: &Arc<Self>, limit: Duration) {
        let mut queue = lock(&self.queue);
        while queue.pool.is_some() {
            let mut outcomes = Vec::new();
            let mut left = limit;
            for (thread, seat) in self.seats.iter().enumerate() {
                let (overdue, next) = seat.give_up_overdue(limit);
                left = left.min(next);
                queue.sharing -= overdue.len();
                queue.running -= overdue.len();
                outcomes.extend(overdue.into_iter().map(|task| timed_out(task, thread, limit)));
            }
            if outcomes.is_empty() {
                // A task that begins meanwhile is in time when this thread wakes.
                queue = wait_timeout(&self.ended, queue, left);
                continue;
            }
            self.substitute(&mut queue);
            let (pool, deferred) = (queue.pool.clone(), queue.take_deferred(outcomes.len()));
            if let Some(reason) = self.exhausted(&queue) {
                self.courier.refuse(queue.tasks.drain(..).map(|task| task.id), &reason);
            }
            self.stirred.notify_all();
            drop(queue);
            if let Some(pool) = pool {
                self.spawn_jobs(&pool, deferred);
            }
            tracing::warn!(tasks = outcomes.len(), ?limit, "tasks timed out, their threads are left behind");
            deliver(&*self.sink, outcomes);
            queue = lock(&self.queue);
        }
    }

    /// Starts threads for as many tasks as may run, if there are fewer.
    fn substitute(self: &Arc<Self>, queue: &mut Queue) {
        let free =
            |queue: &Queue| self.seats[..self.threads(queue)].iter().filter(|seat| !seat.is_left_behind()).count();
        while free(queue) < self.options.workers as usize && queue.substitutes < MAX_SUBSTITUTES {
            let (shared, thread) = (Arc::clone(self), self.threads(queue));
            let started = thread::Builder::new()
                .name(format!("psbench-worker-{thread}"))
                .spawn(move || shared.run_as_substitute(thread));
            if let Err(error) = started {
                tracing::warn!(%error, "no thread takes the place of one that is left behind");
                return;
            }
            queue.substitutes += 1;
        }
    }

    fn run_as_substitute(&self, thread: usize) {
        let mut queue = lock(&self.queue);
        while queue.pool.is_some() {
            let taken = if self.must_wait(&queue) { None } else { self.take(&mut queue, thread) };
            match taken {
                None => queue = wait(&self.stirred, queue),
                Some(taken) => {
                    drop(queue);
                    self.run(taken, thread);
                    queue = lock(&self.queue);
                }
            }
        }
    }
}

fn timed_out(task: TaskId, thread: usize, limit: Duration) -> Outcome {
    Outcome { task, worker: Some(worker(thread)), result: Err(TaskError::TimedOut { label: label(thread), limit }) }
}
