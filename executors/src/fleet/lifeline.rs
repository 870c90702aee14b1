//! How a worker learns that its executor wants it to end, or is gone.
//!
//! Both show at the worker's socket at once, while the main thread runs a task and frames are still unread: an executor
//! that wants the end closes its sending side; one that is gone, killed or crashed, has closed both. Over a network the second looks like
//! the first until something is sent.

use std::os::fd::AsFd;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::Duration;
use std::{io, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::channel::Channel;
use super::frames::Frame;
use super::worker::Outcomes;
use crate::Work;
use crate::sync::{lock, wait};

/// Given to [`Work::abandoned`] before the process exits all the same.
const ABANDONED: Duration = Duration::from_secs(2);
/// How often an executor on the network hears of its worker.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// The same once the worker was asked to end.
const LAST_BEATS: Duration = Duration::from_millis(200);
/// Exit code of a worker without an executor; nobody is left to see it.
const EXIT_CODE: i32 = 1;

/// Watches over one worker.
#[derive(Default)]
pub(crate) struct Lifeline {
    ending: AtomicBool,
    beating: AtomicBool,
    served: AtomicBool,
    /// `ending`, for those who wait for it.
    asked: Mutex<bool>,
    changed: Condvar,
    work: OnceLock<Arc<dyn Work>>,
}

impl Lifeline {
    /// Starts to watch. As soon as the executor is gone, the process exits.
    pub(super) fn watch(channel: Arc<Channel>, reach: Reach, outcomes: Arc<Outcomes>) -> io::Result<Arc<Self>> {
        let lifeline = Arc::new(Self::default());
        let watcher = Arc::clone(&lifeline);
        thread::Builder::new().name("psbench-lifeline".to_owned()).spawn(move || {
            if watcher.await_end(&channel, PollFlags::RDHUP, reach.beat(BEAT, &outcomes)) == End::Asked
                && watcher.is_meant(&channel, reach, &outcomes)
            {
                watcher.ask(&outcomes);
                // Being asked, it may still be left alone; that shows without being asked for.
                watcher.await_end(&channel, PollFlags::empty(), reach.beat(LAST_BEATS, &outcomes));
            }
            if !watcher.served.load(Ordering::Relaxed) {
                watcher.abandon();
            }
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

    /// The worker has told all that it has to tell: whatever becomes of the executor now, it ends by itself.
    pub(super) fn rest(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// From now on the executor is told that this worker is there, where it can't see that.
    pub(super) fn begin_to_beat(&self) {
        self.beating.store(true, Ordering::Relaxed);
    }

    /// Whether an end of the stream means that this worker is to end, rather than that the executor is gone.
    fn is_meant(&self, channel: &Channel, reach: Reach, outcomes: &Outcomes) -> bool {
        let Reach::Network { patience } = reach else {
            return true;
        };
        outcomes.push(Frame::Alive);
        outcomes.flush();
        let patience = Timespec::try_from(patience).ok();
        let mut poll_fd = [PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::empty())];
        matches!(poll(&mut poll_fd, patience.as_ref()), Ok(0) | Err(Errno::INTR))
    }

    fn await_end(&self, channel: &Channel, interest: PollFlags, beat: Option<(Duration, &Outcomes)>) -> End {
        let pause = beat.and_then(|(every, _)| Timespec::try_from(every).ok());
        loop {
            let mut poll_fd = [PollFd::from_borrowed_fd(channel.as_fd(), interest)];
            match poll(&mut poll_fd, pause.as_ref()) {
                Ok(0) => {
                    if let Some((_, outcomes)) = beat.filter(|_| self.beating.load(Ordering::Relaxed)) {
                        outcomes.push(Frame::Alive);
                        outcomes.flush();
                    }
                }
                Ok(_) if poll_fd[0].revents().contains(PollFlags::HUP) => return End::Gone,
                Ok(_) if poll_fd[0].revents().contains(PollFlags::RDHUP) => return End::Asked,
                // An error on the socket.
                Ok(1..) => return End::Gone,
                Err(Errno::INTR) => {}
                // A poll that fails for good can't tell when the executor is gone: better to end too early than never.
                Err(_) => return End::Gone,
            }
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

/// How far away the executor may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// In another process of this host.
    Host,
    /// On another host. Its end looks like the wish that this worker end; but then it refuses what it is sent, within `patience`.
    Network { patience: Duration },
}

impl Reach {
    /// How often to tell the executor that this worker is there.
    fn beat(self, every: Duration, outcomes: &Outcomes) -> Option<(Duration, &Outcomes)> {
        (self != Self::Host).then_some((every, outcomes))
    }
}

#[derive(PartialEq, Eq)]
enum End {
    Asked,
    Gone,
}
