//! Processes that outlive this one, known by more than their number.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Between two looks at a process.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// How long a process that was killed may take to go.
const KILLED: Duration = Duration::from_secs(10);

/// One process. The system gives its number to another one some time after its end, but not with the same start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    /// Its number.
    pub(super) pid: u32,
    /// When it started, in clock ticks since the system did: field 22 of proc(5), `/proc/[pid]/stat`.
    pub(super) start_time: u64,
}

impl ProcessId {
    /// The process that has the number now. One that has ended, and only waits for its parent to notice, is none; but one whose first
    /// thread has ended and others not yet still has its ports.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Self::look(pid).map(|(process, _)| process)
    }

    /// As [`of`](Self::of), with whether its first thread has ended: what was killed is so until the last of its threads is gone.
    fn look(pid: u32) -> Option<(Self, bool)> {
        let stat = Process::new(i32::try_from(pid).ok()?).and_then(|process| process.stat()).ok()?;
        let headless = matches!(stat.state, 'Z' | 'X');
        let ended = headless && stat.num_threads <= 1;
        (!ended).then_some((Self { pid, start_time: stat.starttime }, headless))
    }

    /// Where it is ending, waits for that, at most so long.
    pub(super) fn settle(self, patience: Duration) {
        let until = Instant::now() + patience;
        while Self::look(self.pid) == Some((self, true)) && Instant::now() < until {
            thread::sleep(LOOK);
        }
    }

    /// Whether it has not ended.
    pub(super) fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Asks it to end, and kills it where it has not within `patience`. `false` where it is there even then.
    pub(super) fn stop(self, patience: Duration) -> io::Result<bool> {
        // SIGCONT, since a process that is stopped does not see that it should end.
        self.signal(Signal::TERM)?;
        self.signal(Signal::CONT)?;
        if self.ends_within(patience) {
            return Ok(true);
        }
        self.signal(Signal::KILL)?;
        Ok(self.ends_within(KILLED))
    }

    /// Signals this process and no other, whatever has its number by now.
    fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The descriptor stays that of the process that was looked at, even when it ends and its number goes to another.
        if !self.runs() {
            return Ok(());
        }
        match pidfd_send_signal(process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn ends_within(self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.runs() {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }
}

/// Starts a process that goes on without this one: neither signals of this terminal nor its end reach it. What it says goes to `log`,
/// made anew. `None` where it has ended at once.
pub(super) fn start_daemon(command: &mut Command, log: &Path) -> io::Result<Option<ProcessId>> {
    let child = detached(command, log)?.spawn()?;
    Ok(ProcessId::of(child.id()))
}

/// Runs a command to its end, which is early when `interrupted` is set: `None`.
pub(super) fn run(command: &mut Command, log: &Path, interrupted: &AtomicBool) -> io::Result<Option<ExitStatus>> {
    let mut child = detached(command, log)?.spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if interrupted.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// In a process group of its own, so that Ctrl-C is this process's to act on.
fn detached<'a>(command: &'a mut Command, log: &Path) -> io::Result<&'a mut Command> {
    let log = File::create(log)?;
    Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let this = ProcessId::of(std::process::id()).unwrap();
        assert!(this.runs());
        let earlier = ProcessId { start_time: this.start_time - 1, ..this };
        assert!(!earlier.runs());
        // Would end the test.
        assert!(earlier.stop(Duration::ZERO).unwrap());
    }

    #[test]
    fn what_is_ending_is_waited_for_and_what_goes_on_is_not() {
        let directory = tempfile::tempdir().unwrap();
        // Its first thread ends, the other goes on until it may end, as when a process with much memory is killed.
        let program = "import ctypes, os, sys, threading, time\n\
                       def other():\n    while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n\
                       threading.Thread(target=other).start()\n\
                       ctypes.CDLL(None).pthread_exit(None)";
        let may_end = directory.path().join("may-end");
        let mut headless = Command::new("python3");
        headless.args(["-c", program]).arg(&may_end);
        let process = start_daemon(&mut headless, &directory.path().join("log.txt")).unwrap().unwrap();
        while ProcessId::look(process.pid) == Some((process, false)) {
            thread::sleep(LOOK);
        }
        assert!(process.runs());
        thread::scope(|scope| {
            scope.spawn(|| process.settle(Duration::from_secs(300)));
            std::fs::write(may_end, "").unwrap();
        });
        assert!(!process.runs());

        // Or it would hang.
        let this = ProcessId::of(std::process::id()).unwrap();
        this.settle(Duration::from_secs(3600));
    }

    #[test]
    fn what_ignores_sigterm_is_killed_even_when_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log.txt");
        let mut stubborn = Command::new("sh");
        stubborn.args(["-c", "trap '' TERM; echo ready; kill -STOP $$; while :; do sleep 0.1; done"]);
        let process = start_daemon(&mut stubborn, &log).unwrap().unwrap();
        while !std::fs::read_to_string(&log).unwrap().contains("ready") {
            thread::sleep(LOOK);
        }
        assert!(process.runs());
        assert!(process.stop(Duration::from_millis(200)).unwrap());
        assert!(!process.runs());
    }

    #[test]
    fn an_interrupt_ends_what_runs() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let ended = run(Command::new("sleep").arg("60"), log.path(), &AtomicBool::new(true)).unwrap();
        assert_eq!(ended, None);
    }
}
