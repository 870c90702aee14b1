//! One connection that many threads' small requests share.

use std::fmt;
use std::io;
use std::sync::Mutex;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, RedisResult, Value};

use super::{CONNECT_TIMEOUT, STALL_TIMEOUT};
use crate::lock::lock;
use crate::runtime::Driver;

/// Connects at the first use, and again after the connection broke.
pub(super) struct Multiplexed {
    client: Client,
    /// Drives the connection on a thread of its own. It outlives every connection: others may still wait on a broken one.
    runtime: Driver,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Multiplexed {
    pub(super) fn new(client: Client) -> io::Result<Self> {
        Ok(Self { client, runtime: Driver::start("redis-multiplexed")?, connection: Mutex::new(None) })
    }

    /// The server's answer; its refusal is an error.
    pub(super) fn query(&self, command: &Cmd) -> RedisResult<Value> {
        let mut connection = self.connection()?;
        let answer: RedisResult<Value> = self.runtime.block_on(command.query_async(&mut connection));
        if answer.as_ref().is_err_and(RedisError::is_unrecoverable_error) {
            *lock(&self.connection) = None;
        }
        answer
    }

    fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut connection = lock(&self.connection);
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(STALL_TIMEOUT));
        let made = self.client.get_multiplexed_async_connection_with_config(&config);
        Ok(connection.insert(self.runtime.block_on(made)?).clone())
    }
}

impl fmt::Debug for Multiplexed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiplexed").finish_non_exhaustive()
    }
}
