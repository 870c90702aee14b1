//! How unevenly items arrive.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::histogram::Times;
use crate::clock::Nanos;
use crate::results::record::Jitter;

/// One item's way through the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Passage {
    /// When its bytes were at a worker.
    pub(super) arrived: Nanos,
    /// When the generator had its bytes: by either method, ahead of all that moves them.
    pub(super) created: Nanos,
}

/// Items within which an order of arrival is found, 1 MB of them: far more than are at workers at a time, since it is there that they overtake
/// each other.
const WINDOW: usize = 1 << 16;

/// Unevenness over all items, in whatever order they are recorded, in memory that does not grow with their number. Whatever arrived ahead of
/// as many others that were recorded first has no place in the order any more; of that only the time it took counts.
#[derive(Debug, Default)]
pub(super) struct Unevenness {
    /// The latest arrivals, whose order may still change.
    window: BinaryHeap<Reverse<Passage>>,
    ordered: Ordered,
    transits: Times,
}

/// What comes of items in the order of their arrival.
#[derive(Debug, Default)]
struct Ordered {
    last: Option<Passage>,
    rfc3550: f64,
    /// Times from one arrival to the next: how many, their mean, and the sum of their squared distances from it.
    gaps: f64,
    mean_gap: f64,
    squares: f64,
}

impl Unevenness {
    /// Takes note of an item.
    pub(super) fn push(&mut self, passage: Passage) {
        self.transits.record(passage.created, passage.arrived);
        self.window.push(Reverse(passage));
        if self.window.len() > WINDOW {
            self.ordered.extend(self.window.pop());
        }
    }

    /// What it comes to; `None` below two items.
    pub(super) fn summary(&mut self) -> Option<Jitter> {
        while let Some(next) = self.window.pop() {
            self.ordered.extend(Some(next));
        }
        let transits = &self.transits;
        let p50 = transits.quantile(0.5) as f64;
        (self.ordered.gaps > 0.0).then(|| Jitter {
            jitter_rfc3550_ns: self.ordered.rfc3550,
            jitter_interarrival_stddev_ns: (self.ordered.squares / self.ordered.gaps).sqrt(),
            jitter_p95_p50_ns: transits.quantile(0.95) as f64 - p50,
            pdv_p99_ns: (transits.quantile(0.99) - transits.min()) as f64,
        })
    }
}

impl Ordered {
    fn extend(&mut self, next: Option<Reverse<Passage>>) {
        let Some(Reverse(next)) = next else { return };
        let Some(last) = self.last.filter(|last| last.arrived <= next.arrived) else {
            self.last.get_or_insert(next);
            return;
        };
        self.last = Some(next);
        let received = (next.arrived - last.arrived) as f64;
        let sent = next.created as f64 - last.created as f64;
        // RFC 3550 §6.4.1: `D = (R_j − R_i) − (S_j − S_i)` of items that arrive one after the other, `J = J + (|D| − J) / 16`.
        self.rfc3550 += ((received - sent).abs() - self.rfc3550) / 16.0;
        // Standard deviation (of the population) of the time from one arrival to the next, as Welford has it (“Note on a method for
        // calculating corrected sums of squares and products”, 1962).
        self.gaps += 1.0;
        let before = received - self.mean_gap;
        self.mean_gap += before / self.gaps;
        self.squares += before * (received - self.mean_gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jitter(pairs: &[(Nanos, Nanos)]) -> Option<Jitter> {
        let mut unevenness = Unevenness::default();
        pairs.iter().for_each(|&(created, arrived)| unevenness.push(Passage { created, arrived }));
        unevenness.summary()
    }

    #[test]
    fn an_even_stream_has_none() {
        let jitter = jitter(&[(0, 50), (100, 150), (200, 250), (300, 350)]).unwrap();
        let all = [
            jitter.jitter_rfc3550_ns,
            jitter.jitter_interarrival_stddev_ns,
            jitter.jitter_p95_p50_ns,
            jitter.pdv_p99_ns,
        ];
        assert_eq!(all, [0.0; 4]);
    }

    #[test]
    fn each_definition_is_its_own() {
        // Transit times 10, 10, 10, 74; arrivals 10, 110, 210, 374.
        let jitter = jitter(&[(0, 10), (100, 110), (200, 210), (300, 374)]).unwrap();
        assert_eq!(jitter.jitter_rfc3550_ns, 64.0 / 16.0);
        // Gaps 100, 100, 164: mean 121⅓.
        assert!((jitter.jitter_interarrival_stddev_ns - 30.169_889_330_626_027).abs() < 1e-9);
        assert_eq!(jitter.jitter_p95_p50_ns, 64.0);
        assert_eq!(jitter.pdv_p99_ns, 64.0);
    }

    #[test]
    fn the_order_of_recording_does_not_matter() {
        assert_eq!(jitter(&[(0, 10), (100, 190), (200, 210)]), jitter(&[(200, 210), (0, 10), (100, 190)]));
    }

    #[test]
    fn one_item_has_no_jitter() {
        assert_eq!(jitter(&[(0, 1)]), None);
    }

    #[test]
    fn many_items_take_no_more_memory_and_come_to_the_same() {
        const ITEMS: Nanos = 10 * WINDOW as Nanos;
        // In pairs that are recorded the wrong way round, 3 and 5 ns apart.
        let arrived = |n: Nanos| 8 * (n / 2) + if n.is_multiple_of(2) { 3 } else { 0 } + 1_000;
        let mut unevenness = Unevenness::default();
        for n in 0..ITEMS {
            unevenness.push(Passage { created: arrived(n) - 1_000, arrived: arrived(n) });
            assert!(unevenness.window.len() <= WINDOW);
        }
        // Ahead of all that has its place by now.
        unevenness.push(Passage { created: 0, arrived: 500 });
        let jitter = unevenness.summary().unwrap();
        assert_eq!(
            (unevenness.transits.summary().unwrap().count, unevenness.ordered.gaps),
            (ITEMS + 1, (ITEMS - 1) as f64)
        );
        assert_eq!(jitter.jitter_rfc3550_ns, 0.0);
        assert!((jitter.jitter_interarrival_stddev_ns - 1.0).abs() < 1e-4, "{jitter:?}");
    }
}
