//! The way out to one worker: never blocks who hands over a frame.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rustix::net::SendFlags;

use super::channel::Channel;
use super::frames::Packet;
use super::wire::SendQueue;
use crate::sync::{lock, wait};

/// Most bytes that are sent by the thread that hands them over. More would keep it from its own business (it may be
/// the one that reads another worker's outcomes), and costs a copy beside which waking the writer thread is cheap.
const INLINE: usize = 256 << 10;

/// Frames on their way to one worker.
///
/// Whoever finds the line free sends what there is, without waiting. What the socket does not take at once, and bulk
/// data, goes to a writer thread, which waits.
pub(crate) struct Outbox {
    socket: Arc<Channel>,
    state: Mutex<State>,
    stalled: Condvar,
}

struct State {
    incoming: VecDeque<Packet>,
    line: Line,
}

/// The right to send. The queue goes with it, so nobody else can have it.
enum Line {
    Free(SendQueue),
    /// Some thread sends, and looks for incoming frames before it frees the line.
    Taken,
    /// For the writer thread.
    Stalled(SendQueue),
    Closed,
}

impl Outbox {
    pub(crate) fn new(socket: Arc<Channel>) -> Self {
        Self {
            socket,
            state: Mutex::new(State { incoming: VecDeque::new(), line: Line::Free(SendQueue::default()) }),
            stalled: Condvar::new(),
        }
    }

    /// Queues a frame. `true` obliges the caller to [`flush`](Self::flush); otherwise some thread is about to.
    #[must_use]
    pub(crate) fn push(&self, frame: impl Into<Packet>) -> bool {
        let mut state = lock(&self.state);
        match state.line {
            Line::Closed => false,
            Line::Free(_) => {
                state.incoming.push_back(frame.into());
                state.incoming.len() == 1
            }
            Line::Taken | Line::Stalled(_) => {
                state.incoming.push_back(frame.into());
                false
            }
        }
    }

    /// Sends what is queued, as far as that goes without waiting.
    pub(crate) fn flush(&self) {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut state.line, Line::Taken) {
            Line::Free(queue) => self.drain(state, queue, SendFlags::DONTWAIT),
            other => state.line = other,
        }
    }

    /// The writer thread: takes over where the socket was full, until the outbox is closed.
    pub(crate) fn write_stalled(&self) {
        let mut state = lock(&self.state);
        loop {
            match std::mem::replace(&mut state.line, Line::Taken) {
                Line::Stalled(queue) => {
                    self.drain(state, queue, SendFlags::empty());
                    state = lock(&self.state);
                }
                Line::Closed => {
                    state.line = Line::Closed;
                    return;
                }
                other => {
                    state.line = other;
                    state = wait(&self.stalled, state);
                }
            }
        }
    }

    /// Drops what has not left, and what comes.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.line = Line::Closed;
        state.incoming.clear();
        self.stalled.notify_one();
    }

    /// Sends with the line taken, until nothing is left, or to where the next thread has to go on.
    fn drain<'a>(&'a self, mut state: MutexGuard<'a, State>, mut queue: SendQueue, flags: SendFlags) {
        let inline = flags.contains(SendFlags::DONTWAIT);
        let line = loop {
            queue.append(&mut state.incoming);
            if queue.is_empty() {
                break Line::Free(queue);
            }
            if inline && queue.exceeds(INLINE) {
                break Line::Stalled(queue);
            }
            drop(state);
            let sent = queue.send(&self.socket, flags);
            state = lock(&self.state);
            if matches!(state.line, Line::Closed) {
                return;
            }
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    break Line::Stalled(queue);
                }
                // The worker is gone; who reads from it finds out, and what became of it.
                Err(_) => break Line::Closed,
            }
        };
        match line {
            Line::Free(_) => {}
            Line::Closed => state.incoming.clear(),
            Line::Taken | Line::Stalled(_) => self.stalled.notify_one(),
        }
        state.line = line;
    }
}
