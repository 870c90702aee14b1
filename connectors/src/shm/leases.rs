//! Who reads which segment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::segments::Loan;
use crate::lock::lock;

/// The most leases at a time: a client may get one object as often as it likes.
const MAX_LEASES: usize = 1 << 16;

/// All leases of a server.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    connections: u64,
    given: u64,
    /// By their numbers, with the connection that each was given over.
    held: HashMap<u64, (u64, Arc<Loan>)>,
}

impl Leases {
    /// For one more connection.
    pub(super) fn connection(&self) -> Lessee<'_> {
        let mut state = lock(&self.0);
        state.connections += 1;
        Lessee { leases: self, connection: state.connections }
    }

    /// Ends a lease, whichever connection it was given over; does nothing where that has ended. Who knows the secret is trusted to
    /// give back its own.
    pub(super) fn release(&self, lease: u64) {
        let released = lock(&self.0).held.remove(&lease);
        // The last one on a segment may free it: not within the lock.
        drop(released);
    }

    /// What there is a lease on.
    pub(super) fn loan(&self, lease: u64) -> Option<Arc<Loan>> {
        lock(&self.0).held.get(&lease).map(|(_, loan)| Arc::clone(loan))
    }
}

/// One connection. With it, all leases end that were given over it and have not come back: their segments are forfeited.
#[derive(Debug)]
pub(super) struct Lessee<'a> {
    leases: &'a Leases,
    connection: u64,
}

impl Lessee<'_> {
    /// A lease on the loan; `None` where there are too many. The client may come to read the segment as soon as it knows of it.
    pub(super) fn lease(&self, loan: &Arc<Loan>) -> Option<u64> {
        let mut state = lock(&self.leases.0);
        if state.held.len() >= MAX_LEASES {
            return None;
        }
        state.given += 1;
        let lease = state.given;
        state.held.insert(lease, (self.connection, Arc::clone(loan)));
        Some(lease)
    }
}

impl Drop for Lessee<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.leases.0);
        let forfeited: Vec<_> = state.held.extract_if(|_, (connection, _)| *connection == self.connection).collect();
        drop(state);
        forfeited.iter().for_each(|(_, (_, loan))| loan.forfeit());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::segments::SegmentPool;

    fn loan(pool: &Arc<SegmentPool>) -> Arc<Loan> {
        Arc::new(pool.lend(&[1; 100_000]).unwrap().unwrap())
    }

    #[test]
    fn a_segment_waits_for_all_its_leases() {
        let (pool, leases) = (SegmentPool::new(1 << 30), Leases::default());
        let (one, other) = (leases.connection(), leases.connection());
        let first = loan(&pool);
        let given = [one.lease(&first).unwrap(), other.lease(&first).unwrap(), other.lease(&first).unwrap()];
        drop(first);
        for lease in given {
            assert_ne!(loan(&pool).number(), 1, "lease {lease} is still held");
            leases.release(lease);
            leases.release(lease);
        }
        assert_eq!([loan(&pool).number(), loan(&pool).number()].iter().min(), Some(&1));
    }

    #[test]
    fn what_a_lost_connection_read_is_not_used_again() {
        let (pool, leases) = (SegmentPool::new(1 << 30), Leases::default());
        let lessee = leases.connection();
        let (kept, returned) = (loan(&pool), loan(&pool));
        lessee.lease(&kept).unwrap();
        leases.release(lessee.lease(&returned).unwrap());
        drop((kept, returned));
        drop(lessee);
        assert_eq!(pool.live(), [2], "the one that came back stays, the other is dropped");
    }

    #[test]
    fn leases_are_bounded() {
        let (pool, leases) = (SegmentPool::new(1 << 30), Leases::default());
        let (lessee, loan) = (leases.connection(), loan(&pool));
        assert_eq!((0..2 * MAX_LEASES).filter_map(|_| lessee.lease(&loan)).count(), MAX_LEASES);
    }
}
