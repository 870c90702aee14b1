//! What goes through a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts what goes through one session. Every connection of it writes here, so that a count costs one atomic addition for each read
/// or write, not for each byte.
#[derive(Debug, Default)]
pub struct Meter {
    to_target: AtomicU64,
    to_client: AtomicU64,
    open: AtomicU64,
    total: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    buffered: AtomicU64,
    dropped: AtomicU64,
}

/// What went through a session until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes, from whoever connected to the target.
    pub bytes_to_target: u64,
    /// Bytes, from the target to whoever connected.
    pub bytes_to_client: u64,
    /// Connections that are there.
    pub connections_open: u64,
    /// Connections that were accepted.
    pub connections_total: u64,
    /// Connections whose target could not be reached.
    pub connections_refused: u64,
    /// Connections that ended by a reset.
    pub connections_reset: u64,
    /// Bytes that were read and not yet written.
    pub buffered: u64,
    /// Datagrams that were dropped.
    pub dropped: u64,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From whoever connected.
    ToTarget,
    /// Back.
    ToClient,
}

impl Meter {
    /// What was counted.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            bytes_to_target: self.to_target.load(Relaxed),
            bytes_to_client: self.to_client.load(Relaxed),
            connections_open: self.open.load(Relaxed),
            connections_total: self.total.load(Relaxed),
            connections_refused: self.refused.load(Relaxed),
            connections_reset: self.reset.load(Relaxed),
            buffered: self.buffered.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }

    /// Bytes were handed on.
    pub(crate) fn moved(&self, way: Way, bytes: u64) {
        match way {
            Way::ToTarget => self.to_target.fetch_add(bytes, Relaxed),
            Way::ToClient => self.to_client.fetch_add(bytes, Relaxed),
        };
    }

    /// A connection was accepted; it is open until what this returns is dropped.
    pub(crate) fn opened(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Relaxed);
        self.total.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }

    /// A connection's target could not be reached.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// A connection ended by a reset.
    pub(crate) fn reset(&self) {
        self.reset.fetch_add(1, Relaxed);
    }

    /// Bytes were read that wait to be written.
    pub(crate) fn buffer(&self, bytes: u64) {
        self.buffered.fetch_add(bytes, Relaxed);
    }

    /// Such bytes were written, or given up.
    pub(crate) fn unbuffer(&self, bytes: u64) {
        self.buffered.fetch_sub(bytes, Relaxed);
    }

    /// Datagrams were dropped.
    pub(crate) fn dropped(&self, datagrams: u64) {
        self.dropped.fetch_add(datagrams, Relaxed);
    }
}

/// What is held of one way of a connection, as its session's meter knows it: read and not yet written. Nothing is once this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    meter: &'a Meter,
    bytes: AtomicU64,
}

impl<'a> Held<'a> {
    /// Nothing yet.
    pub(crate) fn new(meter: &'a Meter) -> Self {
        Self { meter, bytes: AtomicU64::new(0) }
    }

    /// So many bytes, from now on.
    pub(crate) fn set(&self, bytes: u64) {
        let before = self.bytes.swap(bytes, Relaxed);
        if bytes > before {
            self.meter.buffer(bytes - before);
        } else if bytes < before {
            self.meter.unbuffer(before - bytes);
        }
    }

    /// What was said last.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub(crate) struct Open(Arc<Meter>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_that_of_all_ways_and_ends_with_them() {
        let meter = Meter::default();
        let (one, other) = (Held::new(&meter), Held::new(&meter));
        for (bytes, all) in [(5, 7), (3, 5), (3, 5), (9, 11)] {
            one.set(bytes);
            other.set(2);
            assert_eq!((meter.traffic().buffered, one.bytes()), (all, bytes));
        }
        drop(one);
        assert_eq!(meter.traffic().buffered, 2);
    }
}
