//! A connector that counts.

use std::sync::Arc;

use bytes::Bytes;

use crate::meter::{Meter, fetched};
use crate::{Connector, ConnectorConfig, ConnectorError, Key, Reading};

/// Counts and times each kind of operation of another connector.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Connector>,
    put: Meter,
    get: Meter,
    exists: Meter,
    evict: Meter,
    take: Meter,
}

/// What a [`Metered`] connector has seen so far. A batch counts as many operations as it has objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// `put` and `put_batch`.
    pub put: Reading,
    /// `get`.
    pub get: Reading,
    /// `exists`.
    pub exists: Reading,
    /// `evict` and `evict_batch`.
    pub evict: Reading,
    /// `take`.
    pub take: Reading,
}

impl Metered {
    /// Counts what `inner` does.
    pub fn new(inner: Arc<dyn Connector>) -> Self {
        Self {
            inner,
            put: Meter::default(),
            get: Meter::default(),
            exists: Meter::default(),
            evict: Meter::default(),
            take: Meter::default(),
        }
    }

    /// What it has seen so far.
    pub fn read(&self) -> Readings {
        Readings {
            put: self.put.read(),
            get: self.get.read(),
            exists: self.exists.read(),
            evict: self.evict.read(),
            take: self.take.read(),
        }
    }
}

impl Connector for Metered {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let size = object.len() as u64;
        self.put.measure(|| self.inner.put(object), |_| (1, size))
    }

    fn put_batch(&self, objects: Vec<Bytes>) -> Result<Vec<Key>, ConnectorError> {
        let size = objects.iter().map(|object| object.len() as u64).sum();
        self.put.measure(|| self.inner.put_batch(objects), |keys| (keys.len() as u64, size))
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.get.measure(|| self.inner.get(key), fetched)
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.exists.measure(|| self.inner.exists(key), |_| (1, 0))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.evict.measure(|| self.inner.evict(key), |_| (1, 0))
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        self.evict.measure(|| self.inner.evict_batch(keys), |_| (keys.len() as u64, 0))
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.take.measure(|| self.inner.take(key), fetched)
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

    #[test]
    fn operations_bytes_and_errors_are_counted() {
        let metered = Metered::new(Arc::new(MemoryConnector::open(Uuid::new_v4(), 10, KeySource::random())));
        let keys = metered.put_batch(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]).unwrap();
        metered.put(Bytes::from_static(&[0; 11])).unwrap_err();
        metered.get(&keys[0]).unwrap();
        metered.take(&keys[0]).unwrap();
        metered.get(&keys[0]).unwrap();
        metered.evict_batch(&keys).unwrap();
        let readings = metered.read();
        assert_eq!((readings.put.count, readings.put.bytes, readings.put.errors), (2, 3, 1));
        assert_eq!((readings.get.count, readings.get.bytes), (2, 2));
        assert_eq!((readings.take.count, readings.take.bytes), (1, 2));
        assert_eq!((readings.exists, readings.evict.count), (Reading::default(), 2));
        assert!(readings.put.nanos > 0);
    }
}
