//! Memory that records lie in.

use std::cell::RefCell;
use std::mem::take;
use std::ops::{Deref, DerefMut};

use super::record::{KEY_UPDATE_RECORD, LONGEST, RECORD};

/// Records that are read, sealed or opened, and written together: half of what a core's own cache (1 MiB) holds. Through two
/// gateways, 64 KiB samples, CPU s/GB of gateways and sink: 1.07 with 8, 0.96 with 16, 0.83 with 32, 0.78 with 64.
pub(super) const BATCH: usize = 32;

/// Bytes of one: a batch, and room for what is in front of or behind it.
const LEN: usize = BATCH * RECORD + LONGEST + KEY_UPDATE_RECORD;

/// What a thread keeps for later; more than a few are in use only while receivers stall.
const KEPT: usize = 4;

thread_local! {
    /// The one that was used last is taken first: it is still in the cache.
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A connection has some only while it holds bytes, so that idle ones cost none, and all of a thread's use the same. It goes back to its
/// thread's pool.
#[derive(Debug)]
pub(super) struct Memory(Box<[u8]>);

impl Memory {
    /// Allocates only if the thread has none left.
    pub(super) fn take() -> Self {
        Self(FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; LEN].into()))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let memory = take(&mut self.0);
        // A thread that ends has no pool any more.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(memory);
            }
        });
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
