//! Paths for programs that wait: no part of them has to be async.

use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use tonic::Code;
use uuid::Uuid;

use super::{ClientError, ConnectRequest, ConnectedPath, Gateways, Way};
use crate::forward::Target;

/// Before a control server that was not there is asked once more to give back its half; it may be starting again.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];

/// Seconds after which the gateways end a path whose process they don't hear of any more, since nobody gives back what it held.
const ATTENDED: u32 = 30;
/// Between two looks at the paths of this process: one that fails ends none.
const ATTEND: Duration = Duration::from_secs(10);

/// The paths of this process, for when it is about to exit.
static HELD: Mutex<Vec<(Uuid, Gateways)>> = Mutex::new(Vec::new());

fn all_held() -> MutexGuard<'static, Vec<(Uuid, Gateways)>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the gateways hear of this process while it holds paths.
fn attend() {
    static ATTENDING: Once = Once::new();
    ATTENDING.call_once(|| {
        let started = thread::Builder::new().name("s2uc-attend".into()).spawn(|| {
            loop {
                thread::sleep(ATTEND);
                let held = all_held().clone();
                thread::scope(|scope| {
                    for (uid, gateways) in &held {
                        // Those that can't be asked must not keep the others; whoever has the path looks at what becomes of it. Without a
                        // thread there is another time.
                        let _ = thread::Builder::new().spawn_scoped(scope, move || gateways.have(*uid));
                    }
                });
            }
        });
        if let Err(error) = started {
            tracing::warn!("paths through gateways may end when nothing goes through them for {ATTENDED} s: {error}");
        }
    });
}

/// Gives back all paths that this process holds, within three of the gateways' time limits; for a process that is about to exit.
pub fn release_held_paths() {
    let held = std::mem::take(&mut *all_held());
    thread::scope(|scope| {
        for (uid, gateways) in &held {
            // Those that can't be asked must not keep the others' paths; what they say, nobody is there to hear.
            let release = move || gateways.release(*uid);
            if thread::Builder::new().spawn_scoped(scope, release).is_err() {
                let _ = release();
            }
        }
    });
}

/// How many of the paths that this process holds go through the control server at this address.
pub fn held_at(address: &Target) -> u64 {
    let at = |gateways: &Gateways| gateways.producer.address == *address || gateways.consumer.address == *address;
    all_held().iter().filter(|(_, gateways)| at(gateways)).count() as u64
}

/// A path through two gateways, which is given back at both with it. No connection to a control server stays open meanwhile.
#[derive(Debug)]
pub struct HeldPath {
    gateways: Gateways,
    request: ConnectRequest,
    path: ConnectedPath,
    released: bool,
}

impl HeldPath {
    /// Makes a path. Every listener accepts when this returns: within four of the gateways' time limits, or not at all. psbench's gateways
    /// end it 30 s after this process was killed, unless other limits were [wished](super::Wishes::attended) for.
    ///
    /// # Errors
    /// Either control server can't be reached, or refuses; what was made is released at both.
    pub fn make(gateways: &Gateways, request: &ConnectRequest) -> Result<Self, ClientError> {
        let mut request = request.clone();
        request.wishes.attended.get_or_insert(ATTENDED);
        let path = gateways.connect_path(&request)?;
        all_held().push((path.uid, gateways.clone()));
        attend();
        Ok(Self { gateways: gateways.clone(), request, path, released: false })
    }

    /// Whether both gateways still have it: one that was started again has lost it. The reference's control server, which does not tell
    /// of its sessions, counts as having it.
    ///
    /// # Errors
    /// One control server can't be reached, or refuses, and the other has not lost it.
    pub fn is_there(&self) -> Result<bool, ClientError> {
        self.gateways.have(self.path.uid)
    }

    /// Makes it anew, by the same name and as it was asked for at first, after giving back what is left of it. It may begin elsewhere
    /// then.
    ///
    /// # Errors
    /// Either control server can't be reached, or refuses, or [all paths](release_held_paths) were given back. It is no path then, and
    /// may be made anew later.
    pub fn renew(&mut self) -> Result<(), ClientError> {
        self.gateways.release(self.path.uid)?;
        if !self.is_held() {
            return Err(ClientError::Exiting);
        }
        self.path = self.gateways.connect_path(&self.request)?;
        // Whoever gave back all paths meanwhile may have come too early.
        if self.is_held() { Ok(()) } else { self.gateways.release(self.path.uid) }
    }

    fn is_held(&self) -> bool {
        all_held().iter().any(|held| self.is_entry(held))
    }

    fn is_entry(&self, (uid, gateways): &(Uuid, Gateways)) -> bool {
        *uid == self.path.uid && *gateways == self.gateways
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
        self.released = true;
        let released = self.gateways.release(self.path.uid);
        all_held().retain(|held| !self.is_entry(held));
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
    fn connect_path(&self, request: &ConnectRequest) -> Result<ConnectedPath, ClientError> {
        let ways = self.ways()?;
        wait_for(async || ways.connect_path(request).await)
    }

    /// Whether both have a session, or don't tell.
    fn have(&self, uid: Uuid) -> Result<bool, ClientError> {
        let ways = self.ways()?;
        wait_for(async || match tokio::join!(known(&ways.producer, uid), known(&ways.consumer, uid)) {
            (Ok(false), _) | (_, Ok(false)) => Ok(false),
            (at_producer, at_consumer) => at_producer.and(at_consumer),
        })
    }

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
            Err(error) if error.may_pass() && began.elapsed() < way.time_limit() => match pauses.next() {
                Some(pause) => sleep(*pause).await,
                None => return Err(error),
            },
            released => return released,
        }
    }
}

/// Whether a control server has a session, or does not tell.
async fn known(way: &Way, uid: Uuid) -> Result<bool, ClientError> {
    match way.status(uid).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) if error.code() == Some(Code::Unimplemented) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Waits for what is asked in a thread of its own: this one may be a runtime's, which must not wait.
pub(super) fn wait_for<T: Send>(ask: impl AsyncFnOnce() -> Result<T, ClientError> + Send) -> Result<T, ClientError> {
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
