//! On which terms workers work.

use std::time::Duration;

use bytes::Bytes;

use super::frames::{MAX_HEAD, MAX_THREADS};
use crate::ExecutorError;

/// What an executor tells the fleet of its workers; see the options of the executors for what each means.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) workers: u32,
    /// The number of the first worker.
    pub(crate) first: u32,
    pub(crate) threads_per_worker: u32,
    pub(crate) sharing: u32,
    pub(crate) setup: Bytes,
    pub(crate) capacity: u32,
    pub(crate) ready_timeout: Duration,
    pub(crate) max_tasks_per_worker: Option<u64>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) task_timeout: Option<Duration>,
    pub(crate) stopped_limit: Duration,
}

impl Terms {
    pub(crate) fn check(&self) -> Result<(), ExecutorError> {
        let too_few = |what: &str, value: u64| match value {
            0 => Err(ExecutorError::Invalid(format!("an executor needs {what} of at least 1"))),
            _ => Ok(()),
        };
        too_few("a number of workers", self.workers.into())?;
        too_few("a capacity", self.capacity.into())?;
        too_few("a sharing", self.sharing.into())?;
        too_few("a number of threads per worker", self.threads_per_worker.into())?;
        too_few("a number of tasks per worker", self.max_tasks_per_worker.unwrap_or(1))?;
        if self.threads_per_worker > MAX_THREADS {
            return Err(ExecutorError::Invalid(format!(
                "{} threads per worker are more than {MAX_THREADS}: use more workers",
                self.threads_per_worker
            )));
        }
        if self.setup.len() > MAX_HEAD {
            return Err(ExecutorError::Invalid(format!(
                "a setup of {} bytes is more than the {MAX_HEAD} that a worker takes",
                self.setup.len()
            )));
        }
        if self.task_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(ExecutorError::Invalid("a task timeout of 0 lets no task run".to_owned()));
        }
        Ok(())
    }
}
