//! Keeps a session's program running.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::haproxy::traffic;
use super::process::{Group, Process};
use super::program::{Prepared, Workspace};
use crate::dataserver::DataServerType;
use crate::forward::{Forwarding, Traffic};

/// Restarts within a period; then it is given up.
const RESTARTS: usize = 5;
const PERIOD: Duration = Duration::from_secs(60);
/// Before the first restart; each further one waits twice as long.
const PAUSE: Duration = Duration::from_millis(50);
/// How often counters are read.
const READ: Duration = Duration::from_secs(1);

/// A program that runs until this is released or dropped.
pub(super) struct Supervised {
    state: Arc<State>,
    end: DropGuard,
    task: JoinHandle<()>,
    last: Killing,
}

/// Kills its processes when it is dropped, even where no task can run any more. Once they ended that is nothing.
struct Killing(Arc<State>);

impl Drop for Killing {
    fn drop(&mut self) {
        if let Some(group) = &*lock(&self.0.group) {
            group.kill();
        }
    }
}

/// What is known of it.
#[derive(Default)]
struct State {
    /// Its processes.
    group: Mutex<Option<Group>>,
    problem: Mutex<Option<String>>,
    traffic: Mutex<Option<Traffic>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Supervised {
    /// Starts it, and waits until it accepts connections.
    pub(super) async fn start(kind: DataServerType, workspace: Workspace, mut prepared: Prepared) -> io::Result<Self> {
        let end = CancellationToken::new();
        let process = first(kind, &workspace, &prepared, &end).await?;
        let held = std::mem::take(&mut prepared.held);
        let state = Arc::new(State::default());
        *lock(&state.group) = Some(process.group());
        *lock(&state.traffic) = prepared.counters.map(|_| Traffic::default());
        let keeper = Keeper {
            kind,
            workspace,
            prepared,
            state: Arc::clone(&state),
            end: end.clone(),
            before: Traffic::default(),
        };
        let task = tokio::spawn(keeper.keep(process, held));
        Ok(Self { last: Killing(Arc::clone(&state)), state, end: end.drop_guard(), task })
    }
}

/// Starts it for the first time. A port that it binds by itself may still be bound by a process that this one is about to start: until
/// its program is executed it has what this one had. So it gets further chances.
async fn first(
    kind: DataServerType,
    workspace: &Workspace,
    prepared: &Prepared,
    end: &CancellationToken,
) -> io::Result<Process> {
    let mut chances = if prepared.held.is_empty() { 0 } else { RESTARTS };
    loop {
        match Process::start(kind, workspace, prepared, end).await {
            Err(error) if chances > 0 => {
                tracing::debug!("{kind} is started again: {error}");
                chances -= 1;
                sleep(PAUSE).await;
            }
            started => return started,
        }
    }
}

impl Forwarding for Supervised {
    fn traffic(&self) -> Option<Traffic> {
        *lock(&self.state.traffic)
    }

    fn problem(&self) -> Option<String> {
        lock(&self.state.problem).clone()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            drop(self.end);
            // It fails if its runtime ended first.
            let _ = self.task.await;
            drop(self.last);
        })
    }
}

/// Runs beside it.
struct Keeper {
    kind: DataServerType,
    workspace: Workspace,
    prepared: Prepared,
    state: Arc<State>,
    end: CancellationToken,
    /// What went through processes that ended.
    before: Traffic,
}

impl Keeper {
    /// Until it is to end. Then nothing of it is left: the directory goes with the keeper.
    async fn keep(mut self, mut process: Process, held: Vec<UdpSocket>) {
        let mut deaths: Vec<Instant> = Vec::new();
        let end = self.end.clone();
        loop {
            let Some(mut how) = end.run_until_cancelled(self.watch(&mut process)).await else {
                return process.end().await;
            };
            drop(process);
            process = loop {
                let now = Instant::now();
                deaths.retain(|death| now - *death < PERIOD);
                deaths.push(now);
                if deaths.len() > RESTARTS {
                    return self.give_up(&how, held).await;
                }
                tracing::warn!("{} ended by itself and is restarted: {how}", self.kind);
                if end.run_until_cancelled(sleep(PAUSE * (1 << (deaths.len() - 1)))).await.is_none() {
                    return;
                }
                match Process::start(self.kind, &self.workspace, &self.prepared, &end).await {
                    Ok(process) => break process,
                    Err(_) if end.is_cancelled() => return,
                    Err(error) => how = error.to_string(),
                }
            };
            *lock(&self.state.group) = Some(process.group());
            if end.is_cancelled() {
                return process.end().await;
            }
        }
    }

    /// Nobody is to wait at listeners that nobody serves.
    async fn give_up(mut self, how: &str, held: Vec<UdpSocket>) {
        let problem = format!("{} ended {} times within {PERIOD:?}; the last time: {how}", self.kind, RESTARTS + 1);
        tracing::error!("{problem}");
        *lock(&self.state.problem) = Some(problem);
        self.prepared.listeners.clear();
        self.end.cancelled().await;
        drop(held);
    }

    /// Waits until a process ends by itself; says how. Reads its counters meanwhile.
    async fn watch(&mut self, process: &mut Process) -> String {
        let Some(socket) = self.prepared.counters else {
            return process.ended().await;
        };
        let mut ticks = interval(READ);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = self.before;
        loop {
            tokio::select! {
                how = process.ended() => {
                    self.before = Traffic { connections_open: 0, ..last };
                    return how;
                }
                _ = ticks.tick() => {
                    if let Ok(told) = counters(self.workspace.directory.path(), socket).await {
                        last = sum(self.before, told);
                        *lock(&self.state.traffic) = Some(last);
                    }
                }
            }
        }
    }
}

fn sum(before: Traffic, now: Traffic) -> Traffic {
    Traffic {
        bytes_to_target: before.bytes_to_target + now.bytes_to_target,
        bytes_to_client: before.bytes_to_client + now.bytes_to_client,
        connections_total: before.connections_total + now.connections_total,
        connections_refused: before.connections_refused + now.connections_refused,
        ..now
    }
}

/// Asks HAProxy for its counters.
pub(super) async fn counters(directory: &Path, socket: &str) -> io::Result<Traffic> {
    const ANSWER: Duration = Duration::from_secs(5);
    /// Bytes: some hundred for each lane.
    const MOST: u64 = 4 << 20;
    // A socket's path has 107 bytes at most, which those below a directory with a long name exceed.
    let directory = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{socket}", directory.as_raw_fd());
    let ask = async {
        let mut socket = UnixStream::connect(path).await?;
        socket.write_all(b"show stat\n").await?;
        let mut told = String::new();
        socket.take(MOST).read_to_string(&mut told).await?;
        traffic(&told).ok_or(io::ErrorKind::InvalidData.into())
    };
    timeout(ANSWER, ask).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
