//! When items are due.

use std::ops::Range;

use crate::clock::{Clock, Nanos};
use crate::plan::Pacing;

/// Walks through the items of a plan as they become due.
///
/// An item's scheduled instant depends on the plan alone, never on when the item before it was done: a generator that falls behind shows
/// as lag, and catches up.
pub(super) struct Schedule<'a> {
    clock: &'a dyn Clock,
    pacing: Pacing,
    start: Nanos,
    next: u64,
    count: u64,
}

impl<'a> Schedule<'a> {
    /// A schedule of `count` items, the first of which is due now.
    pub(super) fn start(clock: &'a dyn Clock, pacing: Pacing, count: u64) -> Self {
        Self { clock, pacing, start: clock.now(), next: 0, count }
    }

    /// Waits until an item is due, and returns all that are by then, at most `most`. Empty at the end, and when `stop` says so.
    pub(super) fn due(&mut self, most: u64, stop: &dyn Fn() -> bool) -> Range<u64> {
        let first = self.next;
        while first < self.count && !stop() {
            let now = self.clock.now();
            let end = self.due_by(now).min(self.count).min(first + most);
            if end > first {
                self.next = end;
                return first..end;
            }
            self.clock.sleep_until(self.scheduled(first));
        }
        first..first
    }

    /// The instant for which item `n`, which is due, was planned. Without a plan ([`Pacing::Max`]) that is now, when the generator is
    /// ready for it.
    pub(super) fn scheduled(&self, n: u64) -> Nanos {
        match self.pacing {
            Pacing::Interval(interval) => self.start.saturating_add(offset(interval.as_nanos(), n)),
            Pacing::Max => self.clock.now(),
        }
    }

    /// How many items are due at `now`, from the first on.
    fn due_by(&self, now: Nanos) -> u64 {
        match self.pacing {
            Pacing::Interval(interval) => {
                let since = u128::from(now.saturating_sub(self.start));
                u64::try_from(since / interval.as_nanos().max(1)).map_or(u64::MAX, |passed| passed.saturating_add(1))
            }
            Pacing::Max => u64::MAX,
        }
    }
}

fn offset(interval: u128, n: u64) -> Nanos {
    u64::try_from(interval.saturating_mul(u128::from(n))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;

    const NEVER: &dyn Fn() -> bool = &|| false;

    #[test]
    fn items_come_when_they_are_due() {
        let clock = ManualClock::default();
        clock.advance(Duration::from_secs(7));
        let mut schedule = Schedule::start(&clock, Pacing::Interval(Duration::from_millis(250)), 3);
        for n in 0..3 {
            assert_eq!(schedule.due(10, NEVER), n..n + 1);
            assert_eq!(clock.now(), 7_000_000_000 + n * 250_000_000);
        }
        assert!(schedule.due(10, NEVER).is_empty());
    }

    #[test]
    fn a_late_generator_catches_up_and_keeps_the_planned_instants() {
        let clock = ManualClock::default();
        let mut schedule = Schedule::start(&clock, Pacing::Interval(Duration::from_millis(10)), 100);
        assert_eq!(schedule.due(10, NEVER), 0..1);
        clock.advance(Duration::from_millis(35));
        assert_eq!(schedule.due(2, NEVER), 1..3);
        assert_eq!(schedule.due(10, NEVER), 3..4);
        assert_eq!(schedule.scheduled(2), 20_000_000);
    }

    #[test]
    fn without_a_pace_all_are_due() {
        let clock = ManualClock::default();
        let mut schedule = Schedule::start(&clock, Pacing::Max, 100);
        assert_eq!(schedule.due(64, NEVER), 0..64);
        assert_eq!(schedule.due(64, NEVER), 64..100);
        assert!(schedule.due(64, NEVER).is_empty());
    }

    #[test]
    fn it_stops_when_told() {
        let clock = ManualClock::default();
        let mut schedule = Schedule::start(&clock, Pacing::Max, 100);
        assert!(schedule.due(64, &|| true).is_empty());
    }

    proptest! {
        #[test]
        fn each_item_comes_once_in_order_and_never_early(interval in 1u64..1_000_000, steps in prop::collection::vec(0u64..5_000_000, 1..50)) {
            let clock = ManualClock::default();
            let mut schedule = Schedule::start(&clock, Pacing::Interval(Duration::from_nanos(interval)), 200);
            let mut expected = 0;
            for step in steps {
                clock.advance(Duration::from_nanos(step));
                let due = schedule.due(7, NEVER);
                prop_assert_eq!(due.start, expected.min(200));
                prop_assert!(due.end - due.start <= 7);
                prop_assert!(due.clone().all(|n| schedule.scheduled(n) <= clock.now()));
                expected = due.end;
            }
        }
    }
}
