//! Gets workers placed.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Invitation, TOKEN_VARIABLE};
use crate::ExecutorError;
use crate::process::WorkerStderr;
use crate::process::child::{Process, Program};
use crate::sync::lock;

/// Given to a launcher that was asked to end: Slurm's has to cancel its job, which would stay for ever otherwise.
const TERMINATING: Duration = Duration::from_secs(5);

/// Places workers somewhere: on this host, by a scheduler, by an engine. Called by one thread at a time.
pub trait Launcher: Send + Sync {
    /// Has so many workers started, each of which is to [`connect`](super::connect) with the invitation. Does not wait for them.
    fn launch(&self, invitation: &Invitation, workers: u32) -> Result<(), ExecutorError>;

    /// Why not all workers will come, once that is known.
    fn failure(&self) -> Option<String>;

    /// Called when all workers were asked to end: waits for them, at most `grace`, and ends by force what it can of what is left.
    fn end(&self, grace: Duration);
}

/// A program that stays for as long as the workers do which it starts: `mpiexec`, `srun`, `ssh`, or a worker itself.
#[derive(Clone, Debug)]
pub struct LaunchCommand {
    /// As errors and the log name it.
    pub name: String,
    /// The program and its arguments, the worker's command line included.
    pub command: Vec<OsString>,
    /// Added to this process's environment, as the token is.
    pub env: Vec<(OsString, OsString)>,
    /// What it is given as its standard input, which stays open then: where a token must be neither seen nor inherited.
    pub input: Option<Vec<u8>>,
}

/// Makes what is to be run for an invitation of so many workers.
type Commands = dyn Fn(&Invitation, u32) -> Vec<LaunchCommand> + Send + Sync;

/// Starts programs on this host that start the workers.
pub struct CommandLauncher {
    commands: Box<Commands>,
    started: Mutex<Vec<Started>>,
}

struct Started {
    name: String,
    process: Process,
    /// Its standard input, where it was given something: the end of that might be taken for ours.
    _input: Option<UnixStream>,
}

impl CommandLauncher {
    /// `commands` makes what is to be run for an invitation of so many workers. The token is in the environment of each.
    pub fn new(commands: impl Fn(&Invitation, u32) -> Vec<LaunchCommand> + Send + Sync + 'static) -> Self {
        Self { commands: Box::new(commands), started: Mutex::default() }
    }
}

impl Launcher for CommandLauncher {
    fn launch(&self, invitation: &Invitation, workers: u32) -> Result<(), ExecutorError> {
        for LaunchCommand { name, command, env, input } in (self.commands)(invitation, workers) {
            let mut command = command.into_iter();
            let token = (TOKEN_VARIABLE.into(), invitation.token.clone().into());
            let program = Program {
                path: command.next().unwrap_or_default().into(),
                args: command.collect(),
                // Whoever is given it otherwise is to have it in no other way.
                env: env.into_iter().chain(input.is_none().then_some(token)).collect(),
                stderr: WorkerStderr::Log,
                memory_limit: None,
                what: "the launcher",
            };
            let cannot_start = |source| ExecutorError::Start { what: name.clone(), source };
            let (process, socket) = Process::spawn(&program)?;
            process.log_as(&name).map_err(cannot_start)?;
            if let Some(input) = &input {
                (&socket).write_all(input).map_err(cannot_start)?;
            }
            lock(&self.started).push(Started { name, process, _input: input.map(|_| socket) });
        }
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        let ended = lock(&self.started).extract_if(.., |it| it.process.ends_within(Duration::ZERO)).next();
        ended.map(|Started { name, process, .. }| {
            let end = process.reap(Duration::ZERO);
            match process.last_words() {
                Some(words) => format!("{name} ended ({}): {words}", end.text),
                None => format!("{name} ended ({})", end.text),
            }
        })
    }

    fn end(&self, grace: Duration) {
        let begun = Instant::now();
        let mut started = lock(&self.started);
        for Started { name, process, .. } in started.iter() {
            if !process.ends_within(grace.saturating_sub(begun.elapsed())) {
                tracing::warn!(
                    "{name} is still there {grace:?} after its workers were asked to end: it is ended by force"
                );
                process.terminate();
            }
        }
        // Dropped, each is ended by force if it is still there.
        for Started { process, .. } in started.drain(..) {
            process.ends_within(TERMINATING);
        }
    }
}
