//! Connections that have not said yet who they are: how many there may be, and how often they are logged.
//!
//! Whoever can reach a listener can connect to it, as often as he likes. He must neither fill the log nor take the places of those who are
//! awaited.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use crate::sync::{lock, wait, wait_timeout};

/// For at least so long whoever connected stays. It takes a few round trips to say who it is, and when many that are awaited come at once
/// none of them has to go.
const GRACE: Duration = Duration::from_millis(250);
/// Between two lines of a kind.
const QUIET: Duration = Duration::from_secs(60);

/// Strangers at a listener. Each has a thread until it has said who it is. When one more comes than there are places for, whoever most of
/// them are from (`K`) loses the one that has been there longest: who fills the places with connections that say nothing sends away his
/// own, and who is known says so at once.
#[derive(Debug)]
pub struct Strangers<K> {
    most: usize,
    waiting: Mutex<Waiting<K>>,
    /// One has left.
    left: Condvar,
}

#[derive(Debug)]
struct Waiting<K> {
    next: u64,
    /// Those who came first in front.
    here: VecDeque<Place<K>>,
    /// Those who are here, and those who were sent away and whose threads have not ended.
    threads: usize,
}

#[derive(Debug)]
struct Place<K> {
    number: u64,
    from: K,
    since: Instant,
    connection: OwnedFd,
}

impl<K: Copy + Eq + Hash> Strangers<K> {
    /// So many at a time.
    pub fn new(most: usize) -> Self {
        let waiting = Waiting { next: 0, here: VecDeque::new(), threads: 0 };
        Self { most, waiting: Mutex::new(waiting), left: Condvar::new() }
    }

    /// One that connected is a stranger until what is returned is dropped. Waits for a place: until somebody is known or has had his time.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn enter(self: &Arc<Self>, connection: impl AsFd, from: K) -> io::Result<Stranger<K>> {
        let connection = connection.as_fd().try_clone_to_owned()?;
        let mut waiting = lock(&self.waiting);
        while waiting.here.len() >= self.most
            && let Some(next) = waiting.next_to_go()
        {
            let left = GRACE.saturating_sub(waiting.here[next].since.elapsed());
            if left.is_zero() {
                waiting.send_one_away();
            } else {
                waiting = wait_timeout(&self.left, waiting, left);
            }
        }
        // Those that were sent away have threads until they have noticed.
        while waiting.threads >= 2 * self.most {
            waiting = wait(&self.left, waiting);
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.threads += 1;
        waiting.here.push_back(Place { number, from, since: Instant::now(), connection });
        Ok(Stranger { strangers: Arc::clone(self), number })
    }

    /// For when threads or descriptors are short.
    pub fn send_one_away(&self) {
        lock(&self.waiting).send_one_away();
    }

    /// At the end.
    pub fn send_all_away(&self) {
        lock(&self.waiting).here.drain(..).for_each(Place::hang_up);
        self.left.notify_all();
    }
}

impl<K: Copy + Eq + Hash> Waiting<K> {
    /// Where it is in the list.
    fn next_to_go(&self) -> Option<usize> {
        let mut places = HashMap::<K, usize>::new();
        for place in &self.here {
            *places.entry(place.from).or_default() += 1;
        }
        let most = places.values().max().copied();
        self.here.iter().position(|place| places.get(&place.from).copied() == most)
    }

    fn send_one_away(&mut self) {
        if let Some(place) = self.next_to_go().and_then(|next| self.here.remove(next)) {
            place.hang_up();
        }
    }
}

impl<K> Place<K> {
    /// Ends what its thread waits for.
    fn hang_up(self) {
        // It may have gone by itself.
        let _ = shutdown(&self.connection, Shutdown::Both);
    }
}

/// One of [`Strangers`].
#[derive(Debug)]
pub struct Stranger<K> {
    strangers: Arc<Strangers<K>>,
    number: u64,
}

impl<K> Stranger<K> {
    /// Whether others came and it had to go.
    pub fn was_sent_away(&self) -> bool {
        !lock(&self.strangers.waiting).here.iter().any(|place| place.number == self.number)
    }
}

impl<K> Drop for Stranger<K> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.strangers.waiting);
        waiting.here.retain(|place| place.number != self.number);
        waiting.threads -= 1;
        self.strangers.left.notify_one();
    }
}

/// Warnings of one kind that anybody can cause: one line a minute, which tells the latest and how many there were.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    last_line: Option<Instant>,
    count: u64,
    latest: String,
}

impl Seldom {
    /// Logs it, or counts it for the next line.
    pub fn warn(&self, warning: impl Into<String>) {
        let mut untold = lock(&self.0);
        untold.count += 1;
        untold.latest = warning.into();
        if untold.last_line.is_none_or(|at| at.elapsed() >= QUIET) {
            untold.tell();
        }
    }

    /// Logs what was only counted so far; dropping does, too.
    pub fn tell_rest(&self) {
        lock(&self.0).tell();
    }
}

impl Drop for Seldom {
    fn drop(&mut self) {
        self.tell_rest();
    }
}

impl Untold {
    fn tell(&mut self) {
        let latest = std::mem::take(&mut self.latest);
        match std::mem::take(&mut self.count) {
            0 => return,
            1 => tracing::warn!("{latest}"),
            count => tracing::warn!("{latest} (the latest of {count} such since the last line)"),
        }
        self.last_line = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::relay::tests::Log;

    #[test]
    fn who_has_most_places_loses_the_oldest() {
        let strangers = Arc::new(Strangers::new(3));
        let (mut ends, mut entered) = (Vec::new(), Vec::new());
        for from in ["a", "b", "b", "b", "a"] {
            let (here, there) = UnixStream::pair().unwrap();
            entered.push(strangers.enter(&here, from).unwrap());
            ends.push((here, there));
        }
        let away: Vec<bool> = entered.iter().map(Stranger::was_sent_away).collect();
        assert_eq!(away, [false, true, true, false, false]);
        assert_eq!(ends[1].1.read(&mut [0]).unwrap(), 0, "its connection has ended");
        strangers.send_all_away();
        assert!(entered.iter().all(Stranger::was_sent_away));
        drop(entered);
        assert_eq!(lock(&strangers.waiting).threads, 0);
    }

    #[test]
    fn who_is_known_is_no_stranger() {
        let strangers = Arc::new(Strangers::new(1));
        let (here, mut there) = UnixStream::pair().unwrap();
        drop(strangers.enter(&here, ()).unwrap());
        let _next = strangers.enter(&UnixStream::pair().unwrap().0, ()).unwrap();
        there.set_nonblocking(true).unwrap();
        assert_eq!(there.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it goes on");
    }

    #[test]
    fn many_warnings_are_two_lines() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let warnings = Seldom::default();
            for caller in 0..25_000 {
                warnings.warn(format!("{caller} called"));
            }
        });
        let lines: Vec<String> = log.0.lock().unwrap().iter().map(|(_, line)| line.clone()).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("0 called") && !lines[0].contains("latest"), "{lines:?}");
        assert!(lines[1].contains("24999 called (the latest of 24999 such since the last line)"), "{lines:?}");
    }
}
