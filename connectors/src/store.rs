//! What a process has around a connector: a cache, counters, and proxies for what it stores.

use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use moka::sync::Cache;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lease::LeaseKeeper;
use crate::meter::{Meter, fetched};
use crate::{Connector, ConnectorError, Key, Lifetime, Proxy, checksum};

/// How a [`Store`] works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// The most bytes of resolved objects to keep for further use; 0: none.
    pub cache_bytes: u64,
    /// Whether proxies carry their objects' checksums.
    pub checksum: bool,
}

/// What a store has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreMetrics {
    /// Objects stored.
    pub puts: u64,
    /// Objects asked for, from the cache or the connector.
    pub gets: u64,
    /// Of these, found in the cache.
    pub hits: u64,
    /// Objects deleted, by themselves or as they were got.
    pub evictions: u64,
    /// Objects deleted because their lease had expired.
    pub expired: u64,
    /// Bytes stored.
    pub bytes_put: u64,
    /// Bytes got from the connector.
    pub bytes_got: u64,
    /// Time spent storing, summed over threads, nanoseconds.
    pub put_nanos: u64,
    /// Time spent getting from the connector, summed over threads, nanoseconds.
    pub get_nanos: u64,
    /// Operations of the connector that failed.
    pub errors: u64,
}

impl AddAssign for StoreMetrics {
    fn add_assign(&mut self, other: Self) {
        self.puts += other.puts;
        self.gets += other.gets;
        self.hits += other.hits;
        self.evictions += other.evictions;
        self.expired += other.expired;
        self.bytes_put += other.bytes_put;
        self.bytes_got += other.bytes_got;
        self.put_nanos += other.put_nanos;
        self.get_nanos += other.get_nanos;
        self.errors += other.errors;
    }
}

/// A connector with a cache, counters and proxies.
pub struct Store {
    connector: Arc<dyn Connector>,
    checksum: bool,
    cache: Option<Cache<Uuid, Bytes>>,
    puts: Meter,
    gets: Meter,
    evicts: Meter,
    hits: AtomicU64,
    taken: AtomicU64,
    leases: OnceLock<LeaseKeeper>,
}

impl Store {
    /// Works on `connector`.
    pub fn new(connector: Arc<dyn Connector>, options: StoreOptions) -> Self {
        let cache = (options.cache_bytes > 0).then(|| {
            Cache::builder()
                .max_capacity(options.cache_bytes)
                .weigher(|_, object: &Bytes| u32::try_from(object.len()).unwrap_or(u32::MAX))
                .build()
        });
        Self {
            connector,
            checksum: options.checksum,
            cache,
            puts: Meter::default(),
            gets: Meter::default(),
            evicts: Meter::default(),
            hits: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            leases: OnceLock::new(),
        }
    }

    /// Stores an object.
    pub fn proxy(&self, object: Bytes, lifetime: Lifetime) -> Result<Proxy, ConnectorError> {
        let checksum = self.checksum_of(&object, None);
        let size = object.len() as u64;
        let key = self.puts.measure(|| self.connector.put(object), |_| (1, size))?;
        self.lease(&[key], lifetime)?;
        Ok(self.proxy_for(key, checksum, lifetime))
    }

    /// Stores several objects, in order, each with its [`checksum`] where that is known: a payload that is stored again and again is
    /// hashed once.
    pub fn proxy_batch(
        &self,
        objects: Vec<(Bytes, Option<u64>)>,
        lifetime: Lifetime,
    ) -> Result<Vec<Proxy>, ConnectorError> {
        let (objects, checksums): (Vec<Bytes>, Vec<Option<u64>>) = objects
            .into_iter()
            .map(|(object, known)| {
                let checksum = self.checksum_of(&object, known);
                (object, checksum)
            })
            .unzip();
        let size = objects.iter().map(|object| object.len() as u64).sum();
        let keys = self.puts.measure(|| self.connector.put_batch(objects), |keys| (keys.len() as u64, size))?;
        self.lease(&keys, lifetime)?;
        Ok(keys.into_iter().zip(checksums).map(|(key, checksum)| self.proxy_for(key, checksum, lifetime)).collect())
    }

    /// The object, or `None` where there is none (any more).
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        if let Some(object) = self.cache.as_ref().and_then(|cache| cache.get(&key.id)) {
            self.hits.fetch_add(1, Relaxed);
            return Ok(Some(object));
        }
        let object = self.gets.measure(|| self.connector.get(key), fetched)?;
        // The cache weighs with 32 bits.
        if let (Some(cache), Some(object)) = (&self.cache, &object)
            && u32::try_from(object.len()).is_ok()
        {
            cache.insert(key.id, object.clone());
        }
        Ok(object)
    }

    /// The object, which is deleted with that, so it is not cached.
    pub fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.forget(key);
        let object = self.gets.measure(|| self.connector.take(key), fetched)?;
        self.taken.fetch_add(u64::from(object.is_some()), Relaxed);
        Ok(object)
    }

    /// Deletes the object. `false` where there was none.
    pub fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.forget(key);
        self.evicts.measure(|| self.connector.evict(key), |evicted| (u64::from(*evicted), 0))
    }

    /// Deletes several objects and returns how many there were.
    pub fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        keys.iter().for_each(|key| self.forget(key));
        self.evicts.measure(|| self.connector.evict_batch(keys), |evicted| (*evicted, 0))
    }

    /// The connector that it works on.
    pub fn connector(&self) -> &Arc<dyn Connector> {
        &self.connector
    }

    /// What it has done so far.
    pub fn metrics(&self) -> StoreMetrics {
        let (puts, gets, evicts) = (self.puts.read(), self.gets.read(), self.evicts.read());
        let hits = self.hits.load(Relaxed);
        StoreMetrics {
            puts: puts.count,
            gets: gets.count + hits,
            hits,
            evictions: evicts.count + self.taken.load(Relaxed),
            expired: self.leases.get().map_or(0, LeaseKeeper::expired),
            bytes_put: puts.bytes,
            bytes_got: gets.bytes,
            put_nanos: puts.nanos,
            get_nanos: gets.nanos,
            errors: puts.errors + gets.errors + evicts.errors,
        }
    }

    fn checksum_of(&self, object: &[u8], known: Option<u64>) -> Option<u64> {
        self.checksum.then(|| known.unwrap_or_else(|| checksum(object)))
    }

    /// Sees to the end of leased objects.
    fn lease(&self, keys: &[Key], lifetime: Lifetime) -> Result<(), ConnectorError> {
        let Lifetime::Leased(lease) = lifetime else { return Ok(()) };
        let keeper = match self.leases.get() {
            Some(keeper) => keeper,
            None => {
                let started = LeaseKeeper::start(Arc::clone(&self.connector)).map_err(|source| ConnectorError::Io {
                    connector: self.connector.address().to_string(),
                    action: "start the thread that keeps leases".into(),
                    source,
                })?;
                // Of two threads that come first, one's keeper ends unused.
                self.leases.get_or_init(|| started)
            }
        };
        keeper.lease(keys, lease);
        Ok(())
    }

    fn proxy_for(&self, key: Key, checksum: Option<u64>, lifetime: Lifetime) -> Proxy {
        Proxy { address: self.connector.address_for(&key), key, checksum, lifetime }
    }

    fn forget(&self, key: &Key) {
        if let Some(cache) = &self.cache {
            cache.invalidate(&key.id);
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("address", &self.connector.address()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeySource;
    use crate::memory::MemoryConnector;

    fn store(options: StoreOptions) -> Store {
        Store::new(Arc::new(MemoryConnector::open(Uuid::new_v4(), 1000, KeySource::random()).unwrap()), options)
    }

    #[test]
    fn everything_is_counted() {
        let store = store(StoreOptions { cache_bytes: 100, checksum: false });
        let proxy = store.proxy(Bytes::from_static(b"abc"), Lifetime::Kept).unwrap();
        assert_eq!(store.get(&proxy.key).unwrap().unwrap(), "abc");
        assert_eq!(store.get(&proxy.key).unwrap().unwrap(), "abc");
        assert!(store.evict(&proxy.key).unwrap());
        assert_eq!(store.get(&proxy.key).unwrap(), None);
        let batch = vec![(Bytes::from_static(b"d"), None), (Bytes::from_static(b"ef"), None)];
        let batch = store.proxy_batch(batch, Lifetime::Owned).unwrap();
        assert_eq!(store.take(&batch[0].key).unwrap().unwrap(), "d");
        assert_eq!(store.evict_batch(&[batch[0].key, batch[1].key]).unwrap(), 1);
        store.proxy(Bytes::from(vec![0; 1001]), Lifetime::Kept).unwrap_err();
        let metrics = store.metrics();
        assert_eq!((metrics.puts, metrics.gets, metrics.hits, metrics.evictions), (3, 4, 1, 3));
        assert_eq!((metrics.bytes_put, metrics.bytes_got, metrics.errors), (6, 4, 1));
    }

    #[test]
    fn a_known_checksum_is_not_made_again() {
        let batch = || vec![(Bytes::from_static(b"abc"), None), (Bytes::from_static(b"abc"), Some(7))];
        let checksums = |checksum| {
            let store = store(StoreOptions { cache_bytes: 0, checksum });
            store
                .proxy_batch(batch(), Lifetime::Kept)
                .unwrap()
                .into_iter()
                .map(|proxy| proxy.checksum)
                .collect::<Vec<_>>()
        };
        assert_eq!(checksums(true), [Some(checksum(b"abc")), Some(7)]);
        assert_eq!(checksums(false), [None, None]);
    }
}
