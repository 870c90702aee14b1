//! One worker process, from its start to its end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, prlimit};
use rustix::time::Timespec;

use super::ProcessOptions;
use super::memory::{Evidence, out_of_memory_killings};
use super::output::{Outlet, Output};
use crate::ExecutorError;
use crate::sync::lock;

/// Room in the socket: 10 MB payloads move at three times the rate they have with the kernel's default of 208 KiB,
/// and no faster with more.
const SEND_BUFFER: usize = 1 << 20;
/// Given to a process to be gone after SIGKILL; only one stuck in the kernel takes as long.
const KILLED: Duration = Duration::from_secs(5);

/// A child process in a process group of its own, so that a terminal's Ctrl-C, which its parent handles, does not hit
/// it.
pub(super) struct Process {
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
}

/// How a process ended.
pub(super) struct End {
    /// For people.
    pub(super) text: String,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
    /// Whether it ended by itself and well.
    pub(super) success: bool,
}

impl End {
    /// The end of a process that was killed for this reason, or that is still there for it.
    pub(super) fn by_force(text: String) -> Self {
        Self { text, signal: None, success: false }
    }
}

impl Process {
    /// Starts `options.program` with one end of a socket pair as its standard input; returns the other end. No
    /// address can be connected to, so neither side needs to prove who it is.
    pub(super) fn spawn(options: &ProcessOptions) -> Result<(Self, UnixStream, Output), ExecutorError> {
        let start =
            |source| ExecutorError::Start { what: format!("worker program {}", options.program.display()), source };
        let (socket, worker) = UnixStream::pair().map_err(start)?;
        // Less room is slower, not wrong.
        let _ = set_socket_send_buffer_size(&socket, SEND_BUFFER);
        let _ = set_socket_send_buffer_size(&worker, SEND_BUFFER);
        let Outlet { stdout, stderr, output } = Outlet::open(options.stderr).map_err(start)?;
        let mut child = Command::new(&options.program)
            .args(&options.args)
            .stdin(OwnedFd::from(worker))
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(start)?;
        let pid = Pid::from_child(&child);
        let prepared = limit_memory(pid, options.memory_limit)
            .and_then(|()| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from));
        match prepared {
            Ok(end) => {
                let process = Self {
                    child: Mutex::new(Some(child)),
                    pid,
                    end,
                    memory_limit: options.memory_limit,
                    memory: AtomicU64::new(0),
                    killings: out_of_memory_killings(),
                };
                Ok((process, socket, output))
            }
            Err(error) => {
                // Without its socket it ends by itself, but it must not be left as a zombie.
                let _ = child.kill();
                let _ = child.wait();
                Err(start(error))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends the process, and those it started, by force.
    pub(super) fn kill(&self) {
        if lock(&self.child).is_some() {
            // An error means that they have ended already.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Looks at the process: tells whether it is stopped, as by SIGSTOP, and remembers the memory that it uses.
    pub(super) fn is_stopped(&self) -> bool {
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
    pub(super) fn evidence(&self, said_so: Option<bool>) -> Evidence {
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
    pub(super) fn reap(&self, linger: Duration) -> End {
        if !self.ends_within(linger) {
            self.kill();
            if !self.ends_within(KILLED) {
                return End::by_force(format!("still there {KILLED:?} after SIGKILL"));
            }
        }
        match lock(&self.child).take().map(|mut child| child.wait()) {
            Some(Ok(status)) => End { text: describe(status), signal: status.signal(), success: status.success() },
            Some(Err(error)) => End::by_force(format!("its end is unknown: {error}")),
            None => End::by_force("ended before".to_owned()),
        }
    }

    fn ends_within(&self, time: Duration) -> bool {
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
