//! Deletes objects when their leases expire.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lock::lock;
use crate::{Connector, Key};

/// A thread that deletes objects of one connector, each when its lease expires. What is leased when it is dropped stays.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    leases: Mutex<Leases>,
    changed: Condvar,
    expired: AtomicU64,
}

#[derive(Debug, Default)]
struct Leases {
    /// Objects by the instant at which they go.
    due: BTreeMap<Instant, Vec<Key>>,
    ending: bool,
}

impl LeaseKeeper {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub(crate) fn start(connector: Arc<dyn Connector>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new().name("psbench-leases".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.keep(&*connector)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets objects go this long from now. A lease too long to count never expires.
    pub(crate) fn lease(&self, keys: &[Key], lease: Duration) {
        let Some(due) = Instant::now().checked_add(lease) else { return };
        let mut leases = lock(&self.shared.leases);
        let is_next = leases.due.first_key_value().is_none_or(|(next, _)| due < *next);
        leases.due.entry(due).or_default().extend_from_slice(keys);
        drop(leases);
        if is_next {
            self.shared.changed.notify_one();
        }
    }

    /// Objects deleted so far.
    pub(crate) fn expired(&self) -> u64 {
        self.shared.expired.load(Relaxed)
    }
}

impl Shared {
    fn keep(&self, connector: &dyn Connector) {
        while let Some(keys) = self.next() {
            match connector.evict_batch(&keys) {
                Ok(evicted) => {
                    self.expired.fetch_add(evicted, Relaxed);
                }
                // Whoever cleans up by name finds them.
                Err(error) => tracing::warn!(objects = keys.len(), "not deleted at the end of their lease: {error}"),
            }
        }
    }

    /// Waits for the next leases to expire; `None` at the end.
    fn next(&self) -> Option<Vec<Key>> {
        let mut leases = lock(&self.leases);
        while !leases.ending {
            let now = Instant::now();
            let left = match leases.due.first_entry() {
                Some(next) if *next.key() <= now => return Some(next.remove()),
                Some(next) => Some(next.key().duration_since(now)),
                None => None,
            };
            leases = match left {
                Some(left) => self.changed.wait_timeout(leases, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(leases).unwrap_or_else(PoisonError::into_inner),
            };
        }
        None
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        lock(&self.shared.leases).ending = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has panicked only if the connector has, which was told.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::KeySource;
    use crate::memory::MemoryConnector;

    fn wait_until(condition: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < until, "not within 60 s");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn each_object_goes_when_its_lease_expires() {
        let connector: Arc<dyn Connector> =
            Arc::new(MemoryConnector::open(Uuid::new_v4(), 1000, KeySource::random()).unwrap());
        let keys: Vec<Key> = (0..3).map(|_| connector.put(Bytes::from_static(b"x")).unwrap()).collect();
        let keeper = LeaseKeeper::start(Arc::clone(&connector)).unwrap();
        keeper.lease(&keys[..1], Duration::from_secs(3600));
        keeper.lease(&keys[1..2], Duration::from_millis(50));
        // Ahead of those that wait already.
        keeper.lease(&keys[2..], Duration::ZERO);
        keeper.lease(&keys[..1], Duration::MAX);
        wait_until(|| keeper.expired() == 2);
        let left: Vec<bool> = keys.iter().map(|key| connector.exists(key).unwrap()).collect();
        assert_eq!(left, [true, false, false]);
        drop(keeper);
        assert!(connector.exists(&keys[0]).unwrap());
    }
}
