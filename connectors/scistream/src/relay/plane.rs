//! The threads that move data.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Threads with a runtime each. A connection stays on one of them, so that its two ways share a cache and wake nobody else.
#[derive(Debug)]
pub struct DataPlane {
    threads: Vec<Handle>,
    turn: AtomicUsize,
    /// The threads end with it.
    _end: DropGuard,
}

impl DataPlane {
    /// Starts them: as many as there are cores, unless told otherwise.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub fn new(threads: Option<NonZero<usize>>) -> io::Result<Self> {
        let threads = threads.map_or_else(thread::available_parallelism, Ok)?.get();
        let end = CancellationToken::new();
        // Ends those that were started where another can't be.
        let guard = end.clone().drop_guard();
        let start = |index| {
            let (tell, started) = mpsc::channel();
            let end = end.clone();
            // The runtime is made in the thread, since it must not be dropped within another one, which whoever calls may be in.
            let run = move || match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = tell.send(Ok(runtime.handle().clone()));
                    runtime.block_on(end.cancelled_owned());
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            };
            thread::Builder::new().name(format!("data-{index}")).spawn(run)?;
            started.recv().map_err(io::Error::other)?
        };
        let threads = (0..threads).map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads, turn: AtomicUsize::new(0), _end: guard })
    }

    /// How many tasks there are: those of sessions, and none where there is no session.
    pub fn tasks(&self) -> usize {
        self.threads.iter().map(|thread| thread.metrics().num_alive_tasks()).sum()
    }

    /// The thread whose turn it is.
    pub(crate) fn next(&self) -> &Handle {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.threads[turn % self.threads.len()]
    }
}
