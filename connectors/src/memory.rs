//! Objects in this process.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use bytes::Bytes;
use uuid::Uuid;

use crate::lock::lock;
use crate::object_map::ObjectMap;
use crate::{Connector, ConnectorConfig, ConnectorError, Key, KeySource};

/// All spaces that some connector still holds.
static SPACES: LazyLock<Mutex<HashMap<Uuid, Weak<ObjectMap>>>> = LazyLock::new(Mutex::default);

/// Shares objects between threads, without a copy.
#[derive(Debug)]
pub struct MemoryConnector {
    config: ConnectorConfig,
    keys: KeySource,
    objects: Arc<ObjectMap>,
}

impl MemoryConnector {
    /// Opens a space of objects, new or shared with whoever has it open in this process (whose limit then holds). It goes when the
    /// last of its connectors goes.
    ///
    /// `limit`: the most bytes that it holds. A `put` above waits for evictions: 30 s without any, and it fails.
    pub fn open(space: Uuid, limit: u64, keys: KeySource) -> Self {
        let mut spaces = lock(&SPACES);
        spaces.retain(|_, objects| objects.strong_count() > 0);
        let objects = spaces.get(&space).and_then(Weak::upgrade).unwrap_or_else(|| {
            let config = ConnectorConfig::Memory { space, limit };
            let objects = Arc::new(ObjectMap::new(config.to_string(), limit));
            spaces.insert(space, Arc::downgrade(&objects));
            objects
        });
        Self::over(space, objects, keys)
    }

    /// Joins a space that is open.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Unreachable`] where this process has no such space.
    pub fn connect(space: Uuid) -> Result<Self, ConnectorError> {
        let objects = lock(&SPACES).get(&space).and_then(Weak::upgrade);
        match objects {
            Some(objects) => Ok(Self::over(space, objects, KeySource::random())),
            None => Err(ConnectorError::Unreachable {
                connector: format!("memory {space}"),
                reason: "not open in this process, and no other process can reach it: use the `peer` connector, which serves \
                         objects in memory to other processes"
                    .into(),
            }),
        }
    }

    fn over(space: Uuid, objects: Arc<ObjectMap>, keys: KeySource) -> Self {
        Self { config: ConnectorConfig::Memory { space, limit: objects.limit() }, keys, objects }
    }
}

impl Connector for MemoryConnector {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let key = self.keys.next(object.len() as u64);
        self.objects.put(&key, object)?;
        Ok(key)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(self.objects.get(key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.objects.contains(key))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.objects.take(key).is_some())
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(self.objects.take(key))
    }

    fn held(&self) -> Option<u64> {
        Some(self.objects.len())
    }

    fn stop_waiting(&self) {
        self.objects.stop_waiting();
    }

    fn config(&self) -> &ConnectorConfig {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multi::{Part, Policy};

    #[test]
    fn who_stores_apart_shares_no_space() {
        let memory = ConnectorConfig::Memory { space: Uuid::new_v4(), limit: 10 };
        let part = Part { config: memory.clone(), policy: Policy::default() };
        for config in [memory, ConnectorConfig::Multi { parts: vec![part], tags: Vec::new() }] {
            let open = |config: &ConnectorConfig| config.open(KeySource::random()).unwrap();
            let (one, same, apart) = (open(&config), open(&config), open(&config.apart()));
            let key = one.put(Bytes::from_static(b"x")).unwrap();
            assert_eq!([same, apart].map(|other| other.exists(&key).unwrap()), [true, false], "{config}");
        }
    }

    #[test]
    fn a_dropped_space_vanishes() {
        let space = Uuid::new_v4();
        let connector = MemoryConnector::open(space, 10, KeySource::random());
        MemoryConnector::connect(space).unwrap();
        drop(connector);
        let error = MemoryConnector::connect(space).unwrap_err();
        assert!(error.to_string().contains("`peer`"), "{error}");
    }

    #[test]
    fn a_space_opened_twice_is_shared() {
        let space = Uuid::new_v4();
        let one = MemoryConnector::open(space, 10, KeySource::random());
        let other = MemoryConnector::open(space, 99, KeySource::random());
        assert!(other.exists(&one.put(Bytes::from_static(b"x")).unwrap()).unwrap());
        assert_eq!(one.config(), other.config());
    }
}
