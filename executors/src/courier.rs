//! Delivers outcomes that arise where delivering is not allowed.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use crate::{ExecutorError, Outcome, OutcomeSink, TaskError, TaskId};

/// Why tasks that a shutdown finds waiting, or that come after it, do not run.
pub(crate) const SHUT_DOWN: &str = "the executor was shut down";

/// A thread that delivers what [`Executor::submit`](crate::Executor::submit) has to refuse: a dispatcher may hold its
/// own locks around `submit`, so its sink must not be called from within.
///
/// The thread ends when the courier is dropped.
pub(crate) struct Courier {
    letters: mpsc::Sender<Letter>,
}

enum Letter {
    Outcomes(Vec<Outcome>),
    /// Answered once all earlier letters are delivered.
    Receipt(mpsc::Sender<()>),
}

impl Courier {
    pub(crate) fn start(sink: Arc<dyn OutcomeSink>) -> Result<Self, ExecutorError> {
        let (letters, inbox) = mpsc::channel();
        thread::Builder::new()
            .name("psbench-courier".to_owned())
            .spawn(move || {
                for letter in inbox {
                    match letter {
                        Letter::Outcomes(mut outcomes) => sink.deliver(&mut outcomes),
                        // Who no longer waits needs no receipt.
                        Letter::Receipt(reply) => {
                            let _ = reply.send(());
                        }
                    }
                }
            })
            .map_err(|source: io::Error| ExecutorError::Start { what: "the courier thread".to_owned(), source })?;
        Ok(Self { letters })
    }

    /// Delivers [`TaskError::NotRun`] for each of `tasks`, soon, from the courier's thread.
    pub(crate) fn refuse(&self, tasks: impl IntoIterator<Item = TaskId>, reason: &str) {
        let outcomes = not_run(tasks, reason);
        if !outcomes.is_empty() && self.letters.send(Letter::Outcomes(outcomes)).is_err() {
            // Only a panic of the sink ends the thread before its channel.
            tracing::error!(reason, "outcomes are undeliverable: the sink has panicked");
        }
    }

    /// Returns once everything that was refused before is delivered. Not for use by the sink.
    pub(crate) fn settle(&self) {
        let (reply, receipt) = mpsc::channel();
        if self.letters.send(Letter::Receipt(reply)).is_ok() {
            // An error means that the sink panicked, which `refuse` reports.
            let _ = receipt.recv();
        }
    }
}

/// The outcomes of tasks that never ran.
pub(crate) fn not_run(tasks: impl IntoIterator<Item = TaskId>, reason: &str) -> Vec<Outcome> {
    tasks
        .into_iter()
        .map(|task| Outcome { task, worker: None, result: Err(TaskError::NotRun(reason.to_owned())) })
        .collect()
}

/// Calls the sink from a thread of the executor's own, if there is anything to say.
pub(crate) fn deliver(sink: &dyn OutcomeSink, mut outcomes: Vec<Outcome>) {
    if !outcomes.is_empty() {
        sink.deliver(&mut outcomes);
    }
}
