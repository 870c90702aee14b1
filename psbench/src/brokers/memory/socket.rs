//! The memory broker's Unix socket, for publishers in other processes.
//!
//! A publisher opens with a fixed-size greeting (magic, the broker's secret, the topic's length) and the topic, and is answered by one
//! byte. Then it only sends: for each message the lengths of head (`u32`) and payload (`u64`), little-endian, and both parts.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::Secret;
use psbench_executors::strangers::{Seldom, Stranger, Strangers};
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use uuid::Uuid;

use super::super::queue::Sender;
use super::super::wire::{MAX_HEAD, write_all_vectored};
use super::super::{BrokerError, Message, Publisher};
use super::Topics;

const MAGIC: [u8; 4] = *b"psb1";
const GREETING: usize = MAGIC.len() + 16 + 1;
const WELCOME: u8 = 0;
const WRONG_SECRET: u8 = 1;
const NO_SUBSCRIBER: u8 = 2;

/// Time for a whole greeting.
const GREETING_TIME: Duration = Duration::from_secs(5);

/// Most callers at a time that have not shown the secret yet.
const STRANGERS: usize = 64;

/// The largest message: what Redis would take of a server set to its maximum, and far more than a stream's item.
const MAX_PAYLOAD: u64 = 64 << 30;

/// Payloads from this size on are read where they will stay; smaller ones come through a buffer, many with one system call.
const LARGE: u64 = 64 << 10;

/// Bytes asked of the system at once. What of a large payload comes with its lengths is copied once more.
const READ_AHEAD: usize = 64 << 10;

/// The listening side.
#[derive(Debug)]
pub(super) struct Server {
    name: String,
    door: Arc<Door>,
    accepting: Option<JoinHandle<()>>,
}

/// What the threads of a server share.
#[derive(Debug)]
struct Door {
    topics: Arc<Topics>,
    secret: Secret,
    stopping: AtomicBool,
    /// By their processes.
    strangers: Arc<Strangers<Pid>>,
    refusals: Seldom,
    shortages: Seldom,
}

impl Server {
    /// Listens at a fresh name of Linux's abstract namespace, of which nothing is left when psbench ends, however it ends.
    pub(super) fn start(topics: Arc<Topics>) -> Result<Self, BrokerError> {
        let name = format!("psbench-broker-{}", Uuid::new_v4().simple());
        let failed = |action: &str| {
            let action = format!("{action} @{name}");
            move |source| BrokerError::Io { broker: "memory".into(), action, source }
        };
        let address = SocketAddr::from_abstract_name(&name).map_err(failed("name"))?;
        let listener = UnixListener::bind_addr(&address).map_err(failed("listen at"))?;
        let secret = Secret(Uuid::new_v4().into_bytes());
        let door = Arc::new(Door {
            topics,
            secret,
            stopping: AtomicBool::new(false),
            strangers: Arc::new(Strangers::new(STRANGERS)),
            refusals: Seldom::default(),
            shortages: Seldom::default(),
        });
        let accepting = thread::Builder::new()
            .name("broker-accept".into())
            .spawn({
                let door = Arc::clone(&door);
                move || door.accept(&listener)
            })
            .map_err(failed("start the thread of"))?;
        Ok(Self { name, door, accepting: Some(accepting) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn secret(&self) -> Secret {
        self.door.secret
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.door.stopping.store(true, Ordering::Relaxed);
        // The connection wakes the thread that accepts. When it can't be made the thread has ended already.
        let woken = connect(&self.name);
        if let (Ok(_), Some(accepting)) = (&woken, self.accepting.take()) {
            let _ = accepting.join();
        }
        self.door.strangers.send_all_away();
        self.door.refusals.tell_rest();
        self.door.shortages.tell_rest();
    }
}

pub(super) fn connect(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

impl Door {
    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        for connection in listener.incoming() {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = connection.and_then(|connection| self.meet(connection)) {
                self.shortages.warn(format!("the memory broker could not take a connection: {error}"));
                // Out of descriptors or threads: the one that has kept his longest gives them back, within more than microseconds.
                self.strangers.send_one_away();
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Serves a caller in a thread of its own.
    fn meet(self: &Arc<Self>, connection: UnixStream) -> io::Result<()> {
        let caller = socket_peercred(&connection)?;
        if !(caller.uid.is_root() || caller.uid == rustix::process::geteuid()) {
            self.refuse(&format!("it is of another user, {}", caller.uid.as_raw()));
            return Ok(());
        }
        let stranger = self.strangers.enter(&connection, caller.pid)?;
        let door = Arc::clone(self);
        thread::Builder::new().name("broker-receive".into()).spawn(move || door.serve(connection, stranger)).map(drop)
    }

    fn refuse(&self, reason: &str) {
        if !self.stopping.load(Ordering::Relaxed) {
            self.refusals.warn(format!("the memory broker turned a caller away: {reason}"));
        }
    }

    /// Serves one publisher until it leaves, or the subscriber does.
    fn serve(&self, connection: UnixStream, stranger: Stranger<Pid>) {
        let greeted = self.greet(&connection);
        let made_way = stranger.was_sent_away();
        drop(stranger);
        let ended = match greeted {
            Ok(queue) => queue.map_or(Ok(()), |queue| receive(connection, &queue)),
            Err(_) if made_way => return self.refuse("it did not say who it is, and others came"),
            Err(error) => Err(error),
        };
        if let Err(error) = ended
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            tracing::debug!(%error, "a publisher of the memory broker broke off");
        }
    }

    fn greet(&self, mut connection: &UnixStream) -> io::Result<Option<Sender>> {
        let until = Instant::now() + GREETING_TIME;
        let mut greeting = [0; GREETING];
        read_until(connection, &mut greeting, until)?;
        let (magic, rest) = greeting.split_at(MAGIC.len());
        let (presented, length) = rest.split_at(self.secret.0.len());
        // Without a branch on where they differ.
        let differs = presented.iter().zip(self.secret.0).fold(0, |differs, (a, b)| differs | (a ^ b));
        if magic != MAGIC || differs != 0 {
            self.refuse("its secret is wrong");
            connection.write_all(&[WRONG_SECRET])?;
            return Ok(None);
        }
        let mut topic = vec![0; usize::from(length[0])];
        read_until(connection, &mut topic, until)?;
        let queue = std::str::from_utf8(&topic).ok().and_then(|topic| self.topics.get(topic));
        // Ahead of the answer: nothing is sent before that.
        let queue = queue.map(|queue| queue.sender());
        connection.write_all(&[if queue.is_some() { WELCOME } else { NO_SUBSCRIBER }])?;
        connection.set_read_timeout(None)?;
        Ok(queue)
    }
}

/// A limit on the whole of what is read, not on each read: a stranger may send byte by byte.
fn read_until(mut connection: &UnixStream, mut bytes: &mut [u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        connection.set_read_timeout(Some(left))?;
        match connection.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes = &mut bytes[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn receive(connection: UnixStream, queue: &Sender) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ_AHEAD, connection);
    let mut batch = VecDeque::new();
    loop {
        batch.push_back(read_message(&mut reader)?);
        // What has arrived with it goes on with it.
        while let Some(length) = buffered_message(reader.buffer())
            && length <= reader.buffer().len()
        {
            batch.push_back(read_message(&mut reader)?);
        }
        queue.count(batch.iter().map(|message| message.len() + LENGTHS as u64).sum());
        if queue.push(&mut batch, || true).is_err() {
            return Ok(());
        }
    }
}

const LENGTHS: usize = size_of::<u32>() + size_of::<u64>();

fn lengths(bytes: [u8; LENGTHS]) -> (usize, u64) {
    let [h0, h1, h2, h3, payload @ ..] = bytes;
    (u32::from_le_bytes([h0, h1, h2, h3]) as usize, u64::from_le_bytes(payload))
}

/// The length of the message that begins in `buffer`, lengths included, where they are there.
fn buffered_message(buffer: &[u8]) -> Option<usize> {
    let (head, payload) = lengths(*buffer.first_chunk()?);
    usize::try_from(payload).ok()?.checked_add(head)?.checked_add(LENGTHS)
}

fn read_message(reader: &mut BufReader<UnixStream>) -> io::Result<Message> {
    let mut prefix = [0; LENGTHS];
    reader.read_exact(&mut prefix)?;
    let (head, payload) = lengths(prefix);
    if head > MAX_HEAD || payload > MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message past the broker's bounds"));
    }
    if payload >= LARGE {
        return Ok(Message { head: read_bytes(reader, head as u64)?, payload: read_bytes(reader, payload)? });
    }
    let mut both = read_bytes(reader, head as u64 + payload)?;
    Ok(Message { head: both.split_to(head), payload: both })
}

/// Reads what was announced, into memory that grows with what really comes.
fn read_bytes(reader: &mut BufReader<UnixStream>, length: u64) -> io::Result<Bytes> {
    // Beyond this much, memory is reserved only as bytes arrive: an announcement alone costs nothing.
    const TRUSTED: u64 = 64 << 20;
    let reserved = length.min(TRUSTED) as usize;
    let mut bytes = Vec::with_capacity(reserved);
    let buffered = reserved.min(reader.buffer().len());
    bytes.extend_from_slice(&reader.buffer()[..buffered]);
    reader.consume(buffered);
    let missing = length - buffered as u64;
    // Not through the buffer: a long read begins with short ones, which would be copied out of it.
    if reader.get_mut().take(missing).read_to_end(&mut bytes)? as u64 != missing {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.into())
}

/// The sending side.
#[derive(Debug)]
pub(super) struct SocketPublisher {
    connection: UnixStream,
    name: String,
}

impl SocketPublisher {
    pub(super) fn connect(name: &str, secret: Secret, topic: &str) -> Result<Self, BrokerError> {
        let broker = || format!("memory broker @{name}");
        let failed = |source| BrokerError::Io { broker: broker(), action: "connect".into(), source };
        let length = u8::try_from(topic.len()).map_err(|_| BrokerError::Protocol {
            broker: broker(),
            reason: format!("a topic's name of {} bytes; use at most {}", topic.len(), u8::MAX),
        })?;
        let mut connection = connect(name).map_err(failed)?;
        connection.set_read_timeout(Some(GREETING_TIME)).map_err(failed)?;
        let greeting = [&MAGIC[..], &secret.0, &[length], topic.as_bytes()].concat();
        connection.write_all(&greeting).map_err(failed)?;
        let mut answer = [0];
        connection.read_exact(&mut answer).map_err(failed)?;
        match answer[0] {
            WELCOME => Ok(Self { connection, name: name.into() }),
            NO_SUBSCRIBER => Err(super::no_subscriber(topic)),
            _ => Err(BrokerError::Protocol { broker: broker(), reason: "refused: the secret is wrong".into() }),
        }
    }
}

impl Publisher for SocketPublisher {
    fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        write_messages(&mut self.connection, messages).map_err(|source| BrokerError::Io {
            broker: format!("memory broker @{}", self.name),
            action: "publish".into(),
            source,
        })
    }
}

fn write_messages(connection: &mut UnixStream, messages: &[Message]) -> io::Result<()> {
    /// Messages of one system call: three parts each, below the kernel's 1024.
    const TOGETHER: usize = 256;
    for messages in messages.chunks(TOGETHER) {
        let prefixes: Vec<[u8; LENGTHS]> = messages.iter().map(prefix).collect();
        let mut parts: Vec<IoSlice<'_>> = messages
            .iter()
            .zip(&prefixes)
            .flat_map(|(message, prefix)| [&prefix[..], &message.head, &message.payload].map(IoSlice::new))
            .collect();
        write_all_vectored(connection, &mut parts)?;
    }
    Ok(())
}

fn prefix(message: &Message) -> [u8; LENGTHS] {
    let mut prefix = [0; LENGTHS];
    let (head, payload) = prefix.split_at_mut(size_of::<u32>());
    // A head too large for its length is refused by the reader for being past the bound.
    head.copy_from_slice(&u32::try_from(message.head.len()).unwrap_or(u32::MAX).to_le_bytes());
    payload.copy_from_slice(&(message.payload.len() as u64).to_le_bytes());
    prefix
}
