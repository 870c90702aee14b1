//! Accepts connections and serves each in a thread of its own.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::hello::{HELLO_LEN, Verdict};
use super::listener::Listener;
use super::{Protocol, Socket};
use crate::Secret;
use crate::lock::lock;

/// The most connections at a time, strangers included.
const MAX_CONNECTIONS: usize = 4096;
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
}

#[derive(Debug, Default)]
struct Connections {
    stopping: bool,
    made: u64,
    open: HashMap<u64, Arc<Socket>>,
}

impl<S: Service> Server<S> {
    /// Serves whoever connects to `listener` and knows the secret.
    pub(crate) fn start(listener: Listener, secret: Secret, service: S) -> io::Result<Self> {
        let gate = Arc::new(Gate { listener, secret, service, connections: Mutex::default() });
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
                    let Some(connection) = self.admit(socket) else {
                        return Err(io::Error::other(format!(
                            "{MAX_CONNECTIONS} connections are open: refused one more"
                        )));
                    };
                    let thread = thread::Builder::new().name(format!("{name}-connection")).stack_size(STACK);
                    thread.spawn_scoped(scope, move || connection.serve()).map(drop)
                });
                if let Err(error) = served {
                    tracing::warn!("{name} {}: {error}", self.listener.address());
                    // Out of descriptors or threads: that does not pass within microseconds.
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
    }

    /// Registers a connection, so that [`stop`](Self::stop) ends it; `None` where there are too many, or this one is too late.
    fn admit(&self, socket: Socket) -> Option<Connection<'_, S>> {
        let mut connections = lock(&self.connections);
        if connections.stopping || connections.open.len() >= MAX_CONNECTIONS {
            return None;
        }
        connections.made += 1;
        let number = connections.made;
        let socket = Arc::new(socket);
        connections.open.insert(number, Arc::clone(&socket));
        Some(Connection { gate: self, number, socket })
    }
}

/// One registered connection.
struct Connection<'a, S> {
    gate: &'a Gate<S>,
    number: u64,
    socket: Arc<Socket>,
}

impl<S: Service> Connection<'_, S> {
    fn serve(self) {
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
    fn greet(&self) -> io::Result<bool> {
        if !self.socket.peer_is_trusted_user()? {
            return Ok(false);
        }
        let hello = self.read_hello()?;
        let Some(verdict) = S::PROTOCOL.judge(&hello, &self.gate.secret) else {
            return Ok(false);
        };
        self.socket.send(&mut [IoSlice::new(&[verdict as u8])])?;
        Ok(verdict == Verdict::Welcome)
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
        lock(&self.gate.connections).open.remove(&self.number);
    }
}
