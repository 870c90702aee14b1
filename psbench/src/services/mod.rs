//! Private brokers for a try and for the tests: servers of this host that psbench starts, finds again and stops.
//!
//! Each is a process of its own, on free ports of the loopback interface, with a directory of its own. [`Services`] does for all of
//! them what does not depend on which it is; what does is a [`Service`].

mod directory;
mod error;
mod fetch;
mod kafka;
mod ports;
mod process;
mod redis;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::directory::{Directory, Stage, State};
pub use self::error::ServicesError;
pub use self::fetch::{Fetched, cache_directory, fetch_kafka};
pub(crate) use self::fetch::{MAVEN, Needed, find_program};
pub(crate) use self::kafka::JAVA;
pub use self::kafka::{Kafka, Property};
use self::process::{LOOK, ProcessId};
pub(crate) use self::redis::REDIS;
pub use self::redis::RedisServer;
use crate::terminal::tell;

/// A service, as the command line names it; that of the broker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceName {
    /// A redis-server.
    Redis,
    /// An Apache Kafka, broker and controller in one.
    Kafka,
}

impl ServiceName {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One kind of server. [`Services`] calls these in order, in one thread.
pub trait Service {
    /// Which it is.
    fn name(&self) -> ServiceName;

    /// Whether what it takes to start is there. Called before anything is started.
    fn check(&self) -> Result<(), ServicesError>;

    /// How many ports it needs.
    fn ports(&self) -> usize;

    /// How long it may take to answer.
    fn patience(&self) -> Duration;

    /// Writes configuration and empty data for these ports to its new directory. Ends early once `interrupted` is set.
    fn prepare(&self, directory: &Path, ports: &[u16], interrupted: &AtomicBool) -> Result<(), ServicesError>;

    /// Changes the configuration of one that comes back, by what differs now.
    fn reconfigure(&self, directory: &Path, ports: &[u16]) -> Result<(), ServicesError>;

    /// What starts it. Runs in its directory.
    fn command(&self) -> Command;

    /// Whether the server at the port is this process, and takes clients. `log` is all that it has said.
    fn answers(&self, port: u16, pid: u32, log: &str) -> bool;
}

/// The services of one directory.
#[derive(Debug)]
pub struct Services {
    path: PathBuf,
}

/// What is known of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceReport {
    /// Its name.
    pub name: ServiceName,
    /// How it is.
    pub condition: Condition,
    /// For its clients.
    pub address: String,
    /// Its process; absent where it does not run.
    pub pid: Option<u32>,
    /// Its log, configuration and data.
    pub directory: PathBuf,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Its process is there, and has never answered yet.
    Starting,
    /// Its process is there.
    Running,
    /// Stopped by psbench; comes back with its address and data.
    Stopped,
    /// Ended by itself or others; comes back with its address and data.
    Dead,
    /// It never answered.
    Failed,
}

impl Condition {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Failed => "failed",
        }
    }
}

/// How the wait for an answer ended.
enum Waited {
    Answered,
    Ended,
    TimedOut,
    Interrupted,
}

/// Ports are tried so often before psbench gives up, since one that was free may be another process's in a moment.
const ATTEMPTS: usize = 10;

/// How long a service may take to end before it is killed: Kafka writes down what it holds.
const ENDING: Duration = Duration::from_secs(30);

impl Services {
    /// Those below `directory`, by default of a directory of the user's in the temporary directory.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { path: directory.unwrap_or_else(Directory::default_path) }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sees to it that a service runs; `false` where it did already. One that stopped or died comes back with its ports and data.
    ///
    /// # Errors
    /// It did not answer. What was started for it is stopped; its directory stays for its log, unless the user interrupted.
    pub fn up(&self, service: &dyn Service, interrupted: &AtomicBool) -> Result<(ServiceReport, bool), ServicesError> {
        let directory = Directory::create(&self.path)?;
        let _lock = directory.lock(interrupted)?;
        let start = Start { service, directory: &directory, interrupted };
        let known = directory.state(service.name())?;
        // One that was just killed answers until it is gone.
        if let Some(process) = known.as_ref().and_then(|state| state.process) {
            process.settle(ENDING);
        }
        let (state, fresh) = match known {
            Some(state) if state.runs() => (start.rejoin(state)?, false),
            Some(state) if state.stage == Stage::Started => (start.resume(state)?, true),
            Some(_) | None => (start.anew()?, true),
        };
        Ok((report(&directory, &state), fresh))
    }

    /// Stops a service, if it runs, and removes its directory, unless `keep` keeps ports and data for the next start. `None` where it
    /// is not here.
    ///
    /// # Errors
    /// It can't be stopped, or not be removed.
    pub fn down(&self, name: ServiceName, keep: bool) -> Result<Option<ServiceReport>, ServicesError> {
        let Some(directory) = Directory::open(&self.path)? else { return Ok(None) };
        let _lock = directory.lock(&AtomicBool::new(false))?;
        let Some(mut state) = directory.state(name)? else { return Ok(None) };
        let before = report(&directory, &state);
        let keep = keep && state.stage == Stage::Started;
        if keep && before.condition == Condition::Running && name == ServiceName::Redis {
            redis::save(state.port())?;
        }
        stop(&state)?;
        if keep {
            state.process = None;
            directory.keep(&state)?;
        } else {
            directory.remove(name)?;
        }
        Ok(Some(before))
    }

    /// What is known of each that was started and not taken down.
    ///
    /// # Errors
    /// The directory, or what is in it, can't be read.
    pub fn list(&self) -> Result<Vec<ServiceReport>, ServicesError> {
        let Some(directory) = Directory::open(&self.path)? else { return Ok(Vec::new()) };
        let mut reports = Vec::new();
        for name in ServiceName::value_variants() {
            reports.extend(directory.state(*name)?.map(|state| report(&directory, &state)));
        }
        Ok(reports)
    }
}

fn report(directory: &Directory, state: &State) -> ServiceReport {
    let runs = state.runs();
    let condition = match (state.stage, runs, state.process) {
        (Stage::Starting, true, _) => Condition::Starting,
        (Stage::Starting, false, _) => Condition::Failed,
        (Stage::Started, true, _) => Condition::Running,
        (Stage::Started, false, Some(_)) => Condition::Dead,
        (Stage::Started, false, None) => Condition::Stopped,
    };
    ServiceReport {
        name: state.name,
        condition,
        address: format!("127.0.0.1:{}", state.port()),
        pid: state.process.filter(|_| runs).map(|process| process.pid),
        directory: directory.of(state.name),
    }
}

fn stop(state: &State) -> Result<(), ServicesError> {
    let Some(process) = state.process else { return Ok(()) };
    match process.stop(ENDING) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(ServicesError::Stop { name: state.name, pid: process.pid }),
    }
}

/// The start of one service.
struct Start<'a> {
    service: &'a dyn Service,
    directory: &'a Directory,
    interrupted: &'a AtomicBool,
}

impl Start<'_> {
    /// On ports and data of its own.
    fn anew(&self) -> Result<State, ServicesError> {
        let name = self.service.name();
        for _ in 0..ATTEMPTS {
            if self.directory.state(name)?.is_some() {
                self.directory.remove(name)?;
            }
            let ports = ports::free(self.service.ports())?;
            let mut state = State { name, stage: Stage::Starting, ports, process: None };
            self.directory.keep(&state)?;
            let started = self
                .service
                .prepare(&self.directory.of(name), &state.ports, self.interrupted)
                .and_then(|()| self.run(&mut state));
            match started {
                Ok(()) => return Ok(state),
                Err(ServicesError::Interrupted) => {
                    self.directory.remove(name)?;
                    return Err(ServicesError::Interrupted);
                }
                Err(ServicesError::PortTaken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ServicesError::NoPort)
    }

    /// On the ports and data that it had.
    fn resume(&self, mut state: State) -> Result<State, ServicesError> {
        state.process = None;
        if let Some(port) = ports::taken(&state.ports) {
            return Err(ServicesError::PortTaken { name: state.name, port });
        }
        self.service.reconfigure(&self.directory.of(state.name), &state.ports)?;
        self.run(&mut state)?;
        Ok(state)
    }

    /// Waits for one that runs, in case whoever started it did not.
    fn rejoin(&self, mut state: State) -> Result<State, ServicesError> {
        match self.wait(&state)? {
            Waited::Answered => {}
            Waited::Ended => return Err(self.failure("it ended")),
            Waited::TimedOut => return Err(self.failure("it runs and does not answer")),
            Waited::Interrupted => return Err(ServicesError::Interrupted),
        }
        if state.stage == Stage::Starting {
            state.stage = Stage::Started;
            self.directory.keep(&state)?;
        }
        Ok(state)
    }

    /// Starts the process and waits until it answers; without an answer it is stopped.
    fn run(&self, state: &mut State) -> Result<(), ServicesError> {
        tell(format_args!("{}: starting", state.name));
        let directory = self.directory.of(state.name);
        let log = log_of(&directory);
        let mut command = self.service.command();
        command.current_dir(&directory);
        state.process = process::start_daemon(&mut command, &log).map_err(ServicesError::file(&log))?;
        // What nobody would find again is not to go on.
        let waited = self.directory.keep(state).and_then(|()| self.wait(state));
        if matches!(waited, Ok(Waited::Answered)) {
            state.stage = Stage::Started;
            return self.directory.keep(state);
        }
        stop(state)?;
        state.process = None;
        let waited = waited?;
        self.directory.keep(state)?;
        Err(match waited {
            Waited::Interrupted => ServicesError::Interrupted,
            Waited::TimedOut => self.failure(&format!("no answer within {} s", self.service.patience().as_secs())),
            Waited::Answered | Waited::Ended => match ports::taken(&state.ports) {
                Some(port) => ServicesError::PortTaken { name: state.name, port },
                None => self.failure("it ended"),
            },
        })
    }

    /// Waits until the process answers, ends, or has had its time.
    fn wait(&self, state: &State) -> Result<Waited, ServicesError> {
        let log = log_of(&self.directory.of(state.name));
        let until = Instant::now() + self.service.patience();
        while let Some(ProcessId { pid, .. }) = state.process.filter(|process| process.runs()) {
            let said = fs::read(&log).map_err(ServicesError::file(&log))?;
            if self.service.answers(state.port(), pid, &String::from_utf8_lossy(&said)) {
                return Ok(Waited::Answered);
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(Waited::Interrupted);
            }
            if Instant::now() >= until {
                return Ok(Waited::TimedOut);
            }
            thread::sleep(LOOK);
        }
        Ok(Waited::Ended)
    }

    fn failure(&self, problem: &str) -> ServicesError {
        failure(self.service.name(), problem, log_of(&self.directory.of(self.service.name())))
    }
}

/// That a service did not start, with the last that it said.
fn failure(name: ServiceName, problem: &str, log: PathBuf) -> ServicesError {
    let said = fs::read(&log).unwrap_or_default();
    let problem = match last_words(&String::from_utf8_lossy(&said)) {
        Some(last) => format!("{problem}; it said: {last}"),
        None => problem.into(),
    };
    ServicesError::Start { name, problem, log }
}

/// What a service and its preparation say.
fn log_of(directory: &Path) -> PathBuf {
    directory.join("log.txt")
}

/// The last line that tells something: below an exception of Java there are its frames, indented.
fn last_words(log: &str) -> Option<&str> {
    /// Of an error that is one line.
    const LONGEST: usize = 300;
    let last = log.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with(char::is_whitespace))?;
    Some(last.char_indices().nth(LONGEST).map_or(last, |(end, _)| &last[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_not_a_stack_frame() {
        assert_eq!(last_words("started\njava.io.IOException: no\n\tat a.B.c\n\n"), Some("java.io.IOException: no"));
        assert_eq!(last_words("\n"), None);
        assert_eq!(last_words(&"é".repeat(400)).map(|line| line.chars().count()), Some(300));
    }
}
