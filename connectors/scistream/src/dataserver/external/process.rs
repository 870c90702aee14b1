//! One process, from its start to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::parent::{Parent, spawn};
use super::program::{FIRST_FD, Prepared, Ready, Workspace};
use super::supervisor::counters;
use crate::dataserver::DataServerType;

/// How long a program may take until it accepts connections; it takes 10 to 20 ms.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end by itself.
const TERMINATED: Duration = Duration::from_secs(2);
/// How long those that it started may take to be gone, once killed.
const KILLED: Duration = Duration::from_secs(1);
/// Longest line that is logged in one piece, in bytes.
const LINE: u64 = 4 << 10;
/// Lines that are logged of a process in each period; how many more there were is told at its end.
const LINES: u32 = 100;
const PERIOD: Duration = Duration::from_secs(10);

/// A process in a process group of its own, with those that it starts. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    kind: DataServerType,
    child: Child,
    group: Group,
    said: watch::Receiver<Said>,
    output: JoinHandle<()>,
    _parent: Parent,
}

/// A process group that can be ended from anywhere.
#[derive(Clone, Debug)]
pub(super) struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    /// Ends all processes of it at once.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // An error means that they have ended.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Its number is the system's again.
    fn forget(&self) -> Option<Pid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is remembered of what it printed.
#[derive(Debug, Default)]
struct Said {
    ready: bool,
    last_line: String,
    last_complaint: String,
}

/// How the programs mark what is wrong: stunnel before and after it has read its configuration, HAProxy, nginx.
const COMPLAINTS: [&str; 5] = ["[!]", "LOG3", "[ALERT]", "[emerg]", "[alert]"];

impl Process {
    /// Starts a program and waits until it accepts connections. If that fails, or `end` comes first, nothing of it is left.
    ///
    /// # Errors
    /// It can't be started, ended or took too long; [`io::ErrorKind::Interrupted`]: `end` came.
    pub(super) async fn start(
        kind: DataServerType,
        workspace: &Workspace,
        prepared: &Prepared,
        end: &CancellationToken,
    ) -> io::Result<Self> {
        let mut process = Self::spawn(kind, workspace, prepared).await?;
        let ready = match end.run_until_cancelled(timeout(START, process.ready(workspace, prepared))).await {
            Some(Ok(ready)) => ready,
            Some(Err(_)) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("it accepts nothing after {START:?}"))),
            None => Err(io::Error::new(io::ErrorKind::Interrupted, "its session was released while it started")),
        };
        match ready {
            Ok(()) => Ok(process),
            Err(error) => {
                process.end().await;
                Err(error)
            }
        }
    }

    async fn spawn(kind: DataServerType, workspace: &Workspace, prepared: &Prepared) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let listeners = prepared.listeners.iter().zip(FIRST_FD..);
        let listeners =
            listeners.map(|(listener, child_fd)| Ok(FdMapping { parent_fd: listener.try_clone()?, child_fd }));
        let mut command = Command::new(&workspace.path);
        command
            .args(&prepared.arguments)
            .env_clear()
            .envs(prepared.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(workspace.directory.path())
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // A terminal's Ctrl-C is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .fd_mappings(listeners.collect::<io::Result<_>>()?)
            .map_err(io::Error::other)?;
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let (child, parent) = spawn(command).await?;
        // Its pid is known until it was waited for.
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let (noted, said) = watch::channel(Said::default());
        let output = tokio::spawn(log(kind, reader, prepared.ready, noted));
        Ok(Self { kind, child, group: Group(Arc::new(Mutex::new(group))), said, output, _parent: parent })
    }

    async fn ready(&mut self, workspace: &Workspace, prepared: &Prepared) -> io::Result<()> {
        let mut said = self.said.clone();
        let ready = async {
            match (prepared.ready, prepared.counters) {
                (Ready::Answers, Some(socket)) => {
                    const AGAIN: Duration = Duration::from_millis(1);
                    while counters(workspace.directory.path(), socket).await.is_err() {
                        sleep(AGAIN).await;
                    }
                }
                _ => {
                    if said.wait_for(|said| said.ready).await.is_err() {
                        // It closed its output: it ends.
                        std::future::pending::<()>().await;
                    }
                }
            }
        };
        let ended = tokio::select! {
            () = ready => return Ok(()),
            status = self.child.wait() => status?,
        };
        Err(io::Error::other(self.obituary(ended).await))
    }

    /// Those that end with it.
    pub(super) fn group(&self) -> Group {
        self.group.clone()
    }

    /// Waits until it ends by itself; says how.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => self.obituary(status).await,
            Err(error) => format!("its end is unknown: {error}"),
        }
    }

    /// How it ended, and what it said last.
    async fn obituary(&mut self, status: ExitStatus) -> String {
        self.clear().await;
        // The last lines may be on their way. A process that it left behind may hold the pipe open for ever.
        const LAST_LINES: Duration = Duration::from_millis(200);
        let _ = timeout(LAST_LINES, &mut self.output).await;
        let said = self.said.borrow();
        let line = if said.last_complaint.is_empty() { &said.last_line } else { &said.last_complaint };
        if line.is_empty() { status.to_string() } else { format!("{status}: {line}") }
    }

    /// Ends it, and those that it started.
    pub(super) async fn end(mut self) {
        self.group.signal(Signal::TERM);
        if timeout(TERMINATED, self.child.wait()).await.is_err() {
            tracing::warn!("{} does not end; it is killed", self.kind);
            self.group.kill();
            let _ = self.child.wait().await;
        }
        self.clear().await;
    }

    /// Ends those that it left behind.
    async fn clear(&self) {
        self.group.kill();
        let Some(group) = self.group.forget() else { return };
        let until = Instant::now() + KILLED;
        while test_kill_process_group(group).is_ok() && Instant::now() < until {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.group.kill();
        self.output.abort();
    }
}

/// Logs what a process prints. It is read to its end whatever becomes of it: a pipe that is full stops whoever writes to it.
async fn log(kind: DataServerType, pipe: pipe::Receiver, ready: Ready, said: watch::Sender<Said>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    let (mut period, mut lines) = (Instant::now(), 0_u32);
    while let Ok(1..) = (&mut pipe).take(LINE).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        line.clear();
        if text.is_empty() {
            continue;
        }
        if period.elapsed() > PERIOD {
            if lines > LINES {
                tracing::warn!("{kind} printed {} more lines", lines - LINES);
            }
            (period, lines) = (Instant::now(), 0);
        }
        lines = lines.saturating_add(1);
        if lines <= LINES {
            tracing::debug!("{kind}: {text}");
        }
        said.send_modify(|said| {
            said.ready |= matches!(ready, Ready::Says(word) if text.contains(word));
            if COMPLAINTS.iter().any(|mark| text.contains(mark)) {
                said.last_complaint.clone_from(&text);
            }
            said.last_line = text;
        });
    }
}
