//! The worker's side: from proxies to objects.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::{ConnectorConfig, ConnectorError, Key, Lifetime, Proxy, Store, StoreMetrics, StoreOptions, checksum};

/// Resolves proxies, over one connected store for each connector that they name.
#[derive(Debug)]
pub struct Resolver {
    worker: String,
    options: StoreOptions,
    stores: RwLock<HashMap<Arc<ConnectorConfig>, Arc<Store>>>,
}

/// Each has connections and threads of its own, and proxies of other programs name what they like.
const MOST_STORES: usize = 256;

/// What a proxy stood for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The object.
    pub bytes: Bytes,
    /// Whether the object was deleted with this.
    pub evicted: bool,
}

/// A proxy could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} can't resolve {key} ({connector}): {reason}")]
pub struct ResolveError {
    /// Which worker tried.
    pub worker: String,
    /// The object's name and size.
    pub key: Key,
    /// The connector and its place.
    pub connector: String,
    /// Why it failed.
    #[source]
    pub reason: ResolveFailure,
}

/// Why a proxy could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveFailure {
    /// There is no such object.
    #[error("no such object: {}, or whoever held it has ended", .0.end())]
    Gone(Lifetime),
    /// The connector failed.
    #[error(transparent)]
    Connector(Box<ConnectorError>),
    /// The object has another size than was stored.
    #[error("{expected} bytes were stored and {got} came back")]
    Length {
        /// Bytes stored.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The object's content is not what was stored.
    #[error("corrupt: the checksum of what was stored is {expected:016x}, of what came back {got:016x}")]
    Checksum {
        /// Of what was stored.
        expected: u64,
        /// Of what came.
        got: u64,
    },
}

impl From<ConnectorError> for ResolveFailure {
    fn from(error: ConnectorError) -> Self {
        Self::Connector(Box::new(error))
    }
}

impl Resolver {
    /// Resolves for the worker of this name, which errors give.
    pub fn new(worker: impl Into<String>, options: StoreOptions) -> Self {
        Self { worker: worker.into(), options, stores: RwLock::default() }
    }

    /// The object that `proxy` stands for, deleted from its connector where the proxy says so. Its size is always checked, its
    /// content where `verify` says so and the proxy has a checksum.
    pub fn resolve(&self, proxy: &Proxy, verify: bool) -> Result<Resolved, ResolveError> {
        self.try_resolve(proxy, verify).map_err(|reason| ResolveError {
            worker: self.worker.clone(),
            key: proxy.key,
            connector: proxy.config.to_string(),
            reason,
        })
    }

    /// What its stores have done so far, summed.
    pub fn metrics(&self) -> StoreMetrics {
        let stores = self.stores.read().unwrap_or_else(PoisonError::into_inner);
        let mut sum = StoreMetrics::default();
        stores.values().for_each(|store| sum += store.metrics());
        sum
    }

    fn try_resolve(&self, proxy: &Proxy, verify: bool) -> Result<Resolved, ResolveFailure> {
        let store = self.store(&proxy.config)?;
        let evicts = proxy.lifetime == Lifetime::Owned;
        let bytes = if evicts { store.take(&proxy.key)? } else { store.get(&proxy.key)? };
        let bytes = bytes.ok_or(ResolveFailure::Gone(proxy.lifetime))?;
        let got = bytes.len() as u64;
        if let Some(expected) = proxy.key.size.filter(|expected| *expected != got) {
            return Err(ResolveFailure::Length { expected, got });
        }
        if let (true, Some(expected)) = (verify, proxy.checksum) {
            let got = checksum(&bytes);
            if got != expected {
                return Err(ResolveFailure::Checksum { expected, got });
            }
        }
        Ok(Resolved { bytes, evicted: evicts })
    }

    fn store(&self, config: &Arc<ConnectorConfig>) -> Result<Arc<Store>, ConnectorError> {
        let known = self.stores.read().unwrap_or_else(PoisonError::into_inner).get(config).cloned();
        if let Some(store) = known {
            return Ok(store);
        }
        let mut stores = self.stores.write().unwrap_or_else(PoisonError::into_inner);
        // Connects within the lock: threads that start together are to share one store, not to connect each.
        if let Some(store) = stores.get(config) {
            return Ok(Arc::clone(store));
        }
        if stores.len() >= MOST_STORES {
            return Err(ConnectorError::Unreachable {
                connector: config.to_string(),
                reason: format!("a worker resolves from {MOST_STORES} connectors at most; let items share one"),
            });
        }
        let store = Arc::new(Store::new(config.connect()?, self.options));
        stores.insert(Arc::clone(config), Arc::clone(&store));
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::KeySource;
    use crate::memory::MemoryConnector;

    const OPTIONS: StoreOptions = StoreOptions { cache_bytes: 1 << 20, checksum: true };

    fn store() -> Store {
        Store::new(Arc::new(MemoryConnector::open(Uuid::new_v4(), 1000, KeySource::random())), OPTIONS)
    }

    #[test]
    fn a_proxy_that_evicts_resolves_once() {
        let (store, resolver) = (store(), Resolver::new("w7", OPTIONS));
        let proxy = store.proxy(Bytes::from_static(b"abc"), Lifetime::Owned).unwrap();
        let resolved = resolver.resolve(&proxy, true).unwrap();
        assert_eq!(resolved, Resolved { bytes: Bytes::from_static(b"abc"), evicted: true });
        let error = resolver.resolve(&proxy, true).unwrap_err();
        assert!(matches!(error.reason, ResolveFailure::Gone(Lifetime::Owned)));
        let text = error.to_string();
        assert!(text.contains("w7") && text.contains(&proxy.key.to_string()) && text.contains("memory"), "{text}");
    }

    #[test]
    fn a_lease_that_expired_is_named() {
        let (store, resolver) = (store(), Resolver::new("w", OPTIONS));
        let lease = |lease| store.proxy(Bytes::from_static(b"abc"), Lifetime::Leased(lease)).unwrap();
        let (short, long) = (lease(Duration::from_millis(1)), lease(Duration::from_secs(3600)));
        while store.metrics().expired == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let error = resolver.resolve(&short, true).unwrap_err().to_string();
        assert!(error.contains("its lease of 1ms has expired"), "{error}");
        assert_eq!(resolver.resolve(&long, true).unwrap().bytes, "abc");
    }

    #[test]
    fn one_that_does_not_is_cached() {
        let (store, resolver) = (store(), Resolver::new("w", OPTIONS));
        let proxy = store.proxy(Bytes::from_static(b"abc"), Lifetime::Kept).unwrap();
        for _ in 0..2 {
            assert!(!resolver.resolve(&proxy, true).unwrap().evicted);
        }
        assert_eq!((resolver.metrics().gets, resolver.metrics().hits), (2, 1));
    }

    #[test]
    fn another_length_and_another_content_are_told() {
        let (store, resolver) = (store(), Resolver::new("w", OPTIONS));
        let mut proxy = store.proxy(Bytes::from_static(b"abc"), Lifetime::Kept).unwrap();
        proxy.checksum = Some(1);
        resolver.resolve(&proxy, false).unwrap();
        let error = resolver.resolve(&proxy, true).unwrap_err();
        assert!(matches!(error.reason, ResolveFailure::Checksum { expected: 1, .. }));
        proxy.key.size = Some(4);
        let error = resolver.resolve(&proxy, true).unwrap_err();
        assert!(matches!(error.reason, ResolveFailure::Length { expected: 4, got: 3 }));
    }

    #[test]
    fn a_stream_can_not_name_connectors_without_end() {
        let resolver = Resolver::new("w", OPTIONS);
        let stores: Vec<Store> = (0..=MOST_STORES).map(|_| store()).collect();
        let resolve = |store: &Store| {
            let proxy = store.proxy(Bytes::from_static(b"abc"), Lifetime::Kept).unwrap();
            resolver.resolve(&proxy, true).map_err(|error| error.to_string())
        };
        stores[..MOST_STORES].iter().for_each(|store| assert!(resolve(store).is_ok()));
        assert!(resolve(&stores[MOST_STORES]).unwrap_err().contains("256 connectors at most"));
        resolve(&stores[0]).unwrap();
    }

    #[test]
    fn a_connector_that_is_gone_is_told() {
        let resolver = Resolver::new("w", OPTIONS);
        let proxy = store().proxy(Bytes::from_static(b"abc"), Lifetime::Kept).unwrap();
        let error = resolver.resolve(&proxy, true).unwrap_err();
        let ResolveFailure::Connector(source) = error.reason else { panic!("{error}") };
        assert!(matches!(*source, ConnectorError::Unreachable { .. }));
    }
}
