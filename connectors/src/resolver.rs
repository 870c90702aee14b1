//! The worker's side: from proxies to objects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::lock::lock;
use crate::{Address, ConnectorError, Key, Lifetime, Proxy, Store, StoreMetrics, StoreOptions, checksum};

/// Resolves proxies, over one connected store for each connector that they name.
#[derive(Debug)]
pub struct Resolver {
    worker: String,
    options: StoreOptions,
    /// The services that are shown this process's credentials. A proxy names the place of its object, and whoever wrote it may have named
    /// any: one of a stranger's choice would get those.
    trusted: Vec<Address>,
    slots: RwLock<HashMap<Address, Arc<Slot>>>,
}

/// One connector's store.
#[derive(Debug, Default)]
struct Slot {
    store: OnceLock<Arc<Store>>,
    /// When it could last not be reached, and why.
    failure: Mutex<Option<(Instant, String)>>,
}

/// Each has connections and threads of its own, and proxies of other programs name what they like.
const MOST_STORES: usize = 256;

/// For so long a connector that could not be reached is not tried again: else each item that names a dead host takes the time to
/// find that out.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    /// Resolves for the worker of this name, which errors give; not from S3, before [`trusting`](Self::trusting) says from where.
    pub fn new(worker: impl Into<String>, options: StoreOptions) -> Self {
        Self { worker: worker.into(), options, trusted: Vec::new(), slots: RwLock::default() }
    }

    /// Resolves from these services, too, with the credentials of the environment: see [`ConnectorSpec::services`](crate::ConnectorSpec::services).
    #[must_use]
    pub fn trusting(self, trusted: Vec<Address>) -> Self {
        Self { trusted, ..self }
    }

    /// The object that `proxy` stands for, deleted from its connector where the proxy says so. Its size is always checked, its
    /// content where `verify` says so and the proxy has a checksum.
    pub fn resolve(&self, proxy: &Proxy, verify: bool) -> Result<Resolved, ResolveError> {
        self.try_resolve(proxy, verify).map_err(|reason| ResolveError {
            worker: self.worker.clone(),
            key: proxy.key,
            connector: proxy.address.to_string(),
            reason,
        })
    }

    /// What its stores have done so far, summed.
    pub fn metrics(&self) -> StoreMetrics {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut sum = StoreMetrics::default();
        slots.values().filter_map(|slot| slot.store.get()).for_each(|store| sum += store.metrics());
        sum
    }

    fn try_resolve(&self, proxy: &Proxy, verify: bool) -> Result<Resolved, ResolveFailure> {
        let store = self.store(&proxy.address)?;
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

    fn store(&self, address: &Address) -> Result<Arc<Store>, ConnectorError> {
        let known = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(address).cloned();
        let slot = match known {
            Some(slot) => slot,
            None => self.add_slot(address)?,
        };
        slot.store(address, self.options)
    }

    fn add_slot(&self, address: &Address) -> Result<Arc<Slot>, ConnectorError> {
        let refused = |reason| Err(ConnectorError::Unreachable { connector: address.to_string(), reason });
        if let Some(shown) = address.shown().into_iter().find(|shown| !self.trusted.contains(&shown.service)) {
            return refused(shown.refusal);
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(address) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= MOST_STORES {
            // Those that nothing answered at make way.
            slots.retain(|_, slot| slot.store.get().is_some());
        }
        if slots.len() >= MOST_STORES {
            return refused(format!("a worker resolves from {MOST_STORES} connectors at most; let items share one"));
        }
        let slot = Arc::<Slot>::default();
        slots.insert(address.clone(), Arc::clone(&slot));
        Ok(slot)
    }
}

impl Slot {
    /// The store, connected by whoever comes first.
    fn store(&self, address: &Address, options: StoreOptions) -> Result<Arc<Store>, ConnectorError> {
        if let Some(store) = self.store.get() {
            return Ok(Arc::clone(store));
        }
        // Connects within this lock: threads that start together are to share one store, not to connect each.
        let mut failure = lock(&self.failure);
        if let Some(store) = self.store.get() {
            return Ok(Arc::clone(store));
        }
        if let Some((at, reason)) = &*failure
            && at.elapsed() < RETRY_AFTER
        {
            return Err(ConnectorError::Unreachable {
                connector: address.to_string(),
                reason: format!("not tried again within {} s of this: {reason}", RETRY_AFTER.as_secs()),
            });
        }
        match address.connect() {
            Ok(connector) => Ok(Arc::clone(self.store.get_or_init(|| Arc::new(Store::new(connector, options))))),
            Err(error) => {
                *failure = Some((Instant::now(), error.to_string()));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use uuid::Uuid;

    use super::*;
    use crate::memory::MemoryConnector;
    use crate::s3::Bucket;
    use crate::{Connector, ConnectorFactory, KeySource, OWN_CONNECTORS};

    const OPTIONS: StoreOptions = StoreOptions { cache_bytes: 1 << 20, checksum: true };

    fn store() -> Store {
        Store::new(Arc::new(MemoryConnector::open(Uuid::new_v4(), 1000, KeySource::random()).unwrap()), OPTIONS)
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

    /// Can't be connected to; counts who tries. The place `slow` takes its time.
    struct Dead {
        tries: AtomicUsize,
        gate: Barrier,
    }

    impl ConnectorFactory for Dead {
        fn open(&self, place: &str, _: KeySource) -> Result<Arc<dyn Connector>, ConnectorError> {
            self.tries.fetch_add(1, SeqCst);
            if place == "slow" {
                self.gate.wait();
                self.gate.wait();
            }
            Err(ConnectorError::Unreachable { connector: "dead".into(), reason: "nobody answers".into() })
        }
    }

    fn dead(name: &'static str) -> Arc<Dead> {
        let factory = Arc::new(Dead { tries: AtomicUsize::new(0), gate: Barrier::new(2) });
        OWN_CONNECTORS.add(name, Arc::clone(&factory) as Arc<dyn ConnectorFactory>);
        factory
    }

    fn proxy_at(address: Address) -> Proxy {
        Proxy { address, key: KeySource::random().next(3), checksum: None, lifetime: Lifetime::Kept }
    }

    #[test]
    fn a_dead_host_is_not_tried_for_each_item_and_is_tried_again() {
        let (factory, resolver) = (dead("dead-host"), Resolver::new("w", OPTIONS));
        let resolve = || resolver.resolve(&proxy_at(Address::own("dead-host", "x")), true).unwrap_err();
        let start = Instant::now();
        let errors: Vec<String> = (0..100).map(|_| resolve().to_string()).collect();
        assert!(errors.iter().all(|error| error.contains("nobody answers")), "{errors:?}");
        let tries = factory.tries.load(SeqCst) as u64;
        assert!(tries <= 1 + start.elapsed().as_secs(), "{tries} tries");
        std::thread::sleep(RETRY_AFTER);
        resolve();
        assert!(factory.tries.load(SeqCst) as u64 > tries);
    }

    #[test]
    fn a_host_that_takes_its_time_holds_up_nobody_else() {
        let (factory, resolver) = (dead("slow-host"), Resolver::new("w", OPTIONS));
        let (known, new) = (store(), store());
        let proxies = [&known, &new].map(|store| store.proxy(Bytes::from_static(b"abc"), Lifetime::Kept).unwrap());
        resolver.resolve(&proxies[0], true).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| resolver.resolve(&proxy_at(Address::own("slow-host", "slow")), true).unwrap_err());
            // It connects.
            factory.gate.wait();
            for proxy in &proxies {
                assert_eq!(resolver.resolve(proxy, true).unwrap().bytes, "abc");
            }
            factory.gate.wait();
        });
    }

    #[test]
    fn dead_hosts_take_no_place_for_ever() {
        let (_factory, resolver) = (dead("dead-hosts"), Resolver::new("w", OPTIONS));
        for n in 0..2 * MOST_STORES {
            let proxy = proxy_at(Address::own("dead-hosts", &n.to_string()));
            assert!(resolver.resolve(&proxy, true).unwrap_err().to_string().contains("nobody answers"));
        }
        let store = store();
        resolver.resolve(&store.proxy(Bytes::new(), Lifetime::Kept).unwrap(), true).unwrap();
    }

    #[test]
    fn a_strangers_bucket_sees_no_credentials() {
        let bucket = |endpoint: &str| {
            let endpoint = Some(endpoint.into());
            Address::of(&Bucket { bucket: "b".into(), prefix: String::new(), endpoint, region: "r".into() }).unwrap()
        };
        for resolver in
            [Resolver::new("w", OPTIONS), Resolver::new("w", OPTIONS).trusting(vec![bucket("https://s3.localhost")])]
        {
            let error = resolver.resolve(&proxy_at(bucket("http://evil")), true).unwrap_err().to_string();
            assert!(error.contains("at http://evil is not a bucket of this trial"), "{error}");
        }
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
