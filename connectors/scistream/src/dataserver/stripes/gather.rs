//! Connections that wait for the others of their stream.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::TcpStream as Unwatched;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::preamble::Preamble;
use crate::relay::ResetOnDrop;

/// Streams of a session of which not all connections are there.
const MOST: usize = 256;

/// A lane's stream.
type Stream = (usize, [u8; 16]);

/// Those streams.
#[derive(Debug, Default)]
pub(super) struct Gathering(Mutex<HashMap<Stream, Group>>);

#[derive(Debug)]
struct Group {
    count: u8,
    /// A bit for each.
    seen: u32,
    /// To whoever came first, and carries the stream.
    others: mpsc::Sender<Unwatched>,
}

/// Takes a stream out, whatever becomes of it.
struct Leave<'a>(&'a Gathering, Stream);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.groups().remove(&self.1);
    }
}

impl Gathering {
    fn groups(&self) -> MutexGuard<'_, HashMap<Stream, Group>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All connections of a stream, for the first of them; `None`: another one has this one now.
    ///
    /// # Errors
    /// It does not fit to the others, not all of them came in time, or too many wait.
    pub(super) async fn join(
        &self,
        lane: usize,
        preamble: Preamble,
        connection: ResetOnDrop,
        until: Instant,
    ) -> io::Result<Option<Vec<ResetOnDrop>>> {
        let Preamble { stream, index, count } = preamble;
        let (others, mut coming) = mpsc::channel(count.into());
        let bit = 1_u32 << index;
        let first = {
            let mut groups = self.groups();
            let room = groups.len() < MOST;
            match groups.entry((lane, stream)) {
                Entry::Vacant(entry) if room => {
                    entry.insert(Group { count, seen: bit, others });
                    None
                }
                Entry::Vacant(_) => return Err(io::Error::other("too many streams wait for all of their connections")),
                Entry::Occupied(mut entry) => {
                    let group = entry.get_mut();
                    if group.count != count || group.seen & bit != 0 {
                        return Err(io::Error::other("a stripe that its stream has already, or does not have"));
                    }
                    group.seen |= bit;
                    Some(group.others.clone())
                }
            }
        };
        if let Some(first) = first {
            // Fails only where whoever came first has given up, and then it is dropped with all others.
            let _ = first.try_send(connection.into_inner().into_std()?);
            return Ok(None);
        }
        let _leave = Leave(self, (lane, stream));
        let mut all = vec![connection];
        while all.len() < count.into() {
            match timeout_at(until, coming.recv()).await {
                Ok(Some(other)) => all.push(ResetOnDrop::new(TcpStream::from_std(other)?)),
                Ok(None) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(_) => {
                    let message = format!("{} of a stream's {count} connections came in time", all.len());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                }
            }
        }
        Ok(Some(all))
    }
}
