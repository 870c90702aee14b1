//! The descriptors that flows may take of this process, and how sessions share them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::process::{Resource, getrlimit};

/// The descriptors that flows may take: half of all. Each session may have as many as the others, and as one more session that is not
/// there yet: so whoever comes finds places, whatever the others' clients do. What a session has beyond its share, since others came, its
/// lanes give back.
#[derive(Clone, Debug)]
pub(in crate::dataserver) struct Places(Arc<All>);

#[derive(Debug)]
struct All {
    count: usize,
    taken: AtomicUsize,
    sessions: AtomicUsize,
}

impl Places {
    pub(in crate::dataserver) fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2;
        Self::of(usize::try_from(descriptors).unwrap_or(usize::MAX))
    }

    pub(super) fn of(count: usize) -> Self {
        Self(Arc::new(All { count, taken: AtomicUsize::new(0), sessions: AtomicUsize::new(0) }))
    }

    /// That of a session.
    pub(super) fn share(&self) -> Arc<Share> {
        self.0.sessions.fetch_add(1, Relaxed);
        Arc::new(Share { all: Arc::clone(&self.0), taken: AtomicUsize::new(0) })
    }
}

/// What a session has of all places, until this and all of its places are dropped.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<All>,
    taken: AtomicUsize,
}

impl Share {
    /// Takes a place; `None`: there is none left, or none for this session.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let below = |most| move |taken| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, below(self.most())).ok()?;
        if self.all.taken.fetch_update(Relaxed, Relaxed, below(self.all.count)).is_err() {
            self.taken.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Place(Arc::clone(self)))
    }

    /// Of so many places that a lane of the session has, those that it is to give back.
    pub(super) fn excess(&self, of: usize) -> usize {
        let taken = self.taken.load(Relaxed);
        let excess = taken.saturating_sub(self.most());
        // Those that are being given back are still taken.
        of.min((excess * of).div_ceil(taken.max(1)))
    }

    fn most(&self) -> usize {
        (self.all.count / (self.all.sessions.load(Relaxed) + 1)).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.sessions.fetch_sub(1, Relaxed);
    }
}

/// A descriptor of a session's, until this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Share>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
        self.0.all.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(share: &Arc<Share>) -> Vec<Place> {
        std::iter::from_fn(|| share.take()).collect()
    }

    #[test]
    fn whoever_comes_finds_as_many_places_as_the_others_have() {
        let places = Places::of(60);
        let first = places.share();
        let mut firsts = take_all(&first);
        assert_eq!((firsts.len(), first.excess(30)), (30, 0));
        let second = places.share();
        assert_eq!(take_all(&second).len(), 20);
        // By then the first has more than its share.
        assert_eq!((first.excess(30), first.excess(3), first.excess(0)), (10, 1, 0));
        firsts.truncate(20);
        assert_eq!(first.excess(20), 0);
        assert!(first.take().is_none());
        firsts.truncate(19);
        assert!(first.take().is_some());
        drop((first, firsts));
        assert_eq!(take_all(&second).len(), 30);
    }

    #[test]
    fn few_places_are_taken_once() {
        let places = Places::of(2);
        let shares: Vec<_> = (0..3).map(|_| places.share()).collect();
        let taken: Vec<_> = shares.iter().filter_map(Share::take).collect();
        assert_eq!(taken.len(), 2);
    }
}
