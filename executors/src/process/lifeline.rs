//! How a worker learns that its executor wants it to end, or is gone.
//!
//! Both show at the worker's socket at once, while the main thread runs a task and frames are still unread: an executor
//! that wants the end closes its sending side; one that is gone, killed or crashed, has closed both.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::Duration;
use std::{io, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::worker::Outcomes;
use crate::Work;
use crate::sync::{lock, wait};

/// Given to [`Work::abandoned`] before the process exits all the same.
const ABANDONED: Duration = Duration::from_secs(2);
/// Exit code of a worker without an executor; nobody is left to see it.
const EXIT_CODE: i32 = 1;

/// Watches over one worker.
#[derive(Default)]
pub(super) struct Lifeline {
    ending: AtomicBool,
    /// `ending`, for those who wait for it.
    asked: Mutex<bool>,
    changed: Condvar,
    work: OnceLock<Arc<dyn Work>>,
}

impl Lifeline {
    /// Starts to watch. As soon as the executor is gone, the process exits.
    pub(super) fn watch(socket: Arc<UnixStream>, outcomes: Arc<Outcomes>) -> io::Result<Arc<Self>> {
        let lifeline = Arc::new(Self::default());
        let watcher = Arc::clone(&lifeline);
        thread::Builder::new().name("psbench-lifeline".to_owned()).spawn(move || {
            if await_end(&socket, PollFlags::RDHUP) == End::Asked {
                watcher.ask(&outcomes);
                // Being asked, it may still be left alone; that shows without being asked for.
                await_end(&socket, PollFlags::empty());
            }
            watcher.abandon();
        })?;
        Ok(lifeline)
    }

    /// Names the work to tell when the executor is gone.
    pub(super) fn protect(&self, work: &Arc<dyn Work>) {
        // Called once.
        let _ = self.work.set(Arc::clone(work));
    }

    /// Whether the executor wants this worker to end.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Called at the end of the stream: returns once it is known to be one that the executor asked for. If it is not,
    /// the process exits meanwhile.
    pub(super) fn await_ending(&self) {
        let mut asked = lock(&self.asked);
        while !*asked {
            asked = wait(&self.changed, asked);
        }
    }

    fn ask(&self, outcomes: &Outcomes) {
        self.ending.store(true, Ordering::Relaxed);
        *lock(&self.asked) = true;
        self.changed.notify_all();
        // The main thread may be in a long task. If that outlasts the executor's grace, earlier outcomes must not be
        // lost with it.
        outcomes.flush();
    }

    /// Exits, since a task that sleeps or computes can't be ended in any other way.
    fn abandon(&self) -> ! {
        if let Some(work) = self.work.get().cloned() {
            let (running, ended) = mpsc::channel::<()>();
            let call = thread::Builder::new().spawn(move || {
                work.abandoned();
                drop(running);
            });
            if call.is_ok() {
                // Nothing is sent: it is the end of the sender, by return or panic, that is waited for.
                let _ = ended.recv_timeout(ABANDONED);
            }
        }
        exit(EXIT_CODE)
    }
}

#[derive(PartialEq, Eq)]
enum End {
    Asked,
    Gone,
}

fn await_end(socket: &UnixStream, interest: PollFlags) -> End {
    loop {
        let mut poll_fd = [PollFd::from_borrowed_fd(socket.as_fd(), interest)];
        match poll(&mut poll_fd, None) {
            Ok(_) if poll_fd[0].revents().contains(PollFlags::HUP) => return End::Gone,
            Ok(_) if poll_fd[0].revents().contains(PollFlags::RDHUP) => return End::Asked,
            // An error on the socket.
            Ok(1..) => return End::Gone,
            Ok(0) | Err(Errno::INTR) => {}
            // A poll that fails for good can't tell when the executor is gone: better to end too early than never.
            Err(_) => return End::Gone,
        }
    }
}
