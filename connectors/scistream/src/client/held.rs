//! Paths for programs that wait: no part of them has to be async.

use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use tonic::Code;
use uuid::Uuid;

use super::{ClientError, ConnectRequest, ConnectedPath, Gateways, Way};
use crate::dataserver::Target;

/// Before a control server that was not there is asked once more to give back its half; it may be starting again.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];

/// The paths of this process, for when it is about to exit.
static HELD: Mutex<Vec<(Uuid, Gateways)>> = Mutex::new(Vec::new());

fn all_held() -> MutexGuard<'static, Vec<(Uuid, Gateways)>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives back all paths that this process holds, within three of the gateways' time limits; for a process that is about to exit.
pub fn release_held_paths() {
    let held = std::mem::take(&mut *all_held());
    thread::scope(|scope| {
        for (uid, gateways) in &held {
            // Those that can't be asked must not keep the others' paths; what they say, nobody is there to hear.
            scope.spawn(move || gateways.release(*uid));
        }
    });
}

/// A path through two gateways, which is given back at both with it. No connection to a control server stays open meanwhile.
#[derive(Debug)]
pub struct HeldPath {
    gateways: Gateways,
    path: ConnectedPath,
    released: bool,
}

impl HeldPath {
    /// Makes a path. Every listener accepts when this returns: within four of the gateways' time limits, or not at all.
    ///
    /// # Errors
    /// Either control server can't be reached, or refuses; what was made is released at both.
    pub fn make(gateways: &Gateways, request: &ConnectRequest) -> Result<Self, ClientError> {
        let ways = gateways.ways()?;
        let path = wait_for(async || ways.connect_path(request).await)?;
        all_held().push((path.uid, gateways.clone()));
        Ok(Self { gateways: gateways.clone(), path, released: false })
    }

    /// Where the consumer's application connects.
    pub fn listeners(&self) -> &[Target] {
        &self.path.listeners
    }

    /// All that the gateways told of it.
    pub fn path(&self) -> &ConnectedPath {
        &self.path
    }

    /// Gives it back at both gateways, which end its connections.
    ///
    /// # Errors
    /// Either control server can't be reached, or refuses. The other's half is given back all the same.
    pub fn release(mut self) -> Result<(), ClientError> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), ClientError> {
        let Self { gateways, path: ConnectedPath { uid, .. }, .. } = self;
        self.released = true;
        let released = gateways.release(*uid);
        all_held().retain(|held| (&held.0, &held.1) != (&*uid, &*gateways));
        released
    }
}

impl Drop for HeldPath {
    /// Gives it back, as [`release`](Self::release) does, within three of the gateways' time limits.
    fn drop(&mut self) {
        if !self.released
            && let Err(error) = self.give_back()
        {
            tracing::warn!("session {} may be left at a gateway: {error}", self.path.uid);
        }
    }
}

impl Gateways {
    /// Gives a path back at both, whoever made it. One that is not there any more, or never was, is what was asked for.
    ///
    /// # Errors
    /// Either control server can't be reached, or refuses. The other's half is given back all the same.
    pub fn release(&self, uid: Uuid) -> Result<(), ClientError> {
        let ways = self.ways()?;
        wait_for(async || {
            let (producer, consumer) = tokio::join!(released(&ways.producer, uid), released(&ways.consumer, uid));
            producer.and(consumer)
        })
    }
}

async fn released(way: &Way, uid: Uuid) -> Result<(), ClientError> {
    let mut pauses = PAUSES.iter();
    let began = Instant::now();
    loop {
        match way.release(uid).await {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if may_pass(&error) && began.elapsed() < way.time_limit() => match pauses.next() {
                Some(pause) => sleep(*pause).await,
                None => return Err(error),
            },
            released => return released,
        }
    }
}

/// Whether a control server that is starting again may be why. One that takes its time has had enough.
fn may_pass(error: &ClientError) -> bool {
    matches!(error, ClientError::Connect { .. } | ClientError::Refused { code: Code::Unavailable, .. })
}

/// Waits for what is asked in a thread of its own: this one may be a runtime's, which must not wait.
fn wait_for<T: Send>(ask: impl AsyncFnOnce() -> Result<T, ClientError> + Send) -> Result<T, ClientError> {
    let asking = || {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ClientError::System)?;
        let answer = runtime.block_on(ask());
        // A host's name that is still being looked up has to be looked up by nobody.
        runtime.shutdown_background();
        answer
    };
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name("s2uc".into()).spawn_scoped(scope, asking).map_err(ClientError::System)?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::client::GatewayAccess;

    #[tokio::test(start_paused = true)]
    async fn only_a_gateway_that_refuses_at_once_is_asked_again() {
        // Whose queue is full drops what comes.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&silent, 0).unwrap();
        let at = silent.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&at, Duration::from_millis(300));
        let queued: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        assert!(!queued.is_empty());
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (at, time) in [(at, GatewayAccess::plain(target(at)).time_limit), (gone, PAUSES.iter().sum())] {
            let (way, began) = (GatewayAccess::plain(target(at)).way().unwrap(), Instant::now());
            let error = released(&way, Uuid::nil()).await.unwrap_err();
            assert!(matches!(error, ClientError::Connect { .. }), "{error}");
            let took = began.elapsed();
            assert!((time..time + Duration::from_millis(100)).contains(&took), "{took:?} instead of {time:?}");
        }
    }

    fn target(at: SocketAddr) -> Target {
        (at.ip(), at.port()).into()
    }
}
