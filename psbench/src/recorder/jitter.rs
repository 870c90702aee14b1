//! How unevenly items arrive.

use super::histogram::Times;
use crate::clock::Nanos;
use crate::results::record::Jitter;

/// One item's way through the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// When the generator had its bytes: by either method, ahead of all that moves them.
    pub(super) created: Nanos,
    /// When its bytes were at a worker.
    pub(super) arrived: Nanos,
}

/// Unevenness over all items, in whatever order they are given; `None` below two.
pub(super) fn jitter(passages: &mut [Passage]) -> Option<Jitter> {
    if passages.len() < 2 {
        return None;
    }
    passages.sort_unstable_by_key(|passage| passage.arrived);
    let mut transits = Times::default();
    for passage in passages.iter() {
        transits.record(passage.created, passage.arrived);
    }
    let p50 = transits.quantile(0.5) as f64;
    Some(Jitter {
        jitter_rfc3550_ns: rfc3550(passages),
        jitter_interarrival_stddev_ns: interarrival_stddev(passages),
        jitter_p95_p50_ns: transits.quantile(0.95) as f64 - p50,
        pdv_p99_ns: (transits.quantile(0.99) - transits.min()) as f64,
    })
}

/// RFC 3550 §6.4.1: `D = (R_j − R_i) − (S_j − S_i)` of items that arrive one after the other, `J = J + (|D| − J) / 16`.
fn rfc3550(passages: &[Passage]) -> f64 {
    passages.windows(2).fold(0.0, |jitter, pair| {
        let received = pair[1].arrived as f64 - pair[0].arrived as f64;
        let sent = pair[1].created as f64 - pair[0].created as f64;
        jitter + ((received - sent).abs() - jitter) / 16.0
    })
}

/// Standard deviation (of the population) of the time from one arrival to the next.
fn interarrival_stddev(passages: &[Passage]) -> f64 {
    let gaps = || passages.windows(2).map(|pair| (pair[1].arrived - pair[0].arrived) as f64);
    let n = (passages.len() - 1) as f64;
    let mean = gaps().sum::<f64>() / n;
    (gaps().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passages(pairs: &[(Nanos, Nanos)]) -> Vec<Passage> {
        pairs.iter().map(|&(created, arrived)| Passage { created, arrived }).collect()
    }

    #[test]
    fn an_even_stream_has_none() {
        let mut even = passages(&[(0, 50), (100, 150), (200, 250), (300, 350)]);
        let jitter = jitter(&mut even).unwrap();
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
        let mut uneven = passages(&[(0, 10), (100, 110), (200, 210), (300, 374)]);
        let jitter = jitter(&mut uneven).unwrap();
        assert_eq!(jitter.jitter_rfc3550_ns, 64.0 / 16.0);
        // Gaps 100, 100, 164: mean 121⅓.
        assert!((jitter.jitter_interarrival_stddev_ns - 30.169_889_330_626_027).abs() < 1e-9);
        assert_eq!(jitter.jitter_p95_p50_ns, 64.0);
        assert_eq!(jitter.pdv_p99_ns, 64.0);
    }

    #[test]
    fn the_order_of_recording_does_not_matter() {
        let mut one = passages(&[(0, 10), (100, 190), (200, 210)]);
        let mut other = passages(&[(200, 210), (0, 10), (100, 190)]);
        assert_eq!(jitter(&mut one), jitter(&mut other));
    }

    #[test]
    fn one_item_has_no_jitter() {
        assert_eq!(jitter(&mut passages(&[(0, 1)])), None);
    }
}
