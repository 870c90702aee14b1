//! The server's segments, and which of them are free.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::mapping::WriteMapping;
use crate::lock::lock;

/// The most segments at a time, and so the most descriptors: half of what a process usually may have.
pub(super) const MAX_SEGMENTS: usize = 512;
/// Memory is mapped in pages.
const PAGE: u64 = 4096;

/// Makes segments and keeps those that are not in use for what comes next.
#[derive(Debug)]
pub(super) struct SegmentPool {
    /// The most bytes of segments that are not in use.
    spare_limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many were ever made: each has its own number.
    made: u64,
    /// All that exist and may be used again.
    live: BTreeSet<u64>,
    /// Last used last.
    spare: VecDeque<Segment>,
    spare_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    mapping: WriteMapping,
}

impl Segment {
    fn capacity(&self) -> u64 {
        self.mapping.as_ref().len() as u64
    }
}

/// A segment with an object in it, which it keeps as long as it lives. Then the pool has the segment back.
#[derive(Debug)]
pub(super) struct Loan {
    pool: Arc<SegmentPool>,
    /// Empty only within `drop`.
    segment: Option<Segment>,
    len: usize,
    forfeited: AtomicBool,
}

impl SegmentPool {
    pub(super) fn new(spare_limit: u64) -> Arc<Self> {
        Arc::new(Self { spare_limit, state: Mutex::default() })
    }

    /// Copies the object into a segment; `None` where there are as many as there may be, all in use.
    pub(super) fn lend(self: &Arc<Self>, object: &[u8]) -> io::Result<Option<Loan>> {
        let Some(mut segment) = self.segment_for(object.len() as u64)? else { return Ok(None) };
        segment.mapping.as_mut()[..object.len()].copy_from_slice(object);
        let (pool, len) = (Arc::clone(self), object.len());
        Ok(Some(Loan { pool, segment: Some(segment), len, forfeited: AtomicBool::new(false) }))
    }

    /// The numbers of all segments that may be met again.
    pub(super) fn live(&self) -> Vec<u64> {
        lock(&self.state).live.iter().copied().collect()
    }

    fn segment_for(&self, size: u64) -> io::Result<Option<Segment>> {
        let capacity = capacity_for(size);
        let mut state = lock(&self.state);
        // What was used last is still in the processor's caches, and mapped by those who read it.
        if let Some(place) = state.spare.iter().rposition(|segment| segment.capacity() == capacity) {
            state.spare_bytes -= capacity;
            return Ok(state.spare.remove(place));
        }
        let dropped = if state.live.len() < MAX_SEGMENTS { None } else { state.drop_oldest_spare() };
        if state.live.len() >= MAX_SEGMENTS {
            return Ok(None);
        }
        state.made += 1;
        let number = state.made;
        state.live.insert(number);
        drop(state);
        // Unmapping and mapping take long: not within the lock.
        drop(dropped);
        match WriteMapping::create(capacity) {
            Ok(mapping) => Ok(Some(Segment { number, mapping })),
            Err(error) => {
                lock(&self.state).live.remove(&number);
                Err(error)
            }
        }
    }

    fn give_back(&self, segment: Segment) {
        let mut dropped = Vec::new();
        let mut state = lock(&self.state);
        state.spare_bytes += segment.capacity();
        state.spare.push_back(segment);
        while state.spare_bytes > self.spare_limit
            && let Some(oldest) = state.drop_oldest_spare()
        {
            dropped.push(oldest);
        }
        // Unmapping takes long: not within the lock.
        drop(state);
    }
}

impl State {
    fn drop_oldest_spare(&mut self) -> Option<Segment> {
        let oldest = self.spare.pop_front()?;
        self.spare_bytes -= oldest.capacity();
        self.live.remove(&oldest.number);
        Some(oldest)
    }
}

impl Loan {
    /// The segment's number, which no other segment of the server ever has.
    pub(super) fn number(&self) -> u64 {
        self.segment.as_ref().map_or(0, |segment| segment.number)
    }

    /// What readers map.
    pub(super) fn fd(&self) -> Option<&std::os::fd::OwnedFd> {
        self.segment.as_ref().map(|segment| segment.mapping.fd())
    }

    /// Someone may read the segment for ever: it must not be written to again.
    pub(super) fn forfeit(&self) {
        self.forfeited.store(true, Relaxed);
    }
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        self.segment.as_ref().map_or(&[], |segment| &segment.mapping.as_ref()[..self.len])
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(segment) = self.segment.take() else { return };
        if *self.forfeited.get_mut() {
            lock(&self.pool.state).live.remove(&segment.number);
        } else {
            self.pool.give_back(segment);
        }
    }
}

/// The size class of an object: eight classes between a power of two and the next, so that segments fit objects of nearly the same
/// size and at most an eighth of one is wasted.
fn capacity_for(size: u64) -> u64 {
    let step = (size.next_power_of_two() / 16).max(PAGE);
    size.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 100_000;

    fn live(pool: &Arc<SegmentPool>) -> usize {
        pool.live().len()
    }

    #[test]
    fn a_segment_is_used_again() {
        let pool = SegmentPool::new(1 << 30);
        for n in 0..100 {
            let loan = pool.lend(&vec![n; SIZE + usize::from(n)]).unwrap().unwrap();
            assert_eq!((loan.number(), loan.as_ref().len()), (1, SIZE + usize::from(n)));
            assert!(loan.as_ref().iter().all(|byte| *byte == n));
        }
        assert_eq!(live(&pool), 1);
    }

    #[test]
    fn a_forfeited_segment_is_not_used_again() {
        let pool = SegmentPool::new(1 << 30);
        let loan = pool.lend(&[1; SIZE]).unwrap().unwrap();
        loan.forfeit();
        drop(loan);
        assert_eq!(live(&pool), 0);
        assert_eq!(pool.lend(&[2; SIZE]).unwrap().unwrap().number(), 2);
    }

    #[test]
    fn segments_are_bounded_and_those_in_use_stay() {
        let pool = SegmentPool::new(1 << 30);
        let mut loans: Vec<Loan> = (0..MAX_SEGMENTS).map(|_| pool.lend(&[1; SIZE]).unwrap().unwrap()).collect();
        assert!(pool.lend(&[1; SIZE]).unwrap().is_none());
        loans.pop();
        let other_class = pool.lend(&[1; 2 * SIZE]).unwrap();
        assert!(other_class.is_some(), "a spare segment of another size makes way");
        assert_eq!(live(&pool), MAX_SEGMENTS);
    }

    #[test]
    fn spare_segments_are_bounded() {
        let pool = SegmentPool::new(3 * capacity_for(SIZE as u64));
        let loans: Vec<Loan> = (0..10).map(|_| pool.lend(&[1; SIZE]).unwrap().unwrap()).collect();
        drop(loans);
        assert_eq!(live(&pool), 3);
        let nothing_spare = SegmentPool::new(0);
        drop(nothing_spare.lend(&[1; SIZE]).unwrap());
        assert_eq!(live(&nothing_spare), 0);
    }

    proptest! {
        #[test]
        fn a_class_wastes_little(size in 32_768_u64..1 << 40) {
            let capacity = capacity_for(size);
            prop_assert!(capacity >= size && capacity - size <= size / 8, "{capacity}");
            prop_assert_eq!(capacity % PAGE, 0);
            prop_assert_eq!(capacity_for(capacity), capacity);
        }
    }
}
