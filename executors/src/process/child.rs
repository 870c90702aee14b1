//! One worker process, from its start to its end.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::time::Timespec;

use super::ProcessOptions;
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
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(end) => {
                let child = Mutex::new(Some(child));
                Ok((Self { child, pid, end }, socket, output))
            }
            Err(errno) => {
                // Without its socket it ends by itself, but it must not be left as a zombie.
                let _ = child.kill();
                let _ = child.wait();
                Err(start(errno.into()))
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

    /// Waits `linger` for the process to end, then ends it by force; says how it ended.
    pub(super) fn reap(&self, linger: Duration) -> String {
        if !self.ends_within(linger) {
            self.kill();
            if !self.ends_within(KILLED) {
                return format!("still there {KILLED:?} after SIGKILL");
            }
        }
        match lock(&self.child).take().map(|mut child| child.wait()) {
            Some(Ok(status)) => describe(status),
            Some(Err(error)) => format!("its end is unknown: {error}"),
            None => "ended before".to_owned(),
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

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        // The standard library knows the names of signals: `signal: 9 (SIGKILL)`.
        None => status.to_string().replacen(": ", " ", 1),
    }
}
