//! Accepts connections and answers their requests, with one thread each.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::listener::Listener;
use super::socket::Socket;
use super::wire::{ANSWER_LEN, Answer, HELLO_LEN, Operation, REQUEST_LEN, Request, Verdict, judge};
use crate::lock::lock;
use crate::object_map::ObjectMap;
use crate::{Key, Secret};

/// The most connections at a time, strangers included.
const MAX_CONNECTIONS: usize = 4096;
/// How long a stranger may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of requests read at once: pipelined ones are answered together.
const REQUEST_BUFFER: usize = 256 * REQUEST_LEN;
/// Connection threads have shallow stacks.
const STACK: usize = 128 * 1024;

/// What the threads of a server share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) listener: Listener,
    pub(super) objects: ObjectMap,
    pub(super) secret: Secret,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    stopping: bool,
    made: u64,
    open: HashMap<u64, Arc<Socket>>,
}

impl Service {
    pub(super) fn new(listener: Listener, objects: ObjectMap, secret: Secret) -> Self {
        Self { listener, objects, secret, connections: Mutex::default() }
    }

    /// Serves until [`stop`](Self::stop); all connections have ended then.
    pub(super) fn run(&self) {
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
                    let thread = thread::Builder::new().name("peer-connection".into()).stack_size(STACK);
                    thread.spawn_scoped(scope, move || connection.serve()).map(drop)
                });
                if let Err(error) = served {
                    tracing::warn!("peer {}: {error}", self.listener.address());
                    // Out of descriptors or threads: that does not pass within microseconds.
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
    }

    /// Ends all connections and [`run`](Self::run).
    pub(super) fn stop(&self) {
        let mut connections = lock(&self.connections);
        connections.stopping = true;
        self.listener.shut_down();
        connections.open.values().for_each(|socket| socket.shut_down());
    }

    /// Registers a connection, so that [`stop`](Self::stop) ends it; `None` where there are too many, or this one is too late.
    fn admit(&self, socket: Socket) -> Option<Connection<'_>> {
        let mut connections = lock(&self.connections);
        if connections.stopping || connections.open.len() >= MAX_CONNECTIONS {
            return None;
        }
        connections.made += 1;
        let number = connections.made;
        let socket = Arc::new(socket);
        connections.open.insert(number, Arc::clone(&socket));
        Some(Connection { service: self, number, socket })
    }

    fn perform(&self, request: Request) -> (Answer, Option<Bytes>) {
        let key = Key::named(request.id);
        let object = match request.operation {
            Operation::Get => self.objects.get(&key),
            Operation::Take => self.objects.take(&key),
            Operation::Exists => {
                return (Answer { found: self.objects.contains(&key), size: 0 }, None);
            }
            Operation::Evict => {
                return (Answer { found: self.objects.take(&key).is_some(), size: 0 }, None);
            }
        };
        (Answer { found: object.is_some(), size: object.as_ref().map_or(0, |object| object.len() as u64) }, object)
    }
}

/// One registered connection.
struct Connection<'a> {
    service: &'a Service,
    number: u64,
    socket: Arc<Socket>,
}

impl Connection<'_> {
    fn serve(self) {
        let result = self.greet().and_then(|welcome| if welcome { self.answer() } else { Ok(()) });
        if let Err(error) = result {
            tracing::debug!("peer {}: connection {} ended: {error}", self.service.listener.address(), self.number);
        }
    }

    /// Whether the caller may be served. A stranger costs this thread, its stack and [`HELLO_LEN`] bytes, for [`HELLO_TIMEOUT`].
    fn greet(&self) -> io::Result<bool> {
        if !self.socket.peer_is_trusted_user()? {
            return Ok(false);
        }
        let hello = self.read_hello()?;
        let Some(verdict) = judge(&hello, &self.service.secret) else {
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
            match (&*self.socket).read(&mut hello[read..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
        }
        Ok(hello)
    }

    /// Answers requests until the client closes.
    fn answer(&self) -> io::Result<()> {
        // Between requests a client may rest as long as it likes.
        self.socket.set_read_timeout(None)?;
        let mut requests = BufReader::with_capacity(REQUEST_BUFFER, &*self.socket);
        let mut heads = Vec::with_capacity(REQUEST_BUFFER / REQUEST_LEN * ANSWER_LEN);
        while !requests.fill_buf()?.is_empty() {
            let mut request = [0; REQUEST_LEN];
            requests.read_exact(&mut request)?;
            let request = Request::decode(&request).ok_or(ErrorKind::InvalidData)?;
            let (answer, object) = self.service.perform(request);
            heads.extend_from_slice(&answer.encode());
            // Answers without an object wait for each other while the next request is here.
            if object.is_some() || requests.buffer().len() < REQUEST_LEN {
                let object = object.unwrap_or_default();
                self.socket.send(&mut [IoSlice::new(&heads), IoSlice::new(&object)])?;
                heads.clear();
            }
        }
        Ok(())
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        lock(&self.service.connections).open.remove(&self.number);
    }
}
