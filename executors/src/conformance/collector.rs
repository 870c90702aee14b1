//! Where the outcomes go in the checks.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use bytes::Bytes;

use super::SOON;
use crate::sync::{lock, wait_timeout};
use crate::{Outcome, OutcomeSink, TaskError, TaskId, WorkerId};

/// A sink that keeps outcomes, and insists that there is one for each task.
#[derive(Debug, Default)]
pub struct Collector {
    outcomes: Mutex<HashMap<TaskId, Outcome>>,
    changed: Condvar,
}

impl Collector {
    /// Waits for the outcome of one task.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    pub fn outcome(&self, id: u64) -> Result<Bytes, TaskError> {
        self.wait_until(&format!("the outcome of task {id}"), |outcomes| {
            outcomes.get(&TaskId(id)).map(|outcome| outcome.result.clone())
        })
    }

    /// Waits for the outcome of one task; returns the worker that ran it, or was lost with it.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    pub fn worker(&self, id: u64) -> Option<WorkerId> {
        self.wait_until(&format!("the outcome of task {id}"), |outcomes| {
            outcomes.get(&TaskId(id)).map(|outcome| outcome.worker)
        })
    }

    /// Waits until there are `count` outcomes.
    ///
    /// # Panics
    ///
    /// If there are fewer after a minute.
    pub fn wait_for(&self, count: usize) {
        self.wait_until(&format!("{count} outcomes"), |outcomes| (outcomes.len() >= count).then_some(()));
    }

    /// Whether there is the outcome of one task.
    pub fn has(&self, id: u64) -> bool {
        lock(&self.outcomes).contains_key(&TaskId(id))
    }

    /// How many outcomes there are.
    pub fn count(&self) -> usize {
        lock(&self.outcomes).len()
    }

    fn wait_until<T>(&self, what: &str, ready: impl Fn(&HashMap<TaskId, Outcome>) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut outcomes = lock(&self.outcomes);
        loop {
            if let Some(value) = ready(&outcomes) {
                return value;
            }
            let left = SOON.saturating_sub(begun.elapsed());
            assert!(!left.is_zero(), "no {what}, only {}", outcomes.len());
            outcomes = wait_timeout(&self.changed, outcomes, left);
        }
    }
}

impl OutcomeSink for Collector {
    fn deliver(&self, outcomes: &mut Vec<Outcome>) {
        let mut kept = lock(&self.outcomes);
        for outcome in outcomes.drain(..) {
            let id = outcome.task;
            assert!(kept.insert(id, outcome).is_none(), "a second outcome of {id:?}");
        }
        self.changed.notify_all();
    }
}
