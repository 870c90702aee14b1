//! What went wrong at a Redis server, and what to do about it.

use std::io;

use redis::RedisError;

use super::STALL_TIMEOUT;
use crate::{ConnectorConfig, ConnectorError, Key};

/// Makes errors that name the server.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    connector: String,
}

impl Failures {
    pub(super) fn new(config: &ConnectorConfig) -> Self {
        Self { connector: config.to_string() }
    }

    /// The server could not be reached.
    pub(super) fn connect(&self) -> impl FnOnce(RedisError) -> ConnectorError + use<> {
        let connector = self.connector.clone();
        |source| ConnectorError::Redis {
            connector,
            action:
                "connect (is the server running? --ps-host and --ps-port name it, `redis-server --port N` starts one)"
                    .into(),
            source,
        }
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
            let remedy = match source.code() {
                Some("OOM") => " (the server is at its maxmemory: raise it, or have fewer objects outstanding)",
                Some("NOAUTH" | "NOPERM") => " (psbench sends no password: use a server that lets this host in)",
                _ => "",
            };
            ConnectorError::Redis { connector, action: action + remedy, source }
        }
    }

    /// The server's answer is not one to this request.
    pub(super) fn protocol(&self, action: &str, key: &Key, reason: String) -> ConnectorError {
        ConnectorError::Protocol { connector: self.connector.clone(), action: format!("{action} {key}"), reason }
    }
}
