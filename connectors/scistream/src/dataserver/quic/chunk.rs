//! Memory for what is on its way from a connection into a stream.
//!
//! A read of TCP goes into a chunk, which quinn then owns until the other gateway has acknowledged it: nothing copies between the two.
//! Chunks are used again, because memory that is touched for the first time costs more than what is done with it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::forward::Meter;

/// Bytes of a chunk: what a read of a fast connection finds.
const CHUNK: usize = 256 << 10;

/// Reads that fill less of a chunk than this are copied out of it, so that few bytes don't keep much memory: what is on its way takes at
/// most `CHUNK / WORTH` = 4 times its own size.
const WORTH: usize = CHUNK / 4;

/// Chunks that are kept for later use.
const KEPT: usize = 64;

/// Chunks of one lane.
#[derive(Debug)]
pub(super) struct Chunks {
    free: Mutex<Vec<Box<[u8]>>>,
    /// What is in chunks counts as buffered.
    meter: Arc<Meter>,
}

impl Chunks {
    /// None yet.
    pub(super) fn new(meter: &Arc<Meter>) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), meter: Arc::clone(meter) })
    }

    /// One to read into.
    pub(super) fn take(self: &Arc<Self>) -> Chunk {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buffer = free.unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
        Chunk { buffer, filled: 0, home: Arc::clone(self) }
    }

    fn give_back(&self, buffer: Box<[u8]>, filled: usize) {
        self.meter.unbuffer(filled as u64);
        if buffer.len() < CHUNK {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

/// Goes back to where it came from when it, and all of the bytes made of it, are dropped.
#[derive(Debug)]
pub(super) struct Chunk {
    buffer: Box<[u8]>,
    filled: usize,
    home: Arc<Chunks>,
}

impl Chunk {
    /// Where to read to, up to so many bytes.
    pub(super) fn space(&mut self, most: usize) -> &mut [u8] {
        let most = most.min(self.buffer.len());
        &mut self.buffer[..most]
    }

    /// What was read, of its first bytes.
    pub(super) fn freeze(mut self, filled: usize) -> Bytes {
        if filled < WORTH {
            let buffer = self.buffer[..filled].into();
            self = Self { buffer, filled: 0, home: Arc::clone(&self.home) };
        }
        self.filled = filled;
        self.home.meter.buffer(filled as u64);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer), self.filled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_used_again_once_nobody_has_a_part_of_them() {
        let meter = Arc::default();
        let chunks = Chunks::new(&meter);
        let mut chunk = chunks.take();
        chunk.space(usize::MAX).fill(7);
        let mut bytes = chunk.freeze(CHUNK);
        let part = bytes.split_off(CHUNK / 2);
        drop(bytes);
        assert_eq!(chunks.free.lock().unwrap().len(), 0);
        assert_eq!(meter.traffic().buffered, CHUNK as u64);
        assert!(part.iter().all(|byte| *byte == 7));
        drop(part);
        assert_eq!((chunks.free.lock().unwrap().len(), meter.traffic().buffered), (1, 0));
        chunks.take();
        assert_eq!(chunks.free.lock().unwrap().len(), 1);
    }

    #[test]
    fn few_bytes_keep_no_chunk() {
        let meter = Arc::default();
        let chunks = Chunks::new(&meter);
        let mut chunk = chunks.take();
        chunk.space(3).copy_from_slice(b"abc");
        let bytes = chunk.freeze(3);
        assert_eq!(chunks.free.lock().unwrap().len(), 1);
        assert_eq!((&bytes[..], meter.traffic().buffered), (&b"abc"[..], 3));
        drop(bytes);
        assert_eq!((chunks.free.lock().unwrap().len(), meter.traffic().buffered), (1, 0));
    }
}
