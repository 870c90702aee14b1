//! A connection to a Redis server that sends bulk data from where it lies.
//!
//! The `redis` crate's own connection copies each argument twice on its way out (into the command, then into the packed command) and
//! an answer about as often, and its subscriber can't be woken from another thread. Here a command goes out in one vectored write, and
//! an answer comes in as [`read_reply`] has it.

use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use psbench_connectors::redis::{Closer, ReadBulk, Transport, read_reply};
use redis::{RedisError, RedisResult, Value};

use super::super::BrokerError;
use super::Server;
use crate::clock::{Clock, SystemClock};

/// Time to connect.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Time without any progress after which a server counts as gone.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Bytes asked of the system with one read.
const READ_BUFFER: usize = 256 << 10;

/// One connection.
pub(super) struct Resp {
    reader: BufReader<Heard>,
}

/// A connection, and when something came over it last.
struct Heard {
    stream: Transport,
    at: Arc<AtomicU64>,
    /// Of the socket's reads.
    timeout: Option<Duration>,
    /// How long nothing may come in the middle of an answer, where the socket's timeout is shorter.
    patience: Option<Duration>,
}

impl Heard {
    fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.timeout != timeout {
            self.stream.set_read_timeout(timeout)?;
            self.timeout = timeout;
        }
        Ok(())
    }

    /// Does `read` again, as long as nothing came within the socket's timeout and there is more patience than that.
    fn patiently<T>(&mut self, mut read: impl FnMut(&mut Transport) -> io::Result<T>) -> io::Result<T> {
        let begun = Instant::now();
        loop {
            match read(&mut self.stream) {
                Err(error)
                    if is_silence(&error) && self.patience.is_some_and(|patience| begun.elapsed() < patience) => {}
                read => {
                    let read = read?;
                    self.at.store(SystemClock.now(), Ordering::Relaxed);
                    return Ok(read);
                }
            }
        }
    }
}

impl Read for Heard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(|stream| stream.read(buffer))
    }
}

impl ReadBulk for Heard {
    fn read_bulk(&mut self, bulk: &mut Vec<u8>, length: u64) -> io::Result<()> {
        let end = bulk.len() as u64 + length;
        loop {
            let before = bulk.len();
            match self.patiently(|stream| stream.read_bulk(bulk, end - bulk.len() as u64)) {
                // Patience is for what brings nothing.
                Err(error) if is_silence(&error) && self.patience.is_some() && bulk.len() > before => {}
                read => return read,
            }
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Resp {
    /// Connects as [`Server::control_for`] does.
    pub(super) fn connect(server: &Server, topic: &str) -> Result<Self, BrokerError> {
        let stream = server.control_for(topic)?.into_transport();
        let mut heard = Heard { stream, at: Arc::default(), timeout: None, patience: None };
        heard.set_timeout(Some(SILENCE)).map_err(|error| server.error("connect", redis_error(error)))?;
        Ok(Self { reader: BufReader::with_capacity(READ_BUFFER, heard) })
    }

    /// Waits, at most `wait`, for something to come that nobody asked for; tells whether it has: [`answer`](Self::answer) reads it. Costs no
    /// system call beside the read where the last wait was as long.
    pub(super) fn wait(&mut self, wait: Duration) -> RedisResult<bool> {
        if self.reader.buffer().is_empty() {
            let heard = self.reader.get_mut();
            heard.patience = None;
            heard.set_timeout(Some(wait))?;
            match self.reader.fill_buf() {
                Ok([]) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(_) => {}
                // A stopped process that goes on is interrupted, too.
                Err(error) if is_silence(&error) || error.kind() == ErrorKind::Interrupted => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.reader.get_mut().patience = Some(SILENCE);
        Ok(true)
    }

    /// Notes in `at` when something comes, be it a part of a message.
    pub(super) fn heard(&mut self, at: &Arc<AtomicU64>) {
        self.reader.get_mut().at = Arc::clone(at);
    }

    /// What ends a wait for answers from another thread.
    pub(super) fn waker(&self) -> io::Result<Closer> {
        self.reader.get_ref().stream.closer()
    }

    /// Sends `command topic message` for each message, and `last`, together; the messages are in parts.
    pub(super) fn send_messages<'a, M>(
        &mut self,
        command: &str,
        topic: &str,
        messages: &[M],
        last: Option<&redis::Cmd>,
    ) -> io::Result<()>
    where
        M: AsRef<[&'a [u8]]>,
    {
        const END: &[u8] = b"\r\n";
        let fronts: Vec<String> = messages.iter().map(|message| front(command, topic, message.as_ref())).collect();
        let mut parts = Vec::new();
        for (message, front) in messages.iter().zip(&fronts) {
            parts.push(IoSlice::new(front.as_bytes()));
            parts.extend(message.as_ref().iter().map(|part| IoSlice::new(part)));
            parts.push(IoSlice::new(END));
        }
        let last = last.map(redis::Cmd::get_packed_command);
        parts.extend(last.as_deref().map(IoSlice::new));
        self.reader.get_mut().stream.send(&mut parts)
    }

    /// Sends one small command.
    pub(super) fn send(&mut self, command: &redis::Cmd) -> io::Result<()> {
        self.reader.get_mut().stream.send(&mut [IoSlice::new(&command.get_packed_command())])
    }

    /// The next answer. An error that the server answers with is an error here.
    pub(super) fn answer(&mut self) -> RedisResult<Value> {
        read_reply(&mut self.reader)?.extract_error()
    }
}

/// All of a command that comes ahead of the message.
fn front(command: &str, topic: &str, message: &[&[u8]]) -> String {
    let length: usize = message.iter().map(|part| part.len()).sum();
    format!("*3\r\n${}\r\n{command}\r\n${}\r\n{topic}\r\n${length}\r\n", command.len(), topic.len())
}

/// As the crate would put it.
pub(super) fn redis_error(error: io::Error) -> RedisError {
    RedisError::from(error)
}
