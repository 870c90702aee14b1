//! Two executors as one: exclusive tasks go to one, shared tasks to the other.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::{ClockOffset, Executor, Overhead, Task, TaskId, WorkerId, WorkerInfo, WorkerReport};

/// Gives exclusive tasks to one executor and shared ones to another, whose workers are counted from where those of the first end.
///
/// Both deliver to the same sink.
pub struct SplitExecutor {
    exclusive: Arc<dyn Executor>,
    shared: Arc<dyn Executor>,
}

impl SplitExecutor {
    /// Of two executors whose workers have numbers of their own.
    pub fn new(exclusive: Arc<dyn Executor>, shared: Arc<dyn Executor>) -> Self {
        Self { exclusive, shared }
    }
}

impl Executor for SplitExecutor {
    fn submit(&self, tasks: Vec<Task>) {
        let (exclusive, shared): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| task.exclusive);
        for (executor, tasks) in [(&self.exclusive, exclusive), (&self.shared, shared)] {
            if !tasks.is_empty() {
                executor.submit(tasks);
            }
        }
    }

    fn cancel(&self, task: TaskId) {
        self.exclusive.cancel(task);
    }

    fn tell(&self, task: TaskId, number: u64) {
        self.exclusive.tell(task, number);
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        let mut workers = self.exclusive.workers();
        workers.extend(self.shared.workers());
        workers
    }

    fn clock(&self, worker: WorkerId) -> Option<ClockOffset> {
        self.shared.clock(worker)
    }

    fn exhausted(&self) -> Option<String> {
        // Exclusive tasks that are lost tell of themselves.
        self.shared.exhausted()
    }

    fn overhead(&self) -> Vec<Overhead> {
        [self.exclusive.overhead(), self.shared.overhead()].concat()
    }

    fn shutdown(&self, grace: Duration) -> Vec<WorkerReport> {
        thread::scope(|scope| {
            let Ok(exclusive) = thread::Builder::new().spawn_scoped(scope, || self.exclusive.shutdown(grace)) else {
                return [self.exclusive.shutdown(grace), self.shared.shutdown(grace)].concat();
            };
            let shared = self.shared.shutdown(grace);
            let mut reports = exclusive.join().unwrap_or_else(|_| {
                tracing::error!("reports are missing: the shutdown of the workers for exclusive tasks has panicked");
                Vec::new()
            });
            reports.extend(shared);
            reports
        })
    }
}
