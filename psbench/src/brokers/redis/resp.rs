//! A connection to a Redis server that sends bulk data from where it lies.
//!
//! The `redis` crate's own connection copies each argument twice on its way out (into the command, then into the packed command) and
//! an answer about as often, and its subscriber can't be woken from another thread. Here a command goes out in one vectored write, and
//! an answer comes in as [`read_reply`] has it.

use std::io::{self, BufReader, IoSlice, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use psbench_connectors::redis::{Closer, Transport, read_reply};
use redis::{RedisError, RedisResult, Value};

use super::super::BrokerError;
use super::Server;
use crate::clock::{Clock, SystemClock};

/// Time to connect.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Time without any progress after which a server counts as gone.
const SILENCE: Duration = Duration::from_secs(30);

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
}

impl Read for Heard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.at.store(SystemClock.now(), Ordering::Relaxed);
        Ok(read)
    }
}

impl Resp {
    /// Connects as [`Server::control_for`] does.
    pub(super) fn connect(server: &Server, topic: &str) -> Result<Self, BrokerError> {
        let stream = server.control_for(topic)?.into_transport();
        stream.set_read_timeout(Some(SILENCE)).map_err(|error| server.error("connect", redis_error(error)))?;
        let heard = Heard { stream, at: Arc::default() };
        Ok(Self { reader: BufReader::with_capacity(READ_BUFFER, heard) })
    }

    /// How long to wait for answers without any progress; `None`: for ever, since a subscriber's messages come when they come.
    pub(super) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.reader.get_ref().stream.set_read_timeout(patience)
    }

    /// When something came last, be it a part of a message.
    pub(super) fn heard(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.reader.get_ref().at)
    }

    /// What ends a wait for answers from another thread.
    pub(super) fn waker(&self) -> io::Result<Closer> {
        self.reader.get_ref().stream.closer()
    }

    /// Sends `command topic message` for each message, together; the messages are in parts.
    pub(super) fn send_messages<'a, M>(&mut self, command: &str, topic: &str, messages: &[M]) -> io::Result<()>
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
