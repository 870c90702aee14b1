//! When items are due.

use std::ops::Range;

use crate::clock::{Clock, Nanos};
use crate::plan::{Pacing, Share};

/// Walks through the items of one generator as they become due. They are counted by themselves here, from 0.
///
/// An item's scheduled instant depends on the plan alone, never on when the item before it was done: a generator that falls behind shows
/// as lag, and catches up.
pub(super) struct Schedule<'a> {
    clock: &'a dyn Clock,
    pacing: Pacing,
    share: Share,
    start: Nanos,
    next: u64,
    count: u64,
}

impl<'a> Schedule<'a> {
    /// The schedule of a generator's share of `count` items, of which that with number 0 is due now, or at `start`, where that is yet to
    /// come.
    pub(super) fn new(clock: &'a dyn Clock, pacing: Pacing, share: Share, count: u64, start: Option<Nanos>) -> Self {
        let now = clock.now();
        // One that is far away was read off another host's clock.
        let start = start.filter(|start| start.saturating_sub(now) <= MOST_AHEAD).unwrap_or(now).max(now);
        Self { clock, pacing, share, start, next: 0, count: share.of(count) }
    }

    /// When item 0 of the stream is due.
    pub(super) fn start(&self) -> Nanos {
        self.start
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
            self.clock.sleep_until(self.planned(first));
        }
        first..first
    }

    /// The instant for which item `n`, which is due, was planned. Without a plan ([`Pacing::Max`]) that is now, when the generator is
    /// ready for it.
    pub(super) fn scheduled(&self, n: u64) -> Nanos {
        match self.pacing {
            Pacing::Interval(_) => self.planned(n),
            Pacing::Max => self.clock.now(),
        }
    }

    /// The earliest instant for item `n`.
    fn planned(&self, n: u64) -> Nanos {
        match self.pacing {
            Pacing::Interval(interval) => self.start.saturating_add(offset(interval.as_nanos(), self.share.number(n))),
            Pacing::Max => self.start,
        }
    }

    /// How many items are due at `now`, from the first on.
    fn due_by(&self, now: Nanos) -> u64 {
        let Some(since) = now.checked_sub(self.start) else { return 0 };
        match self.pacing {
            Pacing::Interval(interval) => {
                let passed = u128::from(since) / interval.as_nanos().max(1);
                self.share.of(u64::try_from(passed).map_or(u64::MAX, |passed| passed.saturating_add(1)))
            }
            Pacing::Max => u64::MAX,
        }
    }
}

/// The longest that a schedule waits for its start, ns.
const MOST_AHEAD: Nanos = 1_000_000_000;

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
        let mut schedule = Schedule::new(&clock, Pacing::Interval(Duration::from_millis(250)), Share::ALL, 3, None);
        for n in 0..3 {
            assert_eq!(schedule.due(10, NEVER), n..n + 1);
            assert_eq!(clock.now(), 7_000_000_000 + n * 250_000_000);
        }
        assert!(schedule.due(10, NEVER).is_empty());
    }

    #[test]
    fn a_late_generator_catches_up_and_keeps_the_planned_instants() {
        let clock = ManualClock::default();
        let mut schedule = Schedule::new(&clock, Pacing::Interval(Duration::from_millis(10)), Share::ALL, 100, None);
        assert_eq!(schedule.due(10, NEVER), 0..1);
        clock.advance(Duration::from_millis(35));
        assert_eq!(schedule.due(2, NEVER), 1..3);
        assert_eq!(schedule.due(10, NEVER), 3..4);
        assert_eq!(schedule.scheduled(2), 20_000_000);
    }

    #[test]
    fn without_a_pace_all_are_due() {
        let clock = ManualClock::default();
        let mut schedule = Schedule::new(&clock, Pacing::Max, Share::ALL, 100, None);
        assert_eq!(schedule.due(64, NEVER), 0..64);
        assert_eq!(schedule.due(64, NEVER), 64..100);
        assert!(schedule.due(64, NEVER).is_empty());
    }

    #[test]
    fn nothing_is_due_before_the_common_start() {
        for pacing in [Pacing::Max, Pacing::Interval(Duration::from_secs(1))] {
            let clock = ManualClock::default();
            let mut schedule = Schedule::new(&clock, pacing, Share::ALL, 3, Some(2_000));
            assert_eq!(schedule.due_by(1_999), 0);
            assert_eq!(schedule.due(1, NEVER), 0..1);
            assert_eq!((clock.now(), schedule.scheduled(0)), (2_000, 2_000));
        }
    }

    #[test]
    fn who_is_ready_late_begins_then_and_waits_for_no_other_clock() {
        let clock = ManualClock::default();
        clock.advance(Duration::from_secs(7));
        for start in [1, u64::MAX] {
            let pacing = Pacing::Interval(Duration::from_secs(1));
            assert_eq!(Schedule::new(&clock, pacing, Share::ALL, 3, Some(start)).scheduled(0), 7_000_000_000);
        }
    }

    #[test]
    fn it_stops_when_told() {
        let clock = ManualClock::default();
        let mut schedule = Schedule::new(&clock, Pacing::Max, Share::ALL, 100, None);
        assert!(schedule.due(64, &|| true).is_empty());
    }

    proptest! {
        #[test]
        fn generators_together_keep_the_schedule_of_one(interval in 1u64..1_000_000, generators in 1u32..6, most in 1u64..9) {
            const COUNT: u64 = 100;
            const START: Nanos = 5_000_000;
            let mut due = Vec::new();
            for share in Share::each(generators) {
                let clock = ManualClock::default();
                let pacing = Pacing::Interval(Duration::from_nanos(interval));
                let mut schedule = Schedule::new(&clock, pacing, share, COUNT, Some(START));
                loop {
                    let own = schedule.due(most, NEVER);
                    if own.is_empty() {
                        break;
                    }
                    due.extend(own.map(|n| (share.number(n), schedule.scheduled(n))));
                }
            }
            due.sort_unstable();
            let expected: Vec<_> = (0..COUNT).map(|number| (number, START + number * interval)).collect();
            prop_assert_eq!(due, expected);
        }

        #[test]
        fn each_item_comes_once_in_order_and_never_early(interval in 1u64..1_000_000, steps in prop::collection::vec(0u64..5_000_000, 1..50)) {
            let clock = ManualClock::default();
            let mut schedule = Schedule::new(&clock, Pacing::Interval(Duration::from_nanos(interval)), Share::ALL, 200, None);
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
