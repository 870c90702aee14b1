//! A worker's process as its executor sees it, here or on another host.

use std::io;
use std::time::Duration;

use super::channel::Channel;
use crate::{ExecutorError, WorkerInfo};

/// The process of one worker.
pub(crate) trait WorkerProcess: Send + Sync {
    /// Where it is, for people: for example `pid 4711`.
    fn place(&self) -> String;

    /// Adds what is known of it.
    fn introduce(&self, info: &mut WorkerInfo);

    /// Told once what the worker is called.
    fn name(&self, _label: &str) -> io::Result<()> {
        Ok(())
    }

    /// Told that something came from it.
    fn heard(&self) {}

    /// Why it can't get on, for example `stopped (SIGSTOP)`.
    fn ailment(&self) -> Option<&'static str>;

    /// Ends it by force.
    fn kill(&self);

    /// Waits `linger` for it to end, then ends it by force; says how it ended.
    fn reap(&self, linger: Duration) -> End;
}

/// How a process ended.
pub(crate) struct End {
    /// For people.
    pub(crate) text: String,
    /// Whether it ended by itself and well.
    pub(crate) success: bool,
}

impl End {
    /// The end of a process that was killed for this reason, or that is still there for it.
    pub(crate) fn by_force(text: String) -> Self {
        Self { text, success: false }
    }
}

/// A worker process that has no number yet.
pub(crate) struct Recruit {
    pub(crate) process: Box<dyn WorkerProcess>,
    pub(crate) channel: Channel,
}

/// Starts worker processes.
pub(crate) trait Recruiter: Send + Sync {
    /// Starts one for a place among those that run.
    fn recruit(&self, rank: usize) -> Result<Recruit, ExecutorError>;
}
