//! What went wrong at a Redis server, and what to do about it.

use std::io;

use redis::RedisError;

use super::{NAME, RedisServer, Refused, STALL_TIMEOUT, remedy};
use crate::{ConnectorError, Key};

/// Makes errors that name the server.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    connector: String,
}

impl Failures {
    pub(super) fn new(server: &RedisServer) -> Self {
        Self { connector: format!("{NAME} {server}") }
    }

    /// The server could not be reached.
    pub(super) fn connect(&self) -> impl FnOnce(RedisError) -> ConnectorError + use<> {
        let connector = self.connector.clone();
        |source| {
            let remedy = remedy(&source, "--ps-host and --ps-port (`redis-server --port N` starts one)");
            ConnectorError::Redis { connector, action: "connect".into(), source, remedy }
        }
    }

    /// A right is missing.
    pub(super) fn refused(&self, refused: Refused) -> ConnectorError {
        let remedy = remedy(&refused.source, "--ps-host");
        let (connector, action) = (self.connector.clone(), refused.action());
        ConnectorError::Redis { connector, action, source: refused.source, remedy }
    }

    /// A request failed. Nothing is formatted until it does.
    pub(super) fn during<'a>(
        &'a self,
        action: &'static str,
        key: &'a Key,
    ) -> impl FnOnce(RedisError) -> ConnectorError + use<'a> {
        move |source| {
            let connector = self.connector.clone();
            let action = format!("{action} {key}");
            if source.is_timeout() {
                let source = io::Error::new(io::ErrorKind::TimedOut, format!("no progress for {STALL_TIMEOUT:?}"));
                return ConnectorError::Io { connector, action, source };
            }
            let remedy = remedy(&source, "--ps-host");
            ConnectorError::Redis { connector, action, source, remedy }
        }
    }

    /// The server's answer is not one to this request.
    pub(super) fn protocol(&self, action: &str, key: &Key, reason: String) -> ConnectorError {
        ConnectorError::Protocol { connector: self.connector.clone(), action: format!("{action} {key}"), reason }
    }
}
