//! Whether a server lets its user do what a run will need: tried on a name of its own, since no version tells it all.

use redis::{Cmd, RedisError, RedisResult, Value};
use uuid::Uuid;

use super::connection::Connection;

/// What takes an object; servers before 6.2 have no such command.
pub(super) const TAKE: &str = "GETDEL";

/// A key of a check that is not deleted ends by itself after so long, seconds.
const EXPIRY: u64 = 60;

/// What a server answered to what a run needs.
#[derive(Debug)]
pub struct Refused {
    /// What was refused.
    pub command: String,
    /// In the server's words.
    pub source: RedisError,
}

impl Refused {
    /// What was tried, as errors name it.
    pub fn action(&self) -> String {
        format!("try {}", self.command)
    }
}

/// What the connector needs: objects are under keys that are bare UUIDs. Whoever lacks `GETDEL` gets along with `GET` and `DEL`.
///
/// # Errors
/// The server refuses something.
pub fn try_objects(connection: &mut Connection, key: &str) -> Result<(), Refused> {
    let mut asked = |command: &Cmd| asked(connection, command);
    asked(redis::cmd("SET").arg(key).arg("").arg("EX").arg(EXPIRY))?;
    for command in ["GET", "EXISTS", "DEL", "UNLINK"] {
        asked(redis::cmd(command).arg(key))?;
    }
    match asked(redis::cmd(TAKE).arg(key)) {
        Err(refused) if lacks_command(&refused.source) => Ok(()),
        answer => answer.map(drop),
    }
}

/// What a list as a queue needs.
///
/// # Errors
/// The server refuses something.
pub fn try_list(connection: &mut Connection, key: &str) -> Result<(), Refused> {
    asked(connection, redis::cmd("RPUSH").arg(key).arg("").arg(""))?;
    let taken = asked(connection, redis::cmd("BLPOP").arg(key).arg(0.2))
        .and_then(|_| asked(connection, redis::cmd("LPOP").arg(key).arg(1)));
    asked(connection, redis::cmd("UNLINK").arg(key))?;
    taken.map(drop)
}

/// What a channel needs. The connection only subscribes from then on.
///
/// # Errors
/// The server refuses something.
pub fn try_channel(connection: &mut Connection, topic: &str) -> Result<(), Refused> {
    let channel = format!("{topic}-{}", Uuid::new_v4().simple());
    asked(connection, redis::cmd("PUBLISH").arg(&channel).arg(""))?;
    asked(connection, redis::cmd("SUBSCRIBE").arg(&channel)).map(drop)
}

fn asked(connection: &mut Connection, command: &Cmd) -> Result<Value, Refused> {
    let name = || match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    };
    connection.query(command).map_err(|source| Refused { command: name(), source })
}

/// Whether a server, as one before the version that brought it, has no such command.
pub(super) fn lacks_command(error: &RedisError) -> bool {
    error.to_string().contains("unknown command")
}

/// Where the master of this server is, if it is a replica. A user who may not ask `ROLE` is not told.
///
/// # Errors
/// The connection failed.
fn master(connection: &mut Connection) -> RedisResult<Option<String>> {
    match connection.query(&redis::cmd("ROLE")) {
        Ok(Value::Array(role)) => Ok(match &role[..] {
            [Value::BulkString(kind), Value::BulkString(host), Value::Int(port), ..] if kind == b"slave" => {
                Some(format!("{}:{port}", String::from_utf8_lossy(host)))
            }
            _ => None,
        }),
        Ok(_) => Ok(None),
        Err(error) if error.is_io_error() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Makes sure that a server is no replica.
///
/// # Errors
/// It is one; its master is named.
pub fn refuse_replica(connection: &mut Connection) -> RedisResult<()> {
    match master(connection)? {
        None => Ok(()),
        Some(master) => Err(std::io::Error::new(
            std::io::ErrorKind::ReadOnlyFilesystem,
            format!("it is a replica: name its master, {master}, or its sentinels with --redis-sentinel"),
        )
        .into()),
    }
}

/// What a server drops when it is full, in a line; `None`: nothing, or it does not tell.
pub fn evicts(connection: &mut Connection) -> Option<String> {
    let memory: String = connection.ask(redis::cmd("INFO").arg("memory")).ok()?;
    let field = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let (limit, policy) = (field("maxmemory")?, field("maxmemory_policy")?);
    // Nothing of psbench's expires but for leases, which `volatile-…` picks from.
    (limit != "0" && policy != "noeviction").then(|| {
        format!(
            "its maxmemory-policy is {policy}: at its maxmemory of {limit} bytes it drops objects that are still wanted; set it to noeviction \
             (`redis-cli CONFIG SET maxmemory-policy noeviction`), or raise maxmemory"
        )
    })
}

/// The largest value that a server takes (its setting `proto-max-bulk-len`), bytes; `None` where it does not tell, as managed ones.
///
/// # Errors
/// The connection failed.
pub fn value_limit(connection: &mut Connection) -> RedisResult<Option<u64>> {
    match connection.query(redis::cmd("CONFIG").arg("GET").arg("proto-max-bulk-len")) {
        Err(error) if error.is_io_error() => Err(error),
        Err(_) => Ok(None),
        Ok(answer) => Ok(super::wire::setting(&answer)),
    }
}
