//! Lets workers in.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::hello::{self, Token, Verdict};
use super::remote::Remote;
use super::tls::Keeper;
use super::{DoorOptions, Invitation};
use crate::fleet::Fleet;
use crate::fleet::channel::Channel;
use crate::fleet::member::Recruit;
use crate::sync::lock;

/// Most strangers at a time: each costs a thread until it has said who it is.
const STRANGERS: u32 = 64;
/// Between two looks whether there is room for more.
const FULL: Duration = Duration::from_millis(5);
/// Threads that greet have shallow stacks.
const STACK: usize = 256 << 10;

/// Listens until it is dropped.
pub(super) struct Door {
    shared: Arc<Shared>,
    address: SocketAddr,
    invitation: Invitation,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    token: Token,
    /// Where workers connect by TLS.
    keeper: Option<Keeper>,
    fleet: Arc<Fleet>,
    /// Workers that were let in.
    admitted: AtomicU32,
    strangers: AtomicU32,
    closed: AtomicBool,
    /// Why the last one was not let in.
    refused: Mutex<Option<String>>,
}

impl Door {
    pub(super) fn open(options: &DoorOptions, fleet: Arc<Fleet>) -> io::Result<Self> {
        let listener = TcpListener::bind((options.listen, options.port))?;
        let address = listener.local_addr()?;
        let keeper = options.tls.then(Keeper::new).transpose()?;
        let token = Token::random()?;
        let certificate = keeper.as_ref().map(|keeper| format!("-{}", hello::hex(keeper.certificate())));
        let invitation = Invitation {
            address: options.told(address.port()),
            token: token.encode() + certificate.as_deref().unwrap_or_default(),
        };
        let shared = Arc::new(Shared {
            token,
            keeper,
            fleet,
            admitted: AtomicU32::new(0),
            strangers: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            refused: Mutex::new(None),
        });
        let acceptor = thread::Builder::new().name("psbench-door".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        })?;
        Ok(Self { shared, address, invitation, acceptor: Some(acceptor) })
    }

    pub(super) fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// Why the last one that came was not let in.
    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.shared.refused).clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the acceptor.
        let host = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            ip => ip,
        };
        let woken = TcpStream::connect_timeout(&(host, self.address.port()).into(), Duration::from_secs(1));
        if woken.is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            // It has logged whatever went wrong in it.
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            // Who comes when so many are being greeted waits outside.
            while self.strangers.load(Ordering::Relaxed) >= STRANGERS && !self.closed.load(Ordering::Relaxed) {
                thread::sleep(FULL);
            }
            let accepted = listener.accept();
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            let greeted = accepted.and_then(|(socket, from)| {
                self.strangers.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(self);
                let greet = move || {
                    let greeted = shared.greet(socket);
                    shared.strangers.fetch_sub(1, Ordering::Relaxed);
                    if let Err(reason) = greeted {
                        let reason = format!("{from} was not let in: {reason}");
                        tracing::warn!("{reason}");
                        *lock(&shared.refused) = Some(reason);
                    }
                };
                let thread = thread::Builder::new().name("psbench-greeter".to_owned()).stack_size(STACK).spawn(greet);
                thread.map(drop).inspect_err(|_| {
                    self.strangers.fetch_sub(1, Ordering::Relaxed);
                })
            });
            if let Err(error) = greeted {
                tracing::warn!("a worker may be kept out: {error}");
                // Out of descriptors or threads: that does not pass within microseconds.
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn greet(&self, socket: TcpStream) -> Result<(), String> {
        let mut place_taken = false;
        let enlisted = self.enlist(socket, &mut place_taken);
        if place_taken && enlisted.is_err() {
            self.admitted.fetch_sub(1, Ordering::Relaxed);
        }
        enlisted
    }

    /// Makes whoever calls one of the fleet; says whether that takes a place.
    fn enlist(&self, socket: TcpStream, place_taken: &mut bool) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let channel = match &self.keeper {
            None => Channel::network(socket),
            Some(keeper) => keeper.accept(socket),
        };
        let channel = channel.map_err(text)?;
        let received = hello::receive(&channel, &self.token, || {
            let verdict = self.admit();
            *place_taken = verdict == Verdict::Welcome;
            verdict
        });
        let guest = match received.map_err(text)? {
            Ok(guest) => guest,
            Err(Verdict::WrongToken) => return Err("its token is wrong".to_owned()),
            Err(Verdict::WrongVersion) => return Err("it is another version of psbench".to_owned()),
            Err(Verdict::Late | Verdict::Welcome) => return Err("all workers are here".to_owned()),
        };
        let remote = Remote::new(guest, channel.try_clone().map_err(text)?);
        let rank = self.admitted.load(Ordering::Relaxed) as usize;
        let enlisted = self.fleet.enlist(Recruit { process: Box::new(remote), channel }, rank);
        enlisted.map_err(|error| error.to_string())
    }

    fn admit(&self) -> Verdict {
        let wanted = self.fleet.terms.workers;
        let one_more = |admitted| (admitted < wanted).then_some(admitted + 1);
        match self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Verdict::Welcome,
            Err(_) => Verdict::Late,
        }
    }
}
