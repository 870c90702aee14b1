//! The median of repeated measurements and how far to trust it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What repeated measurements of one figure say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Measurements.
    pub n: usize,
    /// Their median; of an even number the mean of the two in the middle.
    pub median: f64,
    /// Median absolute deviation from the median, unscaled: multiply by 1.4826 to compare it with a normal standard deviation.
    pub mad: f64,
    /// Confidence interval of the median; absent for one measurement.
    pub interval: Option<Interval>,
}

/// A confidence interval of a median between two of the measurements, which assumes nothing of their distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The confidence reached: at least 0.95 from 6 measurements up, less below, where the whole range is all there is.
    pub coverage: f64,
}

/// The confidence asked for.
const WANTED: f64 = 0.95;

impl Estimate {
    /// The estimate from `values`; absent when there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let median = median(&values)?;
        let mut deviations: Vec<_> = values.iter().map(|value| (value - median).abs()).collect();
        deviations.sort_by(f64::total_cmp);
        let n = values.len();
        let interval =
            rank(n).map(|(rank, coverage)| Interval { low: values[rank], high: values[n - 1 - rank], coverage });
        Some(Self { n, median, mad: self::median(&deviations)?, interval })
    }
}

impl Interval {
    /// Whether the two have a value in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    Some(sorted.get(middle.checked_sub(1)?)?.midpoint(*upper))
}

/// How many of `n` sorted values to leave out at either end so that what is left holds the median with the confidence wanted, and
/// the confidence reached: `1 − 2 P(B ≤ rank)` for a binomial `B` of `n` tosses of a fair coin (Hahn & Meeker,
/// “Statistical Intervals”, §5.2; Le Boudec, “Performance Evaluation”, theorem 2.1).
pub(super) fn rank(n: usize) -> Option<(usize, f64)> {
    if n < 2 {
        return None;
    }
    // In logarithms, since 2⁻ⁿ is too small for a float beyond n = 1074.
    let mut ln_probability = -(n as f64) * std::f64::consts::LN_2;
    let mut below = ln_probability.exp();
    let mut rank = 0;
    loop {
        let tossed = rank + 1;
        ln_probability += ((n - rank) as f64 / tossed as f64).ln();
        let next = below + ln_probability.exp();
        if 1.0 - 2.0 * next < WANTED {
            return Some((rank, 1.0 - 2.0 * below));
        }
        below = next;
        rank = tossed;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_the_tables() {
        // Le Boudec, “Performance Evaluation”, table A.1: the ranks from 1 of 95 % intervals.
        for (n, low, high) in [(6, 1, 6), (9, 2, 8), (10, 2, 9), (20, 6, 15), (30, 10, 21), (50, 18, 33), (70, 27, 44)]
        {
            let (rank, coverage) = rank(n).unwrap();
            assert_eq!((rank + 1, n - rank), (low, high), "n = {n}");
            assert!(coverage >= 0.95);
        }
        assert_eq!(rank(2), Some((0, 0.5)));
        assert_eq!(rank(5), Some((0, 0.9375)));
        assert_eq!(rank(1), None);
    }

    #[test]
    fn the_median_and_its_deviation() {
        let estimate = Estimate::of([5.0, 1.0, 2.0, 100.0]).unwrap();
        assert_eq!((estimate.n, estimate.median, estimate.mad), (4, 3.5, 2.0));
        assert_eq!(Estimate::of([]), None);
        assert_eq!(Estimate::of([7.0]).unwrap().interval, None);
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_median_and_the_order_does_not_matter(
            mut values in proptest::collection::vec(-1e9..1e9f64, 2..200),
        ) {
            let estimate = Estimate::of(values.clone()).unwrap();
            let interval = estimate.interval.unwrap();
            prop_assert!(interval.low <= estimate.median && estimate.median <= interval.high);
            prop_assert!(interval.overlaps(&interval));
            prop_assert!(estimate.mad >= 0.0);
            values.reverse();
            prop_assert_eq!(Estimate::of(values).unwrap(), estimate);
        }

        #[test]
        fn coverage_is_reached_where_it_can_be(n in 6usize..5000) {
            let (rank, coverage) = rank(n).unwrap();
            prop_assert!((0.95..=1.0).contains(&coverage));
            prop_assert!(2 * rank < n);
        }

        #[test]
        fn moves_and_scales_with_the_values(values in proptest::collection::vec(0u32..1000, 1..50), shift in 0u32..1000) {
            let plain = Estimate::of(values.iter().map(|value| f64::from(*value))).unwrap();
            let moved = Estimate::of(values.iter().map(|value| f64::from(2 * value + shift))).unwrap();
            prop_assert_eq!(moved.median, 2.0 * plain.median + f64::from(shift));
            prop_assert_eq!(moved.mad, 2.0 * plain.mad);
        }
    }
}
