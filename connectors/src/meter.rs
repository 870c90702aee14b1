//! Counts and times one kind of operation.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a kind of operation has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// How often it succeeded.
    pub count: u64,
    /// How often it failed.
    pub errors: u64,
    /// Bytes of objects that it moved.
    pub bytes: u64,
    /// Time spent in it, summed over threads, nanoseconds; failures included.
    pub nanos: u64,
}

/// One operation, and the bytes of the object that it found.
pub(crate) fn fetched(object: &Option<Bytes>) -> (u64, u64) {
    (1, object.as_ref().map_or(0, |object| object.len() as u64))
}

/// Counts and times one kind of operation, from many threads.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    count: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
}

impl Meter {
    /// Runs `operation` and counts it as `(operations, bytes)`, which `moved` tells from its result.
    pub(crate) fn measure<T, E>(
        &self,
        operation: impl FnOnce() -> Result<T, E>,
        moved: impl FnOnce(&T) -> (u64, u64),
    ) -> Result<T, E> {
        let start = Instant::now();
        let result = operation();
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        match &result {
            Ok(value) => {
                let (count, bytes) = moved(value);
                self.count.fetch_add(count, Relaxed);
                self.bytes.fetch_add(bytes, Relaxed);
            }
            Err(_) => {
                self.errors.fetch_add(1, Relaxed);
            }
        }
        result
    }

    /// What was counted so far.
    pub(crate) fn read(&self) -> Reading {
        Reading {
            count: self.count.load(Relaxed),
            errors: self.errors.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            nanos: self.nanos.load(Relaxed),
        }
    }
}
