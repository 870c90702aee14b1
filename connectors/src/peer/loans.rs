//! Objects that were sent, and of which it is not known whether they have arrived.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::lock::lock;

/// How long a confirmation may be on its way before nobody waits for it any more.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// All of a server, over all connections.
#[derive(Debug, Default)]
pub(super) struct Loans {
    /// How many connections have each.
    open: Mutex<HashMap<Uuid, usize>>,
    returned: Condvar,
}

/// That of one connection: the last object that was sent over it, until that is confirmed, the next one is sent, or the connection ends.
#[derive(Debug)]
pub(super) struct Loan<'a> {
    loans: &'a Loans,
    id: Option<Uuid>,
}

impl Loans {
    /// For a new connection.
    pub(super) fn none(&self) -> Loan<'_> {
        Loan { loans: self, id: None }
    }

    /// Waits until this object is with nobody, but not long.
    pub(super) fn settle(&self, id: &Uuid) {
        self.wait_while(|open| open.contains_key(id));
    }

    /// Waits until no object is with anybody, but not long.
    pub(super) fn settle_all(&self) {
        self.wait_while(|open| !open.is_empty());
    }

    fn wait_while(&self, out: impl Fn(&HashMap<Uuid, usize>) -> bool) {
        let open = lock(&self.open);
        drop(
            self.returned
                .wait_timeout_while(open, ON_ITS_WAY, |open| out(open))
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

impl Loan<'_> {
    /// This object is about to be sent.
    pub(super) fn lend(&mut self, id: Uuid) {
        self.end();
        *lock(&self.loans.open).entry(id).or_default() += 1;
        self.id = Some(id);
    }

    /// It has arrived, and was deleted.
    pub(super) fn confirm(&mut self, id: Uuid) {
        if self.id == Some(id) {
            self.end();
        }
    }

    fn end(&mut self) {
        let Some(id) = self.id.take() else { return };
        let mut open = lock(&self.loans.open);
        if let Some(count) = open.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                open.remove(&id);
            }
        }
        drop(open);
        self.loans.returned.notify_all();
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_waits_is_told_of_the_confirmation() {
        let loans = Loans::default();
        let [first, second] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let mut loan = loans.none();
        loan.lend(first);
        // Another's confirmation is none of this one's.
        loan.confirm(second);
        loans.settle(&second);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                loans.settle_all();
                lock(&loans.open).is_empty()
            });
            loan.confirm(first);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_connection_that_ends_keeps_nobody_waiting() {
        let loans = Loans::default();
        let id = Uuid::from_u128(1);
        let (mut one, mut other) = (loans.none(), loans.none());
        one.lend(id);
        other.lend(id);
        drop(one);
        assert_eq!(lock(&loans.open)[&id], 1);
        // The next object sent says nothing of the last one.
        other.lend(Uuid::from_u128(2));
        loans.settle(&id);
        drop(other);
        assert!(lock(&loans.open).is_empty());
    }

    #[test]
    fn what_is_not_confirmed_is_not_waited_for_long() {
        let loans = Loans::default();
        let mut loan = loans.none();
        loan.lend(Uuid::from_u128(1));
        let before = Instant::now();
        loans.settle_all();
        assert!(before.elapsed() >= ON_ITS_WAY);
    }
}
