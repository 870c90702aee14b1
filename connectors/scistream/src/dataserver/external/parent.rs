//! Starts programs so that they end when this process is killed.
//!
//! The kernel tells a child of its parent's death when the *thread* that started it ends (`PR_SET_PDEATHSIG`, prctl(2)). A thread of a
//! runtime ends with its runtime, some of them when they rest. So each program is started by a thread of its own, which lives as long
//! as it does, and is in the network namespace of whoever asked for it.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc;
use std::thread;

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The thread that started a program. To be dropped after the program has ended.
#[derive(Debug)]
pub(super) struct Parent {
    /// Nothing is ever said: that it is gone ends the thread.
    _alive: mpsc::Sender<Infallible>,
}

/// Starts a program that is told to end (`SIGTERM`) when this process ends, however that happens. Has to be called in a runtime.
///
/// # Errors
/// It can't be started, or the thread for it can't.
pub(super) async fn spawn(mut command: Command) -> io::Result<(Child, Parent)> {
    // SAFETY: between fork and exec this makes one system call, and neither allocates nor takes a lock.
    #[expect(unsafe_code, reason = "only a child itself can ask for its parent's death to be told")]
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    let (started, child) = oneshot::channel();
    let (alive, end) = mpsc::channel();
    let runtime = Handle::current();
    thread::Builder::new().name("program".into()).spawn(move || {
        {
            let _entered = runtime.enter();
            // Where nobody waits any more, the child is killed as it is dropped.
            let _ = started.send(command.spawn());
        }
        let _ = end.recv();
    })?;
    let child = child.await.unwrap_or_else(|_| Err(io::Error::other("the thread that was to start it is gone")))?;
    Ok((child, Parent { _alive: alive }))
}
