//! Both ways of one connection, in one task on one thread.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use futures_util::future::select_all;
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::Path;
use super::activity::Activity;
use super::end::broken;

/// What one way moves before the other one, and other connections of the thread, have their turn, in bytes.
pub(crate) const TURN: usize = 1 << 20;

/// One way of a connection.
pub(crate) trait Flow {
    /// Moves what can be moved at once, up to about a [`TURN`]. Pending: nothing could be, and the task is woken once something can.
    ///
    /// # Errors
    /// The stream can't become whole at its receiver.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>>;
}

impl<F: Flow + ?Sized> Flow for Box<F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        (**self).poll(context)
    }
}

/// How far a way got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It moved something, and wants another turn.
    Moved,
    /// The stream is whole, and its receiver knows.
    Done,
}

/// Carries a connection until both streams are whole at their receivers.
///
/// # Errors
/// Either side was reset, or nothing moved for too long.
pub(crate) async fn pump(
    path: &Path,
    activity: &Activity,
    [client, target]: [&TcpStream; 2],
    [there, back]: [impl Flow; 2],
) -> io::Result<()> {
    tokio::select! {
        biased;
        result = both(there, back) => result,
        error = broken(client) => Err(error),
        error = broken(target) => Err(error),
        error = activity.idle(path.options.idle_timeout) => Err(error),
    }
}

/// As [`pump`], for streams that go over several connections.
///
/// # Errors
/// One of them was reset, or nothing moved for too long.
pub(crate) async fn pump_all(
    path: &Path,
    activity: &Activity,
    connections: &[&TcpStream],
    there: impl Flow,
    back: impl Flow,
) -> io::Result<()> {
    let broken = connections.iter().map(|connection| Box::pin(broken(connection)));
    tokio::select! {
        biased;
        result = both(there, back) => result,
        (error, ..) = select_all(broken) => Err(error),
        error = activity.idle(path.options.idle_timeout) => Err(error),
    }
}

async fn both(mut there: impl Flow, mut back: impl Flow) -> io::Result<()> {
    loop {
        let done = poll_fn(|context| {
            let there = there.poll(context)?;
            let back = back.poll(context)?;
            match (there, back) {
                (Poll::Ready(Progress::Done), Poll::Ready(Progress::Done)) => Poll::Ready(Ok::<_, io::Error>(true)),
                (Poll::Ready(Progress::Moved), _) | (_, Poll::Ready(Progress::Moved)) => Poll::Ready(Ok(false)),
                _ => Poll::Pending,
            }
        });
        if done.await? {
            return Ok(());
        }
        // Looks at the sockets once more before the thread sleeps: while one packet is forwarded the next one comes, and a sender that
        // has nobody to wake is faster.
        yield_now().await;
    }
}
