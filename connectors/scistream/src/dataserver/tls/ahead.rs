//! Connections to the other gateway that are made ahead of time, their handshakes done.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream as Unwatched;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::go::FRESH;
use super::handshake::Session;

/// How often it is looked whether they are still there.
const LOOK: Duration = Duration::from_secs(5);

/// A connection that nobody uses yet. No thread watches it, since it is not known which will carry it.
#[derive(Debug)]
struct Idle {
    stream: Unwatched,
    session: Session,
    since: Instant,
}

impl Idle {
    /// Until somebody is there the other gateway says nothing: whatever can be read is the connection's end.
    fn is_good(&self) -> bool {
        let quiet = matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        quiet && self.since.elapsed() < FRESH
    }
}

/// Those of one lane.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    idle: Mutex<VecDeque<Idle>>,
    taken: Notify,
}

impl Ahead {
    /// One that is good, on the thread that calls; `None`: there is none.
    pub(crate) fn take(&self) -> Option<(TcpStream, Session)> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            self.taken.notify_one();
            let idle = idle?;
            if idle.is_good()
                && let Ok(stream) = TcpStream::from_std(idle.stream)
            {
                return Some((stream, idle.session));
            }
        }
    }

    /// Waits until there are fewer than so many that are good. Says how many are lacking.
    pub(crate) async fn lacks(&self, many: usize) -> usize {
        loop {
            let have = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.retain(Idle::is_good);
                idle.len()
            };
            if have < many {
                return many - have;
            }
            // Whichever comes first.
            let _ = timeout(LOOK, self.taken.notified()).await;
        }
    }

    /// Holds one for whoever comes.
    ///
    /// # Errors
    /// It can't be taken from the thread that made it.
    pub(crate) fn put(&self, stream: TcpStream, session: Session) -> io::Result<()> {
        let idle = Idle { stream: stream.into_std()?, session, since: Instant::now() };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(idle);
        Ok(())
    }
}
