//! Objects in memory, bounded by their bytes.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::lock::lock;
use crate::{ConnectorError, Key};

/// How long a full map waits for an eviction.
const PATIENCE: Duration = Duration::from_secs(30);

/// Objects by name, in whatever holds their bytes. Whoever gets one shares its memory.
#[derive(Debug)]
pub(crate) struct ObjectMap<O = Bytes> {
    /// The connector and its place, for errors.
    connector: String,
    limit: u64,
    patience: Duration,
    state: Mutex<State<O>>,
    evicted: Condvar,
}

#[derive(Debug)]
struct State<O> {
    objects: HashMap<Uuid, O>,
    /// Bytes of all objects and all room that was made; never above the limit.
    held: u64,
    evictions: u64,
    /// Nobody will make room any more.
    hopeless: bool,
}

/// Room for one object that is not there yet; free again when dropped unused.
#[derive(Debug)]
pub(crate) struct Room<'a, O: Object> {
    map: &'a ObjectMap<O>,
    size: u64,
}

/// What a map holds: bytes somewhere, cheap to clone.
pub(crate) trait Object: Clone {
    /// How many bytes.
    fn size(&self) -> u64;
}

impl Object for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl<O: Object> ObjectMap<O> {
    /// An empty map that holds at most `limit` bytes of objects for `connector`.
    pub(crate) fn new(connector: String, limit: u64) -> Self {
        let state = Mutex::new(State { objects: HashMap::new(), held: 0, evictions: 0, hopeless: false });
        Self { connector, limit, patience: PATIENCE, state, evicted: Condvar::new() }
    }

    /// The most bytes that it holds.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Holds the object from now on. Waits for evictions while there is no room.
    pub(crate) fn put(&self, key: &Key, object: O) -> Result<(), ConnectorError> {
        self.room_for(object.size())?.fill(key, object);
        Ok(())
    }

    /// Makes room for an object of `size` bytes. Waits for evictions while there is none.
    pub(crate) fn room_for(&self, size: u64) -> Result<Room<'_, O>, ConnectorError> {
        if size > self.limit {
            return Err(ConnectorError::TooLarge {
                connector: self.connector.clone(),
                size,
                limit: self.limit,
                remedy: "raise --ps-memory-limit".into(),
            });
        }
        let mut state = lock(&self.state);
        while size > self.limit - state.held {
            let seen = state.evictions;
            let (waited, timeout) = self
                .evicted
                .wait_timeout_while(state, self.patience, |state| state.evictions == seen && !state.hopeless)
                .unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if timeout.timed_out() || state.hopeless {
                return Err(self.full(size, state.held));
            }
        }
        state.held += size;
        Ok(Room { map: self, size })
    }

    /// Lets nobody wait for room any more.
    pub(crate) fn stop_waiting(&self) {
        lock(&self.state).hopeless = true;
        self.evicted.notify_all();
    }

    /// How many objects it holds.
    pub(crate) fn len(&self) -> u64 {
        lock(&self.state).objects.len() as u64
    }

    /// The object, shared.
    pub(crate) fn get(&self, key: &Key) -> Option<O> {
        lock(&self.state).objects.get(&key.id).cloned()
    }

    /// Whether the object is held.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        lock(&self.state).objects.contains_key(&key.id)
    }

    /// Removes the object and hands it out, so that its memory is freed (slow for a large one) after the lock.
    pub(crate) fn take(&self, key: &Key) -> Option<O> {
        let mut state = lock(&self.state);
        let object = state.objects.remove(&key.id)?;
        self.make_room(state, object.size());
        Some(object)
    }

    fn make_room(&self, mut state: MutexGuard<'_, State<O>>, size: u64) {
        state.held -= size;
        state.evictions += 1;
        drop(state);
        self.evicted.notify_all();
    }

    fn full(&self, size: u64, held: u64) -> ConnectorError {
        ConnectorError::Full {
            connector: self.connector.clone(),
            size,
            held,
            limit: self.limit,
            remedy: format!(
                "nothing was resolved and evicted for {:?}: check that workers resolve, or raise --ps-memory-limit",
                self.patience
            ),
        }
    }
}

impl<O: Object> Room<'_, O> {
    /// Holds the object from now on; it has the size that the room was made for.
    pub(crate) fn fill(mut self, key: &Key, object: O) {
        debug_assert_eq!(object.size(), self.size, "the room was made for another object");
        // What a name stood for before gives up its room, as this room does when it was not filled.
        let replaced = lock(&self.map.state).objects.insert(key.id, object);
        self.size = replaced.map_or(0, |replaced| replaced.size());
    }
}

impl<O: Object> Drop for Room<'_, O> {
    fn drop(&mut self) {
        if self.size > 0 {
            self.map.make_room(lock(&self.map.state), self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::KeySource;

    fn map(limit: u64, patience: Duration) -> ObjectMap {
        ObjectMap { patience, ..ObjectMap::new("memory test".into(), limit) }
    }

    #[test]
    fn a_full_map_gives_up_and_says_what_to_do() {
        let map = map(10, Duration::from_millis(20));
        let keys = KeySource::random();
        map.put(&keys.next(8), Bytes::from_static(&[0; 8])).unwrap();
        let error = map.put(&keys.next(3), Bytes::from_static(&[0; 3])).unwrap_err();
        assert!(matches!(error, ConnectorError::Full { size: 3, held: 8, limit: 10, .. }));
        assert!(error.to_string().contains("--ps-memory-limit"), "{error}");
    }

    #[test]
    fn an_object_beyond_the_limit_fails_at_once() {
        let map = map(10, Duration::from_secs(3600));
        let error = map.put(&KeySource::random().next(11), Bytes::from_static(&[0; 11])).unwrap_err();
        assert!(matches!(error, ConnectorError::TooLarge { size: 11, limit: 10, .. }));
    }

    #[test]
    fn who_waits_can_be_told_to_stop() {
        let map = map(10, Duration::from_secs(3600));
        let keys = KeySource::random();
        map.put(&keys.next(10), Bytes::from_static(&[1; 10])).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| map.put(&keys.next(10), Bytes::from_static(&[2; 10])));
            map.stop_waiting();
            assert!(matches!(waiting.join().unwrap(), Err(ConnectorError::Full { .. })));
        });
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn an_eviction_lets_the_next_object_in() {
        let map = map(10, Duration::from_secs(3600));
        let keys = KeySource::random();
        let first = keys.next(10);
        map.put(&first, Bytes::from_static(&[1; 10])).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| map.put(&keys.next(10), Bytes::from_static(&[2; 10])));
            assert_eq!(map.take(&first).unwrap(), &[1; 10][..]);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn room_that_is_not_filled_is_free_again() {
        let map = map(10, Duration::ZERO);
        let keys = KeySource::random();
        let room = map.room_for(10).unwrap();
        map.put(&keys.next(1), Bytes::from_static(&[0])).unwrap_err();
        drop(room);
        let key = keys.next(10);
        map.room_for(10).unwrap().fill(&key, Bytes::from_static(&[1; 10]));
        map.put(&keys.next(1), Bytes::from_static(&[0])).unwrap_err();
        assert_eq!(map.take(&key).unwrap(), &[1; 10][..]);
        map.put(&keys.next(10), Bytes::from_static(&[2; 10])).unwrap();
    }

    #[test]
    fn an_object_is_shared_not_copied() {
        let map = map(10, Duration::ZERO);
        let key = KeySource::random().next(3);
        let object = Bytes::from(vec![1, 2, 3]);
        map.put(&key, object.clone()).unwrap();
        assert_eq!(map.get(&key).unwrap().as_ptr(), object.as_ptr());
    }
}
