//! A connection to a Redis, made and greeted in one place for all of psbench. It takes large values from where they lie and leaves them
//! where they arrive.

use std::env;
use std::io::{self, BufReader, ErrorKind, IoSlice};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};

use super::cluster;
use super::reply::read_reply;
use super::server::{RedisKind, RedisServer};
use super::transport::{Transport, speaks_tls};
use super::{CONNECT_TIMEOUT, STALL_TIMEOUT};

/// Names the user, where the server's specification does not.
pub const USERNAME: &str = "PSBENCH_REDIS_USERNAME";
/// Holds the password.
pub const PASSWORD: &str = "PSBENCH_REDIS_PASSWORD";

/// Bytes asked of the system at once for short replies. What of a large value comes with its length is copied once.
const READ_AHEAD: usize = 16 << 10;

/// One connection. After an I/O or parsing error it is of no further use.
#[derive(Debug)]
pub struct Connection(BufReader<Transport>);

impl Connection {
    /// Connects to the first of the host's addresses that lets it, within 5 s each, is let in as the environment's user, and makes sure that a
    /// Redis server answers, within 5 s. Sentinels are asked for the server first.
    ///
    /// # Errors
    /// There is none, it is something else, or it lets nobody in; a refusal is in its own words, and [`remedy`](super::remedy) has what
    /// to do.
    pub fn open(server: &RedisServer) -> RedisResult<Self> {
        match &server.kind {
            RedisKind::Server => Self::open_at(server, None, CONNECT_TIMEOUT),
            RedisKind::Cluster => cluster::any(server).map(|(connection, _)| connection),
            RedisKind::Sentinel(name) => Self::open_at(&master_of(server, name)?, None, CONNECT_TIMEOUT),
        }
    }

    /// The same to where this key is, of a cluster the node.
    pub fn open_for(server: &RedisServer, key: &str) -> RedisResult<Self> {
        match server.kind {
            RedisKind::Cluster => Self::open(&cluster::node(server, key)?),
            _ => Self::open(server),
        }
    }

    /// The same by way of another address, which leads to the server, where each answer may take up to `limit`.
    pub fn open_by(server: &RedisServer, (host, port): (&str, u16), limit: Duration) -> RedisResult<Self> {
        Self::open_at(server, Some((host, port)), limit)
    }

    fn open_at(server: &RedisServer, at: Option<(&str, u16)>, limit: Duration) -> RedisResult<Self> {
        let mut connection = Self(BufReader::with_capacity(READ_AHEAD, Transport::connect(server, at)?));
        connection.set_patience(Some(limit))?;
        connection.greet(server).map_err(|error| explained(server, at, limit, error))?;
        connection.set_patience(Some(STALL_TIMEOUT))?;
        connection.0.get_ref().set_write_timeout(Some(STALL_TIMEOUT))?;
        Ok(connection)
    }

    fn greet(&mut self, server: &RedisServer) -> RedisResult<()> {
        let Credentials { user, password } = Credentials::of(server);
        if let Some(password) = password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = user {
                auth.arg(user);
            }
            self.first(auth.arg(password))?;
        }
        if server.database != 0 {
            self.first(redis::cmd("SELECT").arg(server.database))?;
        }
        match self.first(&redis::cmd("PING")) {
            // A user that may not ask was let in nonetheless.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// The answer to one of the first commands: a server that refuses connections tells so and ends them, whatever it was sent.
    fn first(&mut self, command: &Cmd) -> RedisResult<Value> {
        let sent = self.send(&mut [IoSlice::new(&command.get_packed_command())]);
        match (sent, self.answer()) {
            (Err(error), Err(answer)) if answer.is_io_error() => Err(error.into()),
            (_, answer) => answer,
        }
    }

    /// The answer to a command without bulk data; a refusal is an error.
    pub fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.send(&mut [IoSlice::new(&command.get_packed_command())])?;
        self.answer()
    }

    /// The same, as what it means.
    pub fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        Ok(redis::from_redis_value(self.query(command)?)?)
    }

    /// Sends commands in parts.
    pub(super) fn send(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.0.get_mut().send(parts)
    }

    /// The next answer; a refusal is an error.
    pub(super) fn answer(&mut self) -> RedisResult<Value> {
        read_reply(&mut self.0)?.extract_error()
    }

    /// How long answers may make no progress; 30 s unless set. `None`: for ever.
    pub fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.0.get_ref().set_read_timeout(patience)
    }

    /// What is underneath, for who reads in another way. Nothing is lost where all that was asked has been answered.
    pub fn into_transport(self) -> Transport {
        self.0.into_inner()
    }
}

/// As whom a server lets this process in.
pub(super) struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Credentials {
    pub(super) fn of(server: &RedisServer) -> Self {
        let set = |name| env::var(name).ok().filter(|text| !text.is_empty());
        Self { user: server.user.clone().or_else(|| set(USERNAME)), password: set(PASSWORD) }
    }
}

/// Whether this process has credentials, which not every server is to see.
pub(crate) fn has_credentials() -> bool {
    env::var_os(PASSWORD).is_some_and(|password| !password.is_empty())
}

/// Where sentinels say that the server of this name is.
fn master_of(server: &RedisServer, name: &str) -> RedisResult<RedisServer> {
    let mut last = None;
    for (host, port) in server.addresses() {
        match ask_sentinel(&server.moved_to(host.into(), port), name) {
            Ok(Some((host, port))) => return Ok(server.moved_to(host, port)),
            Ok(None) => {
                last = Some(io::Error::new(
                    ErrorKind::NotFound,
                    format!("the sentinel at {host}:{port} knows no master `{name}`: `SENTINEL MASTERS` lists those that it knows"),
                ).into());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(ErrorKind::InvalidInput, "sentinels have no Unix sockets").into()))
}

/// Sentinels have users of their own, often none.
fn ask_sentinel(sentinel: &RedisServer, name: &str) -> RedisResult<Option<(String, u16)>> {
    let mut connection = Connection(BufReader::with_capacity(READ_AHEAD, Transport::connect(sentinel, None)?));
    let command = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).clone();
    let answer = match connection.first(&command) {
        Err(error) if error.code() == Some("NOAUTH") => {
            connection.greet(&RedisServer { database: 0, ..sentinel.clone() })?;
            connection.query(&command)
        }
        answer => answer,
    };
    let answer = answer.map_err(|error| explained(sentinel, None, CONNECT_TIMEOUT, error))?;
    Ok(redis::from_redis_value(answer)?)
}

/// Why the first answer did not come, where that can be found out.
fn explained(server: &RedisServer, at: Option<(&str, u16)>, limit: Duration, error: RedisError) -> RedisError {
    let address = at.or(server.address());
    match (address, &server.tls) {
        (Some((host, port)), None) if error.is_connection_dropped() && speaks_tls(host, port, limit) => {
            io::Error::new(ErrorKind::InvalidData, "it speaks TLS there: write rediss://HOST:PORT").into()
        }
        _ if error.is_timeout() => {
            let reason = format!("no answer within {limit:?}");
            io::Error::new(ErrorKind::TimedOut, reason).into()
        }
        _ => error,
    }
}
