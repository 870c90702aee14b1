//! Options of the worker pool.

use std::time::Duration;

use psbench_executors::process::CpuAffinity;

use super::checks::within;
use super::{OptionError, StreamScalingOptions};
use crate::plan::WorkerPool;
use crate::units::{Seconds, Size};

/// More threads than this are a mistake, and refused by the executor.
const MOST_THREADS: u32 = 1024;
/// A worker's program, its threads with their stacks, and some items.
const LEAST_MEMORY: u64 = 1_250_000_000;

impl StreamScalingOptions {
    /// How worker processes are kept, for the largest of so many `workers`, or a larger pool, of which so many generate.
    pub(super) fn worker_pool(
        &mut self,
        workers: &[u32],
        larger: Option<u32>,
        generators: u32,
    ) -> Result<WorkerPool, OptionError> {
        let threads = *self.threads_per_worker.get_or_insert(1);
        let pool = WorkerPool {
            threads_per_worker: within("--threads-per-worker", threads, 1..=MOST_THREADS)?,
            max_tasks_per_worker: self
                .max_tasks_per_worker
                .map(|tasks| within("--max-tasks-per-worker", tasks, 1..=u64::MAX))
                .transpose()?,
            idle: positive("--worker-idle", self.worker_idle)?,
            memory: self.memory()?,
            cpu_affinity: self.affinity()?,
        };
        let processes = pool.processes(workers.iter().copied().chain(larger).max().unwrap_or_default(), generators);
        match &pool.cpu_affinity {
            Some(affinity @ CpuAffinity::List(sets)) if sets.len() < processes as usize => {
                let problem = format!("cores for {} of {processes} worker processes; write as many sets", sets.len());
                Err(OptionError::invalid("--cpu-affinity", affinity, problem))
            }
            _ => Ok(pool),
        }
    }

    /// Most time for one task.
    pub(super) fn task_limit(&self) -> Result<Option<Duration>, OptionError> {
        let limit = positive("--task-timeout", self.task_timeout)?;
        match (limit, self.task_sleep) {
            (Some(limit), Some(sleep)) if limit <= sleep.duration() => {
                let problem = format!("no task of --task-sleep {sleep} ends in that time; write more");
                Err(OptionError::invalid("--task-timeout", &humantime::format_duration(limit), problem))
            }
            _ => Ok(limit),
        }
    }

    fn memory(&self) -> Result<Option<u64>, OptionError> {
        match self.worker_memory {
            Some(few) if few.bytes() < LEAST_MEMORY => {
                let least = Size::from_bytes(LEAST_MEMORY);
                let problem = format!("too little for a worker to start; write {least} or more");
                Err(OptionError::invalid("--worker-memory", &few, problem))
            }
            memory => Ok(memory.map(Size::bytes)),
        }
    }

    fn affinity(&self) -> Result<Option<CpuAffinity>, OptionError> {
        let parse = |text: &String| {
            text.parse().map_err(|error: psbench_executors::process::AffinityError| {
                OptionError::invalid("--cpu-affinity", text, error.to_string())
            })
        };
        self.cpu_affinity.as_ref().map(parse).transpose()
    }
}

/// A duration that is not 0, where one is given.
fn positive(option: &'static str, value: Option<Seconds>) -> Result<Option<Duration>, OptionError> {
    match value.map(Seconds::duration) {
        Some(Duration::ZERO) => Err(OptionError::invalid(option, &0, "write more than 0")),
        value => Ok(value),
    }
}
