//! Names of objects.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names one object within its connector, with its size, against which whoever reads the object checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The object's name.
    pub id: Uuid,
    /// The object's size, bytes; absent where only the name is known.
    pub size: Option<u64>,
}

impl Key {
    /// A key of which only the name is known.
    pub fn named(id: Uuid) -> Self {
        Self { id, size: None }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// Makes the names of objects: a random start, then counting up, so that whoever knows the start can name (and clean up) every
/// object that was ever stored from it, even when the process that stored them is gone.
///
/// The names are UUIDs of version 8 (RFC 9562 §5.8): 74 random bits and a counter of 48. Clones share the counter.
#[derive(Clone, Debug)]
pub struct KeySource {
    start: Uuid,
    next: Arc<AtomicU64>,
}

/// The counter's bits: the last 48 of the UUID.
const COUNTER_MASK: u128 = (1 << 48) - 1;

impl KeySource {
    /// A new random start.
    pub fn random() -> Self {
        let random = Uuid::new_v4().as_u128() & !COUNTER_MASK;
        Self::starting_at(uuid::Builder::from_custom_bytes(random.to_be_bytes()).into_uuid())
    }

    /// The names that follow `start`, as [`KeySource::start`] gave it.
    pub fn starting_at(start: Uuid) -> Self {
        Self { start, next: Arc::new(AtomicU64::new(0)) }
    }

    /// Where the counting starts.
    pub fn start(&self) -> Uuid {
        self.start
    }

    /// The name of an object of `size` bytes; a new one with each call.
    pub fn next(&self, size: u64) -> Key {
        Key { id: self.nth(self.next.fetch_add(1, Ordering::Relaxed)), size: Some(size) }
    }

    /// The `n`th name, counted from 0.
    pub fn nth(&self, n: u64) -> Uuid {
        let counter = (self.start.as_u128() + u128::from(n)) & COUNTER_MASK;
        Uuid::from_u128((self.start.as_u128() & !COUNTER_MASK) | counter)
    }

    /// How many names were made.
    pub fn made(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_told_from_the_start_alone() {
        let source = KeySource::random();
        let made: Vec<Uuid> = (0..5).map(|_| source.next(7).id).collect();
        let again = KeySource::starting_at(source.start());
        assert_eq!(made, (0..5).map(|n| again.nth(n)).collect::<Vec<_>>());
        assert_eq!(source.made(), 5);
        assert!(made.iter().all(|id| id.get_version_num() == 8));
    }

    #[test]
    fn two_sources_never_meet() {
        assert_ne!(KeySource::random().nth(0), KeySource::random().nth(0));
    }
}
