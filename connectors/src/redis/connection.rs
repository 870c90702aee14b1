//! A blocking connection that takes large values from where they lie and leaves them where they arrive.

use std::io::{self, BufReader, IoSlice};
use std::net::TcpStream;

use redis::{Cmd, RedisResult, Value};
use rustix::net::sockopt::set_socket_keepalive;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::reply::read_reply;
use super::{CONNECT_TIMEOUT, STALL_TIMEOUT};
use crate::io::write_full;
use crate::net::connect_tcp;

/// Bytes asked of the system at once for short replies. What of a large value comes with its length is copied once.
const READ_AHEAD: usize = 16 << 10;
/// The most parts that Linux takes with one call (`UIO_MAXIOV`).
const MAX_PARTS: usize = 1024;

/// One connection. After an I/O or parsing error it is of no further use.
#[derive(Debug)]
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects to the first of the host's addresses that lets it, within 5 s each, and makes sure that a Redis server answers, within 5 s.
    pub(super) fn open(host: &str, port: u16) -> RedisResult<Self> {
        let stream = connect_tcp(host, port)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        stream.set_write_timeout(Some(STALL_TIMEOUT))?;
        // Finds out about hosts that vanished between requests.
        set_socket_keepalive(&stream, true).map_err(io::Error::from)?;
        let mut connection = Self(BufReader::with_capacity(READ_AHEAD, stream));
        connection.send(&mut [IoSlice::new(&redis::cmd("PING").get_packed_command())])?;
        // A server that refuses is one nonetheless: requests tell the reason.
        read_reply(&mut connection.0)?;
        connection.0.get_ref().set_read_timeout(Some(STALL_TIMEOUT))?;
        Ok(connection)
    }

    /// The answer to a command without bulk data; a refusal is an error.
    pub(super) fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.send(&mut [IoSlice::new(&command.get_packed_command())])?;
        self.answer()
    }

    /// Sends commands in parts.
    pub(super) fn send(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        write_full(parts, |parts| {
            let parts = &parts[..parts.len().min(MAX_PARTS)];
            sendmsg(self.0.get_ref(), parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
        })
    }

    /// The next answer; a refusal is an error.
    pub(super) fn answer(&mut self) -> RedisResult<Value> {
        read_reply(&mut self.0)?.extract_error()
    }
}
