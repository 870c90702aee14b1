//! The worker's side of a time limit on tasks.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::Frame;
use super::worker::Outcomes;
use crate::TaskId;
use crate::sync::lock;

/// Knows which shared tasks run and since when, and tells the executor of one that outlasts its limit.
///
/// A task that computes or waits can't be ended from outside, but the executor can end the process. It is told which
/// tasks have begun. No other does after that, so the executor may give the rest to other workers.
pub(super) struct Deadline {
    limit: Duration,
    running: Mutex<Running>,
}

struct Running {
    /// By thread.
    tasks: Vec<Option<(TaskId, Instant)>>,
    /// The executor was told of an overdue task.
    sealed: bool,
}

impl Deadline {
    /// Starts to watch over so many threads.
    pub(super) fn watch(limit: Duration, threads: usize, outcomes: Arc<Outcomes>) -> io::Result<Arc<Self>> {
        let running = Mutex::new(Running { tasks: vec![None; threads], sealed: false });
        let deadline = Arc::new(Self { limit, running });
        let watcher = Arc::clone(&deadline);
        thread::Builder::new().name("psbench-deadline".to_owned()).spawn(move || watcher.await_overdue(&outcomes))?;
        Ok(deadline)
    }

    /// Notes that a thread begins a task; `false` if it must not.
    #[must_use]
    pub(super) fn begin(&self, thread: usize, task: TaskId) -> bool {
        let mut running = lock(&self.running);
        if !running.sealed {
            running.tasks[thread] = Some((task, Instant::now()));
        }
        !running.sealed
    }

    /// Notes that a thread's task is over, its outcome queued.
    pub(super) fn end(&self, thread: usize) {
        lock(&self.running).tasks[thread] = None;
    }

    fn await_overdue(&self, outcomes: &Outcomes) {
        loop {
            let left = {
                let mut running = lock(&self.running);
                let eldest = running.tasks.iter().flatten().min_by_key(|(_, begun)| *begun).copied();
                // A task that begins while this thread sleeps for no more than the limit is in time when it wakes.
                let left = eldest.map_or(self.limit, |(_, begun)| self.limit.saturating_sub(begun.elapsed()));
                if let Some((task, _)) = eldest
                    && left.is_zero()
                {
                    running.sealed = true;
                    let begun = running.tasks.iter().flatten().map(|(task, _)| *task).collect();
                    outcomes.push(Frame::Overdue { task, begun });
                    break;
                }
                left
            };
            thread::sleep(left);
        }
        outcomes.flush();
    }
}
