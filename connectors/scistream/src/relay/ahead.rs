//! Connections of the WAN leg that are made ahead of time, so that a client's first byte does not wait for a handshake across it.
//!
//! The other gateway can't tell them from those of clients. One that copies connects to its target at once: the target sees connections
//! before anybody is there, may speak first on them (that is kept), and may close them when nobody answers (they are made anew).

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream as Unwatched;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::connect::{attempt, connect};
use super::{Path, Tasks};
use crate::Role;

/// How old one may become: gateways of the reference end connections that are idle for 50 s, middleboxes later.
const OLDEST: Duration = Duration::from_secs(40);
/// How often it is looked whether they are still there.
const LOOK: Duration = Duration::from_secs(5);
/// Where none can be made, or none lives long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Those of one lane.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    idle: Mutex<VecDeque<Idle>>,
    taken: Notify,
}

/// A connection that nobody uses yet. No thread watches it, since it is not known which will carry it.
#[derive(Debug)]
struct Idle {
    connection: Unwatched,
    since: Instant,
}

/// What is lacking.
struct Lack {
    many: usize,
    /// Some that were not old did not last.
    died: bool,
}

impl Idle {
    fn is_old(&self) -> bool {
        self.since.elapsed() >= OLDEST
    }

    /// Whether both streams are open. What the other side says already, which is its right, is left for whoever comes; if it ended
    /// its stream with that, whatever it said is an answer of then, not of now.
    fn is_open(&self) -> bool {
        let ends = PollFlags::ERR | PollFlags::HUP | PollFlags::RDHUP;
        let mut asked = [PollFd::new(&self.connection, PollFlags::RDHUP)];
        poll(&mut asked, Some(&Timespec::default())).is_ok() && !asked[0].revents().intersects(ends)
    }
}

impl Ahead {
    /// One that is good, on the thread that calls; `None`: there is none.
    fn take(&self) -> Option<TcpStream> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            self.taken.notify_one();
            let idle = idle?;
            if !idle.is_old()
                && idle.is_open()
                && let Ok(connection) = TcpStream::from_std(idle.connection)
            {
                return Some(connection);
            }
        }
    }

    /// Waits until there are fewer than so many that are good.
    async fn lacks(&self, many: usize) -> Lack {
        loop {
            let lack = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.retain(|idle| !idle.is_old());
                let before = idle.len();
                idle.retain(Idle::is_open);
                Lack { many: many.saturating_sub(idle.len()), died: idle.len() < before }
            };
            if lack.many > 0 {
                return lack;
            }
            // Whichever comes first.
            let _ = timeout(LOOK, self.taken.notified()).await;
        }
    }

    fn put(&self, connection: TcpStream) -> io::Result<()> {
        let idle = Idle { connection: connection.into_std()?, since: Instant::now() };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(idle);
        Ok(())
    }
}

/// Keeps as many connections ready as the path's options ask for, at the side that connects across the WAN. [`reach`] takes them.
pub(crate) fn keep(tasks: &Tasks, path: &Arc<Path>) {
    let many = path.options.preconnect;
    if many == 0 || path.role == Role::Producer {
        return;
    }
    for lane in 0..path.targets.len() {
        let path = Arc::clone(path);
        tasks.spawn(async move { refill(&path, lane, many).await });
    }
}

async fn refill(path: &Path, lane: usize, many: usize) {
    let (ahead, target) = (&path.ahead[lane], &path.targets[lane]);
    let mut pause = FIRST_PAUSE;
    loop {
        let lack = ahead.lacks(many).await;
        let until = Instant::now() + path.options.connect_timeout;
        let made = join_all((0..lack.many).map(|_| attempt(path, target, until))).await;
        let mut failed = None;
        for made in made {
            if let Err(error) = made.and_then(|connection| ahead.put(connection)) {
                failed = Some(error);
            }
        }
        if let Some(error) = &failed {
            tracing::debug!("target {target}, ahead of time: {error}");
        }
        if lack.died || failed.is_some() {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        } else {
            pause = FIRST_PAUSE;
        }
    }
}

/// A connection to a lane's target, tuned: one that was made ahead of time, or a new one.
///
/// # Errors
/// As those of [`connect`].
pub(crate) async fn reach(path: &Path, lane: usize) -> io::Result<TcpStream> {
    match path.ahead[lane].take() {
        Some(connection) => Ok(connection),
        None => connect(path, &path.targets[lane]).await,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const BOUND: Duration = Duration::from_secs(60);

    async fn connected() -> (TcpStream, Unwatched) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (connection, listener.accept().unwrap().0)
    }

    #[tokio::test]
    async fn connections_that_ended_are_not_handed_out_and_early_data_is_kept() {
        let ahead = Ahead::default();
        let (ended, peer) = connected().await;
        ahead.put(ended).unwrap();
        drop(peer);
        // An answer of an earlier time.
        let (answered, mut peer) = connected().await;
        ahead.put(answered).unwrap();
        peer.write_all(b"old").unwrap();
        drop(peer);
        let (open, mut peer) = connected().await;
        ahead.put(open).unwrap();
        peer.write_all(b"hello").unwrap();
        let mut taken = ahead.take().expect("one is open").into_std().unwrap();
        taken.set_nonblocking(false).unwrap();
        let mut greeting = [0; 5];
        taken.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hello");
        assert!(ahead.take().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn old_connections_are_replaced() {
        let ahead = Ahead::default();
        let (one, _peer) = connected().await;
        ahead.put(one).unwrap();
        let lack = timeout(OLDEST + 2 * LOOK, ahead.lacks(1)).await.expect("it became old");
        assert_eq!((lack.many, lack.died), (1, false));
    }

    #[tokio::test]
    async fn what_was_taken_or_died_is_lacking() {
        let ahead = Ahead::default();
        let (one, _peer) = connected().await;
        let (other, peer) = connected().await;
        ahead.put(one).unwrap();
        ahead.put(other).unwrap();
        drop(ahead.take());
        let lack = timeout(BOUND, ahead.lacks(2)).await.unwrap();
        assert_eq!((lack.many, lack.died), (1, false));
        drop(peer);
        let lack = timeout(BOUND, ahead.lacks(1)).await.unwrap();
        assert_eq!((lack.many, lack.died), (1, true));
    }
}
