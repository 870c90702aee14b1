//! Lets workers in.

use std::fmt;
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
use crate::strangers::{Seldom, Stranger, Strangers};
use crate::sync::lock;

/// Most strangers at a time: each costs a thread until it has said who it is.
const STRANGERS: usize = 64;
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
    strangers: Arc<Strangers<IpAddr>>,
    closed: AtomicBool,
    /// Why the last one was not let in.
    refused: Mutex<Option<String>>,
    refusals: Seldom,
    shortages: Seldom,
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
            strangers: Arc::new(Strangers::new(STRANGERS)),
            closed: AtomicBool::new(false),
            refused: Mutex::new(None),
            refusals: Seldom::default(),
            shortages: Seldom::default(),
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
        self.shared.strangers.send_all_away();
        self.shared.refusals.tell_rest();
        self.shared.shortages.tell_rest();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = accepted.and_then(|(socket, from)| self.meet(socket, from)) {
                self.shortages.warn(format!("a worker may be kept out: {error}"));
                // Out of descriptors or threads: the one that has kept his longest gives them back, within more than microseconds.
                self.strangers.send_one_away();
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Greets whoever connected in a thread of its own.
    fn meet(self: &Arc<Self>, socket: TcpStream, from: SocketAddr) -> io::Result<()> {
        let stranger = self.strangers.enter(&socket, from.ip())?;
        let shared = Arc::clone(self);
        let greet = move || {
            if let Err(reason) = shared.greet(socket, stranger) {
                shared.refuse(from, &reason);
            }
        };
        thread::Builder::new().name("psbench-greeter".to_owned()).stack_size(STACK).spawn(greet).map(drop)
    }

    fn refuse(&self, from: SocketAddr, reason: &Refusal) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let told = format!("{from} was not let in: {reason}");
        let mut refused = lock(&self.refused);
        // Who was sent away without a word tells the least.
        if refused.is_none() || !matches!(reason, Refusal::MadeWay) {
            *refused = Some(told.clone());
        }
        drop(refused);
        self.refusals.warn(told);
    }

    fn greet(&self, socket: TcpStream, stranger: Stranger<IpAddr>) -> Result<(), Refusal> {
        let (mut stranger, mut place_taken) = (Some(stranger), false);
        let enlisted = self.enlist(socket, &mut stranger, &mut place_taken);
        if place_taken && enlisted.is_err() {
            self.admitted.fetch_sub(1, Ordering::Relaxed);
        }
        let made_way = stranger.is_some_and(|stranger| stranger.was_sent_away());
        enlisted.map_err(|reason| if made_way { Refusal::MadeWay } else { Refusal::Said(reason) })
    }

    /// Makes whoever calls one of the fleet; says whether that takes a place.
    fn enlist(
        &self,
        socket: TcpStream,
        stranger: &mut Option<Stranger<IpAddr>>,
        place_taken: &mut bool,
    ) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let channel = match &self.keeper {
            None => Channel::network(socket),
            Some(keeper) => keeper.accept(socket),
        };
        let channel = channel.map_err(text)?;
        let received = hello::receive(&channel, &self.token, || {
            *stranger = None;
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

/// Why somebody is not let in.
enum Refusal {
    /// Others came, and it had said nothing.
    MadeWay,
    Said(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MadeWay => f.write_str("it did not say who it is, and others came"),
            Self::Said(reason) => f.write_str(reason),
        }
    }
}
