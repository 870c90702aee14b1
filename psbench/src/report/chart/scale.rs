//! Logarithmic axes.

use std::collections::BTreeSet;

use crate::units::Size;

/// Maps values above 0 to places along an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogScale {
    low: f64,
    high: f64,
    /// Where the two lie.
    ends: (f64, f64),
}

/// A mark on an axis.
pub(super) struct Tick {
    pub(super) place: f64,
    /// Absent where there is no room for it.
    pub(super) label: Option<String>,
}

/// Between names of sizes, so that they stay apart.
const LABEL_WIDTH: f64 = 56.0;

impl LogScale {
    /// With all values inside, and some room about them; absent where there are none above 0.
    pub(super) fn around(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Option<Self> {
        /// Of the decades shown, and at least so many.
        const ROOM: f64 = 0.05;
        const LEAST: f64 = 0.1;
        let logs = values.filter(|value| *value > 0.0 && value.is_finite()).map(f64::log10);
        let (low, high) =
            logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| (log.min(low), log.max(high)));
        let room = ((high - low) * ROOM).max(LEAST);
        (low <= high).then(|| Self { low: 10f64.powf(low - room), high: 10f64.powf(high + room), ends })
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        self.ends.0 + part * (self.ends.1 - self.ends.0)
    }

    pub(super) fn ends(&self) -> (f64, f64) {
        self.ends
    }

    /// Round values: 1, 2 and 5 of each decade, of many decades 1 alone.
    pub(super) fn round_values(&self) -> Vec<f64> {
        const MANY: f64 = 3.0;
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let steps: &[f64] = if (self.high / self.low).log10() > MANY { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = (first..=last).flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        all.filter(|value| (self.low..=self.high).contains(value)).collect()
    }
}

/// A mark for each size that was measured, named as far as there is room.
pub(super) fn size_ticks(across: &LogScale, sizes: &BTreeSet<u64>) -> Vec<Tick> {
    let mut free_from = f64::NEG_INFINITY;
    let mut tick = |size: &u64| {
        let place = across.at(*size as f64);
        let label = (place >= free_from).then(|| format!("{:#}", Size::from_bytes(*size)));
        if label.is_some() {
            free_from = place + LABEL_WIDTH;
        }
        Tick { place, label }
    };
    sizes.iter().map(&mut tick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_inside_and_in_proportion() {
        let scale = LogScale::around([10.0, 1000.0, 0.0].into_iter(), (0.0, 110.0)).unwrap();
        let [low, middle, high] = [10.0, 100.0, 1000.0].map(|value| scale.at(value));
        assert!((middle - 55.0).abs() < 1e-9 && (low + high - 110.0).abs() < 1e-9 && 0.0 < low && low < 10.0);
        assert_eq!(scale.round_values(), [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]);
        let wide = LogScale::around([1.0, 1e6].into_iter(), (110.0, 0.0)).unwrap();
        assert_eq!(wide.round_values().len(), 7);
        assert!(wide.at(1.0) > wide.at(10.0), "upwards");
        assert!(LogScale::around([0.0].into_iter(), (0.0, 1.0)).is_none());
        assert!(LogScale::around([5.0].into_iter(), (0.0, 1.0)).unwrap().at(5.0) > 0.4);
    }

    #[test]
    fn names_keep_apart() {
        let sizes = BTreeSet::from([1_000, 1_100, 1_000_000]);
        let scale = LogScale::around([1e3, 1e6].into_iter(), (0.0, 600.0)).unwrap();
        let named: Vec<_> = size_ticks(&scale, &sizes).into_iter().map(|tick| tick.label).collect();
        assert_eq!(named, [Some("1 kB".into()), None, Some("1 MB".into())]);
    }
}
