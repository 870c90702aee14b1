//! A runtime for clients that are async, which drives them on a thread of its own.

use std::future::Future;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Drives what is spawned on it until it is dropped; others wait for their requests in [`block_on`](Self::block_on). Where the system has no
/// thread for it, that is an error: tokio's own runtime with threads panics.
#[derive(Debug)]
pub(crate) struct Driver {
    handle: Handle,
    /// Its end is the driver's.
    _ending: oneshot::Sender<()>,
}

impl Driver {
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (ending, ended) = oneshot::channel::<()>();
        let drive = move || {
            // An error: the sender is gone.
            let _ = runtime.block_on(ended);
            // What still looks up a host's name is waited for by nobody.
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name.to_owned()).spawn(drive)?;
        Ok(Self { handle, _ending: ending })
    }

    pub(crate) fn block_on<F: Future>(&self, request: F) -> F::Output {
        self.handle.block_on(request)
    }
}
