//! How workers end: by themselves, by force, and all together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::member::End;
use super::roster::Present;
use super::{Fleet, Phase, flush};
use crate::courier::{SHUT_DOWN, deliver, not_run};
use crate::sync::{lock, wait_timeout};
use crate::{Outcome, TaskError, TaskId, WorkerEnd, WorkerId, WorkerInfo, WorkerReport};

impl Fleet {
    /// A worker told that a task outlasts its time limit, which tasks have begun, and that no other will. Returns why
    /// it has to be ended by force.
    pub(super) fn overdue(&self, worker: WorkerId, task: TaskId, begun: &[TaskId]) -> String {
        let touched = {
            let mut state = lock(&self.state);
            if let Some(present) = state.roster.get_mut(worker) {
                present.overdue = Some(task);
            }
            if state.phase == Phase::ShutDown {
                Vec::new()
            } else {
                state.schedule.recall(worker, begun);
                self.assign(&mut state, None)
            }
        };
        flush(touched);
        self.time_is_up()
    }

    /// Why a worker with an overdue task is ended.
    pub(super) fn time_is_up(&self) -> String {
        format!("a task ran for longer than {:?}", self.terms.task_timeout.unwrap_or_default())
    }

    /// A worker has ended, and with it the tasks that it held.
    pub(super) fn ended(&self, worker: WorkerId, end: &End) {
        let (outcomes, touched) = {
            let mut state = lock(&self.state);
            let held = state.schedule.close(worker);
            let Some(present) = state.roster.remove(worker) else {
                return;
            };
            let mut losses = Losses {
                worker: state.roster.info(worker).clone(),
                overdue: present.overdue,
                limit: self.terms.task_timeout.unwrap_or_default(),
                reason: end.text.clone(),
            };
            if state.phase == Phase::ShutDown {
                let threads = self.terms.threads_per_worker as usize;
                let running = if state.roster.has_finished(worker) { 0 } else { threads };
                losses.reason.push_str(", still running at the end of the shutdown's grace");
                (losses.in_shutdown(held, running), Vec::new())
            } else {
                let fate = fate(&present, end, held.is_empty());
                let label = &losses.worker.label;
                match &fate {
                    WorkerEnd::Retired(reason) => tracing::debug!(worker = label, reason, "worker retired"),
                    WorkerEnd::Lost(end) => {
                        tracing::warn!(worker = label, end, held = held.len(), "worker lost");
                        if !present.ready {
                            state.setbacks.failed_start(Instant::now(), end);
                        } else if held.is_empty() && present.leaving.is_none() {
                            state.setbacks.idle_death(Instant::now(), end);
                        }
                    }
                }
                state.roster.set_end(worker, fate);
                // Tasks may have waited for the slots that it leaves, and its replacement comes late or never.
                let touched = self.assign(&mut state, None);
                (held.into_iter().map(|task| losses.of(task)).collect(), touched)
            }
        };
        flush(touched);
        self.changed.notify_all();
        self.stirred.notify_one();
        deliver(&*self.sink, outcomes);
    }

    pub(crate) fn shutdown(&self, grace: Duration) -> Vec<WorkerReport> {
        let begun = Instant::now();
        let mut state = lock(&self.state);
        if state.phase == Phase::ShutDown {
            return Vec::new();
        }
        state.phase = Phase::ShutDown;
        self.stirred.notify_one();
        for link in state.roster.links() {
            link.ask_to_end();
        }
        let never_run = not_run(state.schedule.drain(), SHUT_DOWN);
        drop(state);
        deliver(&*self.sink, never_run);

        state = lock(&self.state);
        while !state.roster.is_empty() {
            let left = grace.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            state = wait_timeout(&self.changed, state, left);
        }
        for link in state.roster.links() {
            link.process.kill();
        }
        // The thread that starts workers may still start another, which finds the executor shut down.
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("outcomes may be missing: the sink has panicked");
            }
        }
        self.courier.settle();
        lock(&self.state).roster.reports()
    }
}

/// Whether a worker that has ended was lost.
fn fate(present: &Present, end: &End, idle: bool) -> WorkerEnd {
    match &present.leaving {
        Some(reason) if present.asked.is_some() && end.success && idle => WorkerEnd::Retired(reason.clone()),
        _ => WorkerEnd::Lost(end.text.clone()),
    }
}

/// What becomes of the tasks of a worker that has ended.
struct Losses {
    worker: WorkerInfo,
    overdue: Option<TaskId>,
    /// The time limit that the overdue task outlasted.
    limit: Duration,
    reason: String,
}

impl Losses {
    fn of(&self, task: TaskId) -> Outcome {
        let label = self.worker.label.clone();
        let error = if self.overdue == Some(task) {
            TaskError::TimedOut { label, limit: self.limit }
        } else {
            TaskError::WorkerLost { label, reason: self.reason.clone() }
        };
        Outcome { task, worker: Some(self.worker.id), result: Err(error) }
    }

    /// The worker was within the first of its tasks, at most `running`, and left alone the others.
    fn in_shutdown(&self, mut held: VecDeque<TaskId>, running: usize) -> Vec<Outcome> {
        let lost = held.drain(..running.min(held.len())).map(|task| self.of(task)).collect::<Vec<_>>();
        let mut outcomes = not_run(held, SHUT_DOWN);
        outcomes.extend(lost);
        outcomes
    }
}
