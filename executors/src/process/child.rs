//! One worker process, from its start to its end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, prlimit};
use rustix::time::Timespec;

use super::WorkerStderr;
use super::memory::{Evidence, out_of_memory_killings};
use super::output::{Log, Outlet, Output};
use crate::fleet::member::{End, WorkerProcess};
use crate::sync::lock;
use crate::{ExecutorError, WorkerInfo};

/// Room in the socket: 10 MB payloads move at three times the rate they have with the kernel's default of 208 KiB,
/// and no faster with more.
const SEND_BUFFER: usize = 1 << 20;
/// Given to a process to be gone after SIGKILL; only one stuck in the kernel takes as long.
const KILLED: Duration = Duration::from_secs(5);

/// A child process in a process group of its own, so that a terminal's Ctrl-C, which its parent handles, does not hit
/// it.
pub(crate) struct Process {
    /// `None` once its end was collected: its pid may then be somebody else's.
    child: Mutex<Option<Child>>,
    pid: Pid,
    /// Readable once the process has ended.
    end: OwnedFd,
    memory_limit: Option<u64>,
    /// Its resident memory when it was last looked at, in bytes; 0 before.
    memory: AtomicU64,
    /// Processes that were ended for want of memory before it began.
    killings: Option<u64>,
    /// What it prints, until that is logged.
    output: Mutex<Option<Output>>,
    log: Mutex<Option<Log>>,
}

/// What to start.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Added to this process's environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) stderr: WorkerStderr,
    /// Most address space, bytes.
    pub(crate) memory_limit: Option<u64>,
    /// For errors: for example `worker program`.
    pub(crate) what: &'static str,
}

impl Process {
    /// Starts a program with one end of a socket pair as its standard input; returns the other end. No address can be
    /// connected to, so neither side needs to prove who it is.
    pub(crate) fn spawn(program: &Program) -> Result<(Self, UnixStream), ExecutorError> {
        let start =
            |source| ExecutorError::Start { what: format!("{} {}", program.what, program.path.display()), source };
        let (socket, worker) = UnixStream::pair().map_err(start)?;
        // Less room is slower, not wrong.
        let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER);
        let _ = set_socket_send_buffer_size(&worker, SEND_BUFFER);
        let Outlet { stdout, stderr, output } = Outlet::open(program.stderr).map_err(start)?;
        let mut child = Command::new(&program.path)
            .args(&program.args)
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .stdin(OwnedFd::from(worker))
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(start)?;
        let pid = Pid::from_child(&child);
        let prepared = limit_memory(pid, program.memory_limit)
            .and_then(|()| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from));
        match prepared {
            Ok(end) => {
                let process = Self {
                    child: Mutex::new(Some(child)),
                    pid,
                    end,
                    memory_limit: program.memory_limit,
                    memory: AtomicU64::new(0),
                    killings: out_of_memory_killings(),
                    output: Mutex::new(Some(output)),
                    log: Mutex::new(None),
                };
                Ok((process, socket))
            }
            Err(error) => {
                // Without its socket it ends by itself, but it must not be left as a zombie.
                let _ = child.kill();
                let _ = child.wait();
                Err(start(error))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Starts to log what it prints.
    pub(crate) fn log_as(&self, label: &str) -> io::Result<()> {
        if let Some(output) = lock(&self.output).take() {
            *lock(&self.log) = Some(output.log(label.to_owned())?);
        }
        Ok(())
    }

    /// The last line that it printed, as far as that is logged. After [`reap`](Self::reap), so that all of it has come.
    pub(crate) fn last_words(&self) -> Option<String> {
        lock(&self.log).as_ref().and_then(Log::last_line)
    }

    /// Asks the process, and those it started, to end.
    pub(crate) fn terminate(&self) {
        if lock(&self.child).is_some() {
            let _ = kill_process_group(self.pid, Signal::TERM);
        }
    }

    /// Ends the process, and those it started, by force.
    pub(crate) fn kill(&self) {
        if lock(&self.child).is_some() {
            // An error means that they have ended already.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Looks at the process: tells whether it is stopped, as by SIGSTOP, and remembers the memory that it uses.
    fn is_stopped(&self) -> bool {
        let Ok(status) = fs::read_to_string(format!("/proc/{}/status", self.pid())) else {
            return false;
        };
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        // A process that has ended has no memory; what it had before is of interest then.
        if let Some(memory) = field("VmRSS:")
            && let Some(Ok(kib)) = memory.strip_suffix(" kB").map(str::parse::<u64>)
        {
            self.memory.store(kib << 10, Ordering::Relaxed);
        }
        field("State:").is_some_and(|state| state.starts_with('T'))
    }

    /// What is known of its memory, beside what it said itself.
    fn evidence(&self, said_so: Option<bool>) -> Evidence {
        let killings = self.killings.zip(out_of_memory_killings());
        let used = self.memory.load(Ordering::Relaxed);
        Evidence {
            limit: self.memory_limit,
            said_so,
            used: (used > 0).then_some(used),
            killings: killings.map(|(before, now)| now.saturating_sub(before)),
        }
    }

    /// Waits `linger` for the process to end, then ends it by force; says how it ended.
    pub(crate) fn reap(&self, linger: Duration) -> End {
        if !self.ends_within(linger) {
            self.kill();
            if !self.ends_within(KILLED) {
                return End::by_force(format!("still there {KILLED:?} after SIGKILL"));
            }
        }
        let status = match lock(&self.child).take().map(|mut child| child.wait()) {
            Some(Ok(status)) => status,
            Some(Err(error)) => return End::by_force(format!("its end is unknown: {error}")),
            None => return End::by_force("ended before".to_owned()),
        };
        let said_so = lock(&self.log).as_ref().and_then(Log::finish);
        let remark = status.signal().and_then(|signal| self.evidence(said_so).remark(signal));
        let text = [Some(describe(status)), remark].into_iter().flatten().collect::<Vec<_>>().join("; ");
        End { text, success: status.success() }
    }

    /// Whether it has ended, or does so within a time.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        let timeout = Timespec::try_from(time).ok();
        loop {
            match poll(&mut [PollFd::from_borrowed_fd(self.end.as_fd(), PollFlags::IN)], timeout.as_ref()) {
                // Waits anew: signals that interrupt are few.
                Err(rustix::io::Errno::INTR) => {}
                ended => return ended.is_ok_and(|ready| ready > 0),
            }
        }
    }
}

impl WorkerProcess for Process {
    fn place(&self) -> String {
        format!("pid {}", self.pid())
    }

    fn introduce(&self, info: &mut WorkerInfo) {
        info.pid = Some(self.pid());
    }

    fn name(&self, label: &str) -> io::Result<()> {
        self.log_as(label)
    }

    fn ailment(&self) -> Option<&'static str> {
        self.is_stopped().then_some("stopped (SIGSTOP)")
    }

    fn kill(&self) {
        Self::kill(self);
    }

    fn reap(&self, linger: Duration) -> End {
        Self::reap(self, linger)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if lock(&self.child).is_some() {
            self.kill();
            self.reap(KILLED);
        }
    }
}

/// Limits the address space of a process.
fn limit_memory(pid: Pid, limit: Option<u64>) -> io::Result<()> {
    if limit.is_some() {
        prlimit(Some(pid), Resource::As, Rlimit { current: limit, maximum: limit })?;
    }
    Ok(())
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        // The standard library knows the names of signals: `signal: 9 (SIGKILL)`.
        None => status.to_string().replacen(": ", " ", 1),
    }
}
