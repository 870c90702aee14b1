//! The size from which a path wins over the broker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::results::estimate::rank;

/// Where along the sizes a path begins to win for good, bytes. In order of size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "where", content = "bytes", rename_all = "lowercase")]
pub enum Crossing {
    /// It won at every size: somewhere below the smallest, which is this.
    Below(u64),
    /// At this size, between two that were measured.
    At(u64),
    /// It did not win at the largest size, which is this: somewhere above it, or nowhere.
    Above(u64),
}

/// The median of the crossings of several rounds, and how far to trust it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakEven {
    /// Rounds in which every size was measured.
    pub rounds: usize,
    /// The median. Of an even number of rounds the geometric mean of the two in the middle, or the larger one where they don't both lie
    /// between sizes that were measured.
    pub from: Crossing,
    /// Its confidence interval, between two of the rounds; absent for one round.
    pub interval: Option<CrossingInterval>,
}

/// A confidence interval that assumes nothing of the distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossingInterval {
    /// Lower end.
    pub low: Crossing,
    /// Upper end.
    pub high: Crossing,
    /// The confidence reached: at least 0.95 from 6 rounds up.
    pub coverage: f64,
}

impl Crossing {
    /// Of one round: the size from which on the ratio of the path's goodput to the broker's stays at 1 or above, by straight lines between
    /// the logarithms of neighbouring sizes and ratios. `curve`: sizes ascending and the ratio at each, above 0; absent where it is empty.
    pub(super) fn of(curve: &[(u64, f64)]) -> Option<Self> {
        let (smallest, largest) = (curve.first()?.0, curve.last()?.0);
        let last_loss = curve.windows(2).rfind(|pair| pair.iter().any(|(_, ratio)| *ratio < 1.0));
        Some(match (curve.last()?.1 < 1.0, last_loss) {
            (true, _) => Self::Above(largest),
            (false, None) => Self::Below(smallest),
            (false, Some(pair)) => Self::At(interpolate(pair)?),
        })
    }

    /// The bytes of it, whichever it is.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Below(bytes) | Self::At(bytes) | Self::Above(bytes) => bytes,
        }
    }
}

/// The size at which the ratio crosses 1, from below it to 1 or above.
fn interpolate(pair: &[(u64, f64)]) -> Option<u64> {
    let [(small, below), (large, above)] = pair else { return None };
    let ([small, large], [below, above]) = ([*small as f64, *large as f64].map(f64::ln), [below.ln(), above.ln()]);
    let part = below / (below - above);
    Some((small + part * (large - small)).exp().round() as u64)
}

impl BreakEven {
    /// From the crossings of all rounds; absent where there are none.
    pub(super) fn of(mut crossings: Vec<Crossing>) -> Option<Self> {
        crossings.sort_unstable();
        let rounds = crossings.len();
        let middle = rounds / 2;
        let upper = *crossings.get(middle)?;
        let lower = if rounds % 2 == 1 { upper } else { *crossings.get(middle.checked_sub(1)?)? };
        let from = match (lower, upper) {
            (Crossing::At(lower), Crossing::At(upper)) => {
                Crossing::At(f64::midpoint((lower as f64).ln(), (upper as f64).ln()).exp().round() as u64)
            }
            (_, upper) => upper,
        };
        let interval = rank(rounds).and_then(|(rank, coverage)| {
            let (low, high) = (*crossings.get(rank)?, *crossings.get(rounds - 1 - rank)?);
            Some(CrossingInterval { low, high, coverage })
        });
        Some(Self { rounds, from, interval })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZES: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];

    /// A ratio that is a power of the size, and 1 at `even`.
    fn curve(even: f64, power: f64) -> Vec<(u64, f64)> {
        SIZES.map(|size| (size, (size as f64 / even).powf(power))).to_vec()
    }

    #[test]
    fn wins_for_good_are_what_counts() {
        let at = |ratios: [f64; 5]| Crossing::of(&SIZES.into_iter().zip(ratios).collect::<Vec<_>>()).unwrap();
        assert_eq!(at([1.0, 1.1, 1.2, 1.3, 1.4]), Crossing::Below(1_000));
        assert_eq!(at([2.0, 2.0, 2.0, 2.0, 0.99]), Crossing::Above(10_000_000));
        assert_eq!(at([0.5, 0.5, 0.5, 0.5, 0.5]), Crossing::Above(10_000_000));
        assert_eq!(at([0.5, 2.0, 3.0, 4.0, 5.0]), Crossing::At(3_162));
        // It had won before, but not for good.
        assert_eq!(at([2.0, 2.0, 0.5, 2.0, 2.0]), Crossing::At(316_228));
        assert_eq!(at([0.5, 1.0, 1.0, 1.0, 1.0]), Crossing::At(10_000));
        assert_eq!(Crossing::of(&[(5, 0.5)]), Some(Crossing::Above(5)));
        assert_eq!(Crossing::of(&[(5, 1.5)]), Some(Crossing::Below(5)));
        assert_eq!(Crossing::of(&[]), None);
    }

    #[test]
    fn wins_everywhere_pull_the_median_down_and_never_up() {
        use Crossing::{Above, At, Below};
        let median = |crossings: &[Crossing]| BreakEven::of(crossings.to_vec()).unwrap().from;
        assert_eq!(median(&[Below(1), Below(1), At(50)]), Below(1));
        assert_eq!(median(&[At(50), Below(1), Above(100)]), At(50));
        assert_eq!(median(&[At(20), At(80)]), At(40));
        assert_eq!(median(&[Below(1), At(80)]), At(80));
        assert_eq!(median(&[At(80), Above(100)]), Above(100));
        let six = BreakEven::of(vec![At(3), Below(1), At(4), Above(100), At(5), At(6)]).unwrap();
        let interval = six.interval.unwrap();
        assert_eq!((six.rounds, interval.low, interval.high), (6, Below(1), Above(100)));
        assert!(interval.coverage >= 0.95);
        assert_eq!(BreakEven::of(vec![At(3)]).unwrap().interval, None);
        assert_eq!(BreakEven::of(Vec::new()), None);
    }

    proptest! {
        #[test]
        fn a_known_crossing_is_found(even in 1_001.0..9_999_999.0f64, power in 0.05..2.0f64) {
            let Some(Crossing::At(found)) = Crossing::of(&curve(even, power)) else { panic!("between two sizes") };
            prop_assert!((found as f64 / even - 1.0).abs() < 0.001, "{found} for {even}");
        }

        #[test]
        fn outside_the_sizes_it_is_said_so(factor in 1.001..1e3f64, power in 0.05..2.0f64) {
            prop_assert_eq!(Crossing::of(&curve(1_000.0 / factor, power)), Some(Crossing::Below(1_000)));
            prop_assert_eq!(Crossing::of(&curve(1e7 * factor, power)), Some(Crossing::Above(10_000_000)));
        }

        #[test]
        fn a_faster_path_wins_no_later(ratios in proptest::collection::vec(0.1..10.0f64, 5), faster in 1.0..3.0f64) {
            let at = |factor: f64| {
                Crossing::of(&SIZES.into_iter().zip(&ratios).map(|(size, ratio)| (size, ratio * factor)).collect::<Vec<_>>())
            };
            prop_assert!(at(faster) <= at(1.0));
        }

        #[test]
        fn noise_moves_the_median_little_and_the_interval_holds_it(
            even in 3e4..3e5f64, noise in proptest::collection::vec(proptest::collection::vec(-0.1..0.1f64, 5), 7),
        ) {
            let crossings = noise.iter().filter_map(|noise| {
                let noisy: Vec<_> = curve(even, 0.5).into_iter().zip(noise).map(|((size, ratio), noise)| (size, ratio * noise.exp())).collect();
                Crossing::of(&noisy)
            });
            let found = BreakEven::of(crossings.collect()).unwrap();
            // Where the noisy logarithm of the ratio is 0, the true one is off by the noise at most, and the size by that through the power.
            prop_assert!((found.from.bytes() as f64 / even).ln().abs() < 0.1 / 0.5 + 0.001, "{found:?}");
            let interval = found.interval.unwrap();
            prop_assert!(interval.low <= found.from && found.from <= interval.high);
        }

        #[test]
        fn the_interval_holds_the_median_in_any_order(
            mut crossings in proptest::collection::vec((0u8..3, 1_000u64..1_000_000), 1..40),
        ) {
            let of = |drawn: &[(u8, u64)]| BreakEven::of(drawn.iter().map(|(kind, bytes)| match kind {
                0 => Crossing::Below(1_000),
                1 => Crossing::At(*bytes),
                _ => Crossing::Above(1_000_000),
            }).collect()).unwrap();
            let found = of(&crossings);
            if let Some(interval) = found.interval {
                prop_assert!(interval.low <= found.from && found.from <= interval.high);
            }
            crossings.reverse();
            prop_assert_eq!(of(&crossings), found);
        }
    }
}
