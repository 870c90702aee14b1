//! Objects at an endpoint of ProxyStore (`proxystore-endpoint`), laid out as ProxyStore's `EndpointConnector` does: the object's
//! name is the endpoint's `object_id`, the value the object behind ProxyStore's prefix.
//!
//! Every request names the endpoint that it is for. The endpoint's interface has neither batches nor a request that evicts what it
//! returns, and does not say whether there was something to evict: [`evict`](Connector::evict) asks first, [`take`](Connector::take)
//! gets and then evicts, so of two that take one object at the same time both may get it.

mod home;
mod http;

use bytes::Bytes;
use uuid::Uuid;

pub use self::home::{directory, home, locate};
use self::http::Http;
use crate::proxystore::{PREFIX, strip_prefix};
use crate::{Connector, ConnectorConfig, ConnectorError, Key, KeySource};

/// Stores each object at one endpoint, over HTTP.
#[derive(Debug)]
pub struct EndpointConnector {
    config: ConnectorConfig,
    keys: KeySource,
    http: Http,
}

impl EndpointConnector {
    /// Makes sure that endpoint `id` answers at this address.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] where nothing or something else answers there, within 30 s.
    pub fn open(host: &str, port: u16, id: Uuid, keys: KeySource) -> Result<Self, ConnectorError> {
        let config = ConnectorConfig::Endpoint { host: host.into(), port, id };
        let http = Http::new(&config, host, port, id);
        http.check()?;
        Ok(Self { config, keys, http })
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

    fn config(&self) -> &ConnectorConfig {
        &self.config
    }
}
