//! Objects in this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::Location;
use crate::descriptor::Descriptor;
use crate::lock::lock;
use crate::object_map::ObjectMap;
use crate::{Address, Connector, ConnectorError, Key, KeySource};

/// All spaces that some connector still holds.
static SPACES: LazyLock<Mutex<HashMap<Uuid, Weak<ObjectMap>>>> = LazyLock::new(Mutex::default);

pub(crate) const DESCRIPTOR: Descriptor =
    Descriptor::of::<MemoryLocation>(NAME, "The memory of psbench itself; for the thread executor");

const NAME: &str = "memory";

/// A space of objects within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLocation {
    /// Its name.
    pub space: Uuid,
}

impl fmt::Display for MemoryLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.space.fmt(f)
    }
}

impl Location for MemoryLocation {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(Arc::new(MemoryConnector::connect(self.space)?))
    }
}

/// Shares objects between threads, without a copy.
#[derive(Debug)]
pub struct MemoryConnector {
    address: Address,
    keys: KeySource,
    objects: Arc<ObjectMap>,
}

impl MemoryConnector {
    /// Opens a space of objects, new or shared with whoever has it open in this process (whose limit then holds). It goes when the
    /// last of its connectors goes.
    ///
    /// `limit`: the most bytes that it holds. A `put` above waits for evictions: 30 s without any, and it fails.
    ///
    /// # Errors
    ///
    /// None that can be expected: see [`Address::of`].
    pub fn open(space: Uuid, limit: u64, keys: KeySource) -> Result<Self, ConnectorError> {
        let mut spaces = lock(&SPACES);
        spaces.retain(|_, objects| objects.strong_count() > 0);
        let objects = spaces.get(&space).and_then(Weak::upgrade).unwrap_or_else(|| {
            let objects = Arc::new(ObjectMap::new(format!("{NAME} {space}"), limit));
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
            Some(objects) => Self::over(space, objects, KeySource::random()),
            None => Err(ConnectorError::Unreachable {
                connector: format!("{NAME} {space}"),
                reason: "not open in this process, and no other process can reach it: use the `peer` connector, which serves \
                         objects in memory to other processes"
                    .into(),
            }),
        }
    }

    fn over(space: Uuid, objects: Arc<ObjectMap>, keys: KeySource) -> Result<Self, ConnectorError> {
        Ok(Self { address: Address::of(&MemoryLocation { space })?, keys, objects })
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

    fn address(&self) -> Address {
        self.address.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectorSpec;
    use crate::multi::{Part, Policy};

    #[test]
    fn who_stores_apart_shares_no_space() {
        let memory = ConnectorSpec::Memory { space: Uuid::new_v4(), limit: 10 };
        let part = Part { spec: memory.clone(), policy: Policy::default() };
        for config in [memory, ConnectorSpec::Multi { parts: vec![part], tags: Vec::new() }] {
            let open = |config: &ConnectorSpec| config.open(KeySource::random()).unwrap();
            let (one, same, apart) = (open(&config), open(&config), open(&config.apart()));
            let key = one.put(Bytes::from_static(b"x")).unwrap();
            assert_eq!([same, apart].map(|other| other.exists(&key).unwrap()), [true, false], "{config}");
        }
    }

    #[test]
    fn a_dropped_space_vanishes() {
        let space = Uuid::new_v4();
        let connector = MemoryConnector::open(space, 10, KeySource::random()).unwrap();
        MemoryConnector::connect(space).unwrap();
        drop(connector);
        let error = MemoryConnector::connect(space).unwrap_err();
        assert!(error.to_string().contains("`peer`"), "{error}");
    }

    #[test]
    fn a_space_opened_twice_is_shared() {
        let space = Uuid::new_v4();
        let one = MemoryConnector::open(space, 10, KeySource::random()).unwrap();
        let other = MemoryConnector::open(space, 99, KeySource::random()).unwrap();
        assert!(other.exists(&one.put(Bytes::from_static(b"x")).unwrap()).unwrap());
        assert_eq!(one.address(), other.address());
    }
}
