//! Objects at an endpoint of ProxyStore (`proxystore-endpoint`), laid out as ProxyStore's `EndpointConnector` does: the object's
//! name is the endpoint's `object_id`, the value the object behind ProxyStore's prefix.
//!
//! Every request names the endpoint that it is for. The endpoint's interface has neither batches nor a request that evicts what it
//! returns, and does not say whether there was something to evict: [`evict`](Connector::evict) asks first, [`take`](Connector::take)
//! gets and then evicts, so of two that take one object at the same time both may get it.

mod home;
mod http;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::home::{directory, home, locate};
use self::http::Http;
use crate::address::Location;
use crate::descriptor::Descriptor;
use crate::proxystore::{PREFIX, strip_prefix};
use crate::{Address, Connector, ConnectorError, Key, KeySource};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor::of::<EndpointLocation>(NAME, "An endpoint of ProxyStore");

const NAME: &str = "endpoint";

/// An endpoint of ProxyStore.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointLocation {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The endpoint's own identifier.
    pub id: Uuid,
}

impl fmt::Display for EndpointLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, id } = self;
        write!(f, "{id} at {host}:{port}")
    }
}

impl Location for EndpointLocation {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(Arc::new(EndpointConnector::open(self, KeySource::random())?))
    }

    fn outlives_process(&self) -> bool {
        true
    }
}

/// Stores each object at one endpoint, over HTTP.
#[derive(Debug)]
pub struct EndpointConnector {
    address: Address,
    keys: KeySource,
    http: Http,
}

impl EndpointConnector {
    /// Makes sure that the endpoint answers there.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] where nothing or something else answers there, within 30 s.
    pub fn open(endpoint: &EndpointLocation, keys: KeySource) -> Result<Self, ConnectorError> {
        let http = Http::new(endpoint);
        http.check()?;
        Ok(Self { address: Address::of(endpoint)?, keys, http })
    }
}

impl Connector for EndpointConnector {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let key = self.keys.next(object.len() as u64);
        self.http.set(&key, &[PREFIX, &object])?;
        Ok(key)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let Some(value) = self.http.get(key, PREFIX.len() as u64)? else { return Ok(None) };
        strip_prefix(&value.into()).map(Some).map_err(|reason| self.http.protocol("get", key, reason))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.http.exists(key)
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        let found = self.http.exists(key)?;
        if found {
            self.http.evict(key)?;
        }
        Ok(found)
    }

    /// Without the question of [`evict`](Self::evict) whether it is there, a request that the get has answered.
    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let object = self.get(key)?;
        if object.is_some() {
            self.http.evict(key)?;
        }
        Ok(object)
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}
