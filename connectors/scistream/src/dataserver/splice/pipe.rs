//! Pipes between sockets.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Of a pipe: what `fs.pipe-max-size` allows everybody where nobody changed it.
const LARGEST: usize = 1 << 20;
/// Of one that is kept: what a new one has, unless its user has many already.
const SMALLEST: usize = 64 << 10;
/// Empty pipes that a thread keeps for later.
const KEPT: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    /// In bytes.
    size: usize,
}

/// A pipe, and how many bytes are in it. An empty one goes back to its thread's pool, unless it is a small one.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Until it is dropped.
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty one.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn take() -> io::Result<Self> {
        let ends = match FREE.with_borrow_mut(Vec::pop) {
            Some(ends) => ends,
            None => Ends::new()?,
        };
        Ok(Self { ends: Some(ends), held: 0 })
    }

    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes what a socket has, up to so many bytes, into the empty pipe; 0 is the end of the stream.
    pub(super) fn poll_in(
        &mut self,
        from: &TcpStream,
        context: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(context))?;
            let Some(Ends { write, .. }) = &self.ends else { return Poll::Ready(Ok(0)) };
            let moved = once(from, Interest::READABLE, || splice(from, None, write, None, most.min(LARGEST), FLAGS));
            if let Some(moved) = moved {
                self.held += *moved.as_ref().unwrap_or(&0);
                return Poll::Ready(moved);
            }
        }
    }

    /// Sends what is in it, as far as the socket takes it.
    pub(super) fn poll_out(&mut self, to: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(to.poll_write_ready(context))?;
            let Some(Ends { read, .. }) = &self.ends else { return Poll::Ready(Ok(0)) };
            let moved = once(to, Interest::WRITABLE, || splice(read, None, to, None, self.held, FLAGS));
            if let Some(moved) = moved {
                self.held -= *moved.as_ref().unwrap_or(&0);
                return Poll::Ready(moved);
            }
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// `None`: it would have blocked.
fn once(
    socket: &TcpStream,
    interest: Interest,
    call: impl FnOnce() -> Result<usize, Errno>,
) -> Option<io::Result<usize>> {
    match socket.try_io(interest, || Ok(call()?)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        result => Some(result),
    }
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Users other than root may have so much of all pipes together (`fs.pipe-user-pages-soft`). Beyond that new ones have a page or
        // two, and none becomes larger.
        let mut wanted = LARGEST;
        while wanted >= SMALLEST && fcntl_setpipe_size(&write, wanted).is_err() {
            wanted /= 2;
        }
        let size = fcntl_getpipe_size(&write)?;
        Ok(Self { read, write, size })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        if self.held == 0 && ends.size >= SMALLEST {
            FREE.with_borrow_mut(|free| {
                if free.len() < KEPT {
                    free.push(ends);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pipes_are_not_kept() {
        for (size, kept) in [(4 << 10, 0), (SMALLEST, 1)] {
            let mut pipe = Pipe::take().unwrap();
            pipe.ends.as_mut().unwrap().size = size;
            drop(pipe);
            assert_eq!(FREE.with_borrow(Vec::len), kept);
        }
    }
}
