//! What can go wrong between a client and the process that stored the objects.

use std::io;

use crate::{ConnectorError, Key};

/// Makes a client's errors, which name its connector.
#[derive(Debug)]
pub(crate) struct Failures {
    connector: String,
}

impl Failures {
    pub(crate) fn new(connector: String) -> Self {
        Self { connector }
    }

    /// The connection failed while `key` was asked for.
    pub(crate) fn io(&self, key: &Key, source: io::Error) -> ConnectorError {
        ConnectorError::Io { connector: self.connector.clone(), action: format!("ask for {key}"), source }
    }

    /// The server answered something that it should not.
    pub(crate) fn protocol(&self, key: &Key, reason: String) -> ConnectorError {
        ConnectorError::Protocol { connector: self.connector.clone(), action: format!("ask for {key}"), reason }
    }

    /// An object has to be of the size it was stored with, where that is known.
    pub(crate) fn check_size(&self, key: &Key, size: u64) -> Result<(), ConnectorError> {
        match key.size.filter(|stored| *stored != size) {
            None => Ok(()),
            Some(stored) => {
                Err(self.protocol(key, format!("the object has {size} bytes, it was stored with {stored}")))
            }
        }
    }

    /// A client can't store.
    pub(crate) fn put(&self) -> ConnectorError {
        ConnectorError::Unreachable {
            connector: self.connector.clone(),
            reason: "only the process that serves the objects may store them: use the `file` or `redis` connector"
                .into(),
        }
    }
}
