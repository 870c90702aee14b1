//! What an exclusive task learns while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::sync::lock;

/// The number that an exclusive task was told last: 0 at first, and only ever more.
#[derive(Debug, Default)]
pub struct Told {
    number: Mutex<u64>,
    changed: Condvar,
}

impl Told {
    /// Tells a number. One that is not above the last one changes nothing, so that it is no matter which of two threads comes first.
    pub fn tell(&self, number: u64) {
        let mut known = lock(&self.number);
        if number > *known {
            *known = number;
            self.changed.notify_all();
        }
    }

    /// The number, as soon as it is above `known`, or after `wait`.
    pub fn above(&self, known: u64, wait: Duration) -> u64 {
        let waits = |number: &mut u64| *number <= known;
        let waited = self.changed.wait_timeout_while(lock(&self.number), wait, waits);
        waited.map_or_else(|poisoned| *poisoned.into_inner().0, |(number, _)| *number)
    }
}

/// What one exclusive task is told.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    cancelled: AtomicBool,
    pub(crate) told: Told,
}

impl Orders {
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn whoever_waits_gets_the_number_and_lower_ones_are_none() {
        let told = Told::default();
        assert_eq!(told.above(0, Duration::ZERO), 0);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| told.above(4, Duration::from_secs(60)));
            [3, 7, 5].into_iter().for_each(|number| told.tell(number));
            assert_eq!(waiting.join().unwrap(), 7);
        });
        assert_eq!(told.above(0, Duration::from_secs(60)), 7);
    }
}
