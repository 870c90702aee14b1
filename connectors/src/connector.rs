//! The contract of a place for bulk data.

use std::fmt;

use bytes::Bytes;

use crate::{Address, Key};

/// Stores immutable objects under keys that it makes (from its [`KeySource`](crate::KeySource)).
///
/// Called from the generator's thread (`put`) and from workers' threads (the rest), several at once; every call may block, and is
/// bounded: by the connector's own time limit (no progress for that long), never for ever. Never called from asynchronous code. A
/// connector must not copy an object more often than its transport does, and must not retain what was evicted.
pub trait Connector: Send + Sync + fmt::Debug {
    /// Stores one object.
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError>;

    /// Stores several objects, in order, with as few round trips as the transport allows. After an error some may be stored:
    /// whoever made the [`KeySource`](crate::KeySource) knows under which keys.
    fn put_batch(&self, objects: Vec<Bytes>) -> Result<Vec<Key>, ConnectorError> {
        objects.into_iter().map(|object| self.put(object)).collect()
    }

    /// The object, or `None` where there is none under this key (any more).
    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError>;

    /// Whether there is an object under this key.
    fn exists(&self, key: &Key) -> Result<bool, ConnectorError>;

    /// Deletes the object. `false` where there was none: not an error.
    fn evict(&self, key: &Key) -> Result<bool, ConnectorError>;

    /// Deletes several objects and returns how many there were.
    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        keys.iter().try_fold(0, |evicted, key| Ok(evicted + u64::from(self.evict(key)?)))
    }

    /// The object, which is deleted with that: [`get`](Self::get) and [`evict`](Self::evict) in one round trip where the transport
    /// allows.
    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let object = self.get(key)?;
        if object.is_some() {
            self.evict(key)?;
        }
        Ok(object)
    }

    /// Objects that this process itself holds for others; `None` where they are elsewhere.
    fn held(&self) -> Option<u64> {
        None
    }

    /// Whoever waits in [`put`](Self::put) for room waits no longer, now and from now on: nobody will make any.
    fn stop_waiting(&self) {}

    /// How another process reaches the same objects: see [`Address::connect`]. It may change with time, for objects that are
    /// stored from then on.
    fn address(&self) -> Address;

    /// How another process reaches this object: what a proxy for it carries.
    fn address_for(&self, _: &Key) -> Address {
        self.address()
    }
}

/// Why a connector could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The place where the objects live can't be reached, or broke off.
    #[error("{connector}: {action}: {source}")]
    Io {
        /// The connector and its place, for example `file /data` or `peer 127.0.0.1:4000`.
        connector: String,
        /// What was tried, for example `connect` or `put 0192…`.
        action: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The Redis server refused or did not answer.
    #[error("{connector}: {action}: {}{remedy}", crate::redis::said(source))]
    Redis {
        /// The connector and its server.
        connector: String,
        /// What was tried.
        action: String,
        /// The client's reason.
        source: ::redis::RedisError,
        /// What to do, beginning with a separator, or empty.
        remedy: String,
    },
    /// The service refused, or can't be reached.
    #[error("{connector}: {action}: {reason}")]
    Refused {
        /// The connector and its place.
        connector: String,
        /// What was tried.
        action: String,
        /// The service's own words, and what to do.
        reason: String,
    },
    /// The object is larger than this connector ever holds.
    #[error("{connector}: an object of {size} bytes exceeds the limit of {limit} bytes; {remedy}")]
    TooLarge {
        /// The connector.
        connector: String,
        /// The object's size, bytes.
        size: u64,
        /// The most bytes that an object may have.
        limit: u64,
        /// What to do.
        remedy: String,
    },
    /// The store has reached its bound and nothing was evicted in time.
    #[error("{connector}: full: an object of {size} bytes does not fit beside {held} of {limit} bytes; {remedy}")]
    Full {
        /// The connector.
        connector: String,
        /// Size of the object that found no room, bytes.
        size: u64,
        /// Bytes held.
        held: u64,
        /// The bound, bytes.
        limit: u64,
        /// What to do.
        remedy: String,
    },
    /// These objects can't be reached from this process or host at all.
    #[error("{connector}: {reason}")]
    Unreachable {
        /// The connector.
        connector: String,
        /// Why, and which connector to use instead.
        reason: String,
    },
    /// A connector that a program brings with it failed for a reason of its own.
    #[error(transparent)]
    Own(Box<dyn std::error::Error + Send + Sync>),
    /// The other side broke the protocol.
    #[error("{connector}: {action}: {reason}")]
    Protocol {
        /// The connector and its place.
        connector: String,
        /// What was tried.
        action: String,
        /// What was wrong.
        reason: String,
    },
}

impl ConnectorError {
    /// Of a connector that a program brings with it. The reason should name the connector, its place and the object.
    pub fn own(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Own(reason.into())
    }

    /// Whether the connection was gone, so that a new one may serve the same request.
    pub(crate) fn is_disconnect(&self) -> bool {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
            }
            Self::Redis { source, .. } => source.is_connection_dropped(),
            _ => false,
        }
    }
}
