//! Accepts connections and serves each in a thread of its own.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, IoSlice, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use scistream::Seldom;

use super::hello::{HELLO_LEN, Verdict};
use super::listener::Listener;
use super::{Protocol, Socket};
use crate::Secret;
use crate::lock::lock;

/// The most clients at a time.
const MAX_CLIENTS: usize = 4096;
/// The most connections at a time that have not said who they are. The oldest makes way for one more: who is known says so at once.
const MAX_STRANGERS: usize = 1024;
/// For at least so long a stranger stays: when many clients come at once none of them has to go.
const GRACE: Duration = Duration::from_millis(250);
/// How long a stranger may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Connection threads have shallow stacks.
const STACK: usize = 128 * 1024;

/// What is served to those who were let in.
pub(crate) trait Service: Send + Sync + 'static {
    /// What they speak.
    const PROTOCOL: Protocol;

    /// Answers one client until it closes. Runs in a thread of its own.
    fn serve(&self, socket: &Socket) -> io::Result<()>;
}

/// Lets clients in until it is dropped; all connections have ended then.
#[derive(Debug)]
pub(crate) struct Server<S> {
    gate: Arc<Gate<S>>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the threads of a server share.
#[derive(Debug)]
struct Gate<S> {
    listener: Listener,
    secret: Secret,
    service: S,
    connections: Mutex<Connections>,
    /// A stranger or a client has left.
    left: Condvar,
    refusals: Seldom,
    shortages: Seldom,
}

#[derive(Debug, Default)]
struct Connections {
    stopping: bool,
    made: u64,
    open: HashMap<u64, Arc<Socket>>,
    /// Those of them that have not said who they are; the oldest first.
    strangers: BTreeMap<u64, Instant>,
    clients: usize,
}

impl Connections {
    fn send_a_stranger_away(&mut self) {
        if let Some(socket) = self.strangers.pop_first().and_then(|(oldest, _)| self.open.get(&oldest)) {
            socket.shut_down();
        }
    }
}

impl<S: Service> Server<S> {
    /// Serves whoever connects to `listener` and knows the secret.
    pub(crate) fn start(listener: Listener, secret: Secret, service: S) -> io::Result<Self> {
        let gate = Arc::new(Gate {
            listener,
            secret,
            service,
            connections: Mutex::default(),
            left: Condvar::new(),
            refusals: Seldom::default(),
            shortages: Seldom::default(),
        });
        let acceptor = thread::Builder::new().name(format!("{}-acceptor", S::PROTOCOL.name)).spawn({
            let gate = Arc::clone(&gate);
            move || gate.run()
        })?;
        Ok(Self { gate, acceptor: Some(acceptor) })
    }

    /// What it serves.
    pub(crate) fn service(&self) -> &S {
        &self.gate.service
    }
}

impl<S> Drop for Server<S> {
    fn drop(&mut self) {
        self.gate.stop();
        // It has logged whatever went wrong in it.
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

impl<S> Gate<S> {
    /// Ends all connections and [`run`](Self::run).
    fn stop(&self) {
        let mut connections = lock(&self.connections);
        connections.stopping = true;
        self.left.notify_one();
        self.listener.shut_down();
        connections.open.values().for_each(|socket| socket.shut_down());
    }
}

impl<S: Service> Gate<S> {
    /// Serves until [`stop`](Self::stop); all connections have ended then.
    fn run(&self) {
        let name = S::PROTOCOL.name;
        thread::scope(|scope| {
            loop {
                let accepted = self.listener.accept();
                if lock(&self.connections).stopping {
                    return;
                }
                let served = accepted.and_then(|socket| {
                    if !socket.peer_is_trusted_user()? {
                        self.refuse("another user of this host called");
                        return Ok(());
                    }
                    let Some(connection) = self.admit(socket) else { return Ok(()) };
                    let thread = thread::Builder::new().name(format!("{name}-connection")).stack_size(STACK);
                    thread.spawn_scoped(scope, move || connection.serve()).map(drop)
                });
                if let Err(error) = served {
                    self.shortages.warn(format!("{name} {}: {error}", self.listener.address()));
                    // Out of descriptors or threads: the stranger that has kept his longest gives them back, within more than microseconds.
                    lock(&self.connections).send_a_stranger_away();
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
    }

    fn refuse(&self, reason: &str) {
        self.refusals.warn(format!("{} {}: {reason}", S::PROTOCOL.name, self.listener.address()));
    }

    /// Registers a connection, so that [`stop`](Self::stop) ends it; `None` where this one is too late.
    fn admit(&self, socket: Socket) -> Option<Connection<'_, S>> {
        let mut connections = lock(&self.connections);
        while connections.strangers.len() >= MAX_STRANGERS
            && let Some((_, since)) = connections.strangers.first_key_value()
            && !connections.stopping
        {
            let left = GRACE.saturating_sub(since.elapsed());
            if left.is_zero() {
                connections.send_a_stranger_away();
            } else {
                let waited = self.left.wait_timeout(connections, left);
                connections = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        // Those that were sent away have threads until they have noticed.
        while connections.open.len() >= connections.clients + 2 * MAX_STRANGERS && !connections.stopping {
            connections = self.left.wait(connections).unwrap_or_else(PoisonError::into_inner);
        }
        if connections.stopping {
            return None;
        }
        connections.made += 1;
        let number = connections.made;
        let socket = Arc::new(socket);
        connections.open.insert(number, Arc::clone(&socket));
        connections.strangers.insert(number, Instant::now());
        Some(Connection { gate: self, number, socket, known: false })
    }
}

/// One registered connection.
struct Connection<'a, S> {
    gate: &'a Gate<S>,
    number: u64,
    socket: Arc<Socket>,
    known: bool,
}

impl<S: Service> Connection<'_, S> {
    fn serve(mut self) {
        let result = self.greet().and_then(|welcome| {
            if !welcome {
                return Ok(());
            }
            // Between requests a client may rest as long as it likes.
            self.socket.set_read_timeout(None)?;
            self.gate.service.serve(&self.socket)
        });
        if let Err(error) = result {
            let (name, address) = (S::PROTOCOL.name, self.gate.listener.address());
            tracing::debug!("{name} {address}: connection {} ended: {error}", self.number);
        }
    }

    /// Whether the caller may be served. A stranger costs this thread, its stack and [`HELLO_LEN`] bytes, for [`HELLO_TIMEOUT`].
    fn greet(&mut self) -> io::Result<bool> {
        let hello = self.read_hello()?;
        let Some(verdict) = S::PROTOCOL.judge(&hello, &self.gate.secret) else {
            return Ok(false);
        };
        if verdict == Verdict::Welcome && !self.become_known() {
            return Ok(false);
        }
        self.socket.send(&mut [IoSlice::new(&[verdict as u8])])?;
        Ok(verdict == Verdict::Welcome)
    }

    /// Whether it is a client from now on.
    fn become_known(&mut self) -> bool {
        let mut connections = lock(&self.gate.connections);
        let (stays, full) = (connections.strangers.contains_key(&self.number), connections.clients >= MAX_CLIENTS);
        if stays && !full {
            connections.strangers.remove(&self.number);
            connections.clients += 1;
            self.known = true;
            self.gate.left.notify_one();
        }
        drop(connections);
        if full {
            self.gate.refuse(&format!("{MAX_CLIENTS} clients are connected: refused one more"));
        }
        self.known
    }

    /// A limit on the whole, not on each read: a stranger may send byte by byte.
    fn read_hello(&self) -> io::Result<[u8; HELLO_LEN]> {
        let mut hello = [0; HELLO_LEN];
        let mut read = 0;
        let deadline = Instant::now() + HELLO_TIMEOUT;
        while read < HELLO_LEN {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            match (&*self.socket).read(&mut hello[read..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => read += more,
                // A stopped process that goes on: a socket with a time limit is not read again by itself.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(hello)
    }
}

impl<S> Drop for Connection<'_, S> {
    fn drop(&mut self) {
        let mut connections = lock(&self.gate.connections);
        connections.open.remove(&self.number);
        connections.strangers.remove(&self.number);
        connections.clients -= usize::from(self.known);
        self.gate.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::super::PeerAddress;
    use super::super::hello::greet;
    use super::*;

    struct Echo;

    impl Service for Echo {
        const PROTOCOL: Protocol = Protocol { name: "echo", magic: *b"PSBE", version: 1 };

        fn serve(&self, mut socket: &Socket) -> io::Result<()> {
            let mut byte = [0];
            while socket.read(&mut byte)? == 1 {
                socket.send(&mut [IoSlice::new(&byte)])?;
            }
            Ok(())
        }
    }

    #[test]
    fn who_says_nothing_makes_way_for_clients() {
        let listener = Listener::bind(&PeerAddress::Unix("".into())).unwrap();
        let (address, secret) = (listener.address().clone(), Secret([7; 16]));
        let server = Server::start(listener, secret, Echo).unwrap();
        let connect = || Socket::connect(&address).unwrap();
        let client = greet(Echo::PROTOCOL, &address, &secret, "echo").unwrap();
        let silent: Vec<Socket> = (0..MAX_STRANGERS + 50).map(|_| connect()).collect();
        let other = greet(Echo::PROTOCOL, &address, &secret, "echo").unwrap();
        for mut client in [&client, &other] {
            client.send(&mut [IoSlice::new(&[5])]).unwrap();
            let mut byte = [0];
            assert_eq!((client.read(&mut byte).unwrap(), byte), (1, [5]), "clients stay");
        }
        assert!(matches!((&silent[0]).read(&mut [0]), Ok(0) | Err(_)), "the oldest was sent away");
        drop((client, other, silent));
        drop(server);
    }
}
