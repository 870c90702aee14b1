//! A connector that fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use crate::{Connector, ConnectorConfig, ConnectorError, Key};

/// Which faults to expect. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Share of the operations that fail, from 0 to 1.
    pub errors: f64,
    /// Share of the objects that come back with a bit flipped, from 0 to 1.
    pub corruptions: f64,
    /// Delay of each operation.
    pub delay: Duration,
    /// Which operations are hit: the same ones each time for the same seed, counted in the order of their start.
    pub seed: u64,
}

/// Disturbs the operations of another connector.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Connector>,
    faults: Faults,
    draws: AtomicU64,
}

impl Faulty {
    /// Disturbs `inner`.
    pub fn new(inner: Arc<dyn Connector>, faults: Faults) -> Self {
        Self { inner, faults, draws: AtomicU64::new(0) }
    }

    /// Delays this operation, and may fail it.
    fn disturb(&self, action: &'static str) -> Result<(), ConnectorError> {
        thread::sleep(self.faults.delay);
        if !self.hits(self.faults.errors) {
            return Ok(());
        }
        Err(ConnectorError::Io {
            connector: self.config().to_string(),
            action: action.into(),
            source: io::Error::other("injected fault"),
        })
    }

    fn corrupt(&self, object: Option<Bytes>) -> Option<Bytes> {
        let object = object?;
        if object.is_empty() || !self.hits(self.faults.corruptions) {
            return Some(object);
        }
        let mut corrupt = Vec::from(object);
        let middle = corrupt.len() / 2;
        corrupt[middle] ^= 1;
        Some(corrupt.into())
    }

    fn hits(&self, share: f64) -> bool {
        uniform(self.faults.seed, self.draws.fetch_add(1, Relaxed)) < share
    }
}

/// The `n`th number of the sequence that `seed` starts, in [0, 1): SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom
/// Number Generators, OOPSLA 2014), whose state is a counter.
fn uniform(seed: u64, n: u64) -> f64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

impl Connector for Faulty {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        self.disturb("put")?;
        self.inner.put(object)
    }

    fn put_batch(&self, objects: Vec<Bytes>) -> Result<Vec<Key>, ConnectorError> {
        self.disturb("put a batch")?;
        self.inner.put_batch(objects)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.disturb("get")?;
        self.inner.get(key).map(|object| self.corrupt(object))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.disturb("look for an object")?;
        self.inner.exists(key)
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.disturb("evict")?;
        self.inner.evict(key)
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        self.disturb("evict a batch")?;
        self.inner.evict_batch(keys)
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.disturb("take")?;
        self.inner.take(key).map(|object| self.corrupt(object))
    }

    fn held(&self) -> Option<u64> {
        self.inner.held()
    }

    fn stop_waiting(&self) {
        self.inner.stop_waiting();
    }

    fn config(&self) -> &ConnectorConfig {
        self.inner.config()
    }

    fn config_for(&self, key: &Key) -> &ConnectorConfig {
        self.inner.config_for(key)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::KeySource;
    use crate::memory::MemoryConnector;

    fn faulty(faults: Faults) -> Faulty {
        Faulty::new(Arc::new(MemoryConnector::open(Uuid::new_v4(), 1 << 20, KeySource::random())), faults)
    }

    #[test]
    fn the_seed_decides_which_operations_fail() {
        let failures = |seed| {
            let connector = faulty(Faults { errors: 0.25, seed, ..Faults::default() });
            (0..1000).map(|_| connector.put(Bytes::from_static(b"x")).is_err()).collect::<Vec<_>>()
        };
        assert_eq!(failures(1), failures(1));
        assert_ne!(failures(1), failures(2));
        let failed = failures(1).into_iter().filter(|failed| *failed).count();
        assert!((200..300).contains(&failed), "{failed} of 1000");
    }

    #[test]
    fn corruption_changes_the_copy_and_not_the_original() {
        let connector = faulty(Faults { corruptions: 1.0, ..Faults::default() });
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        assert_ne!(connector.get(&key).unwrap().unwrap(), "abc");
        assert_eq!(connector.inner.get(&key).unwrap().unwrap(), "abc");
    }
}
