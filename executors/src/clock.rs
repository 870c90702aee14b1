//! This host's monotonic clock, and how those of other hosts compare with it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::time::{ClockId, clock_gettime};

use crate::ClockOffset;

/// Nanoseconds of the host's monotonic clock.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // It counts from 0 upwards.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Names the clock: processes that tell the same name, which is not empty, read the same one. The host's boot has a name, and within
/// a host each time namespace.
pub(crate) fn identity() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if boot.trim().is_empty() {
        return String::new();
    }
    let namespace = fs::metadata("/proc/self/ns/time").map_or(0, |file| file.ino());
    format!("{}:{namespace}", boot.trim())
}

/// Whether a clock of this name is one of this host's, in whichever namespace.
pub(crate) fn same_host(name: &str) -> bool {
    let boot = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    !name.is_empty() && boot(name) == boot(&identity())
}

/// What is known of a clock elsewhere, by causality alone: it read `there` between the instants `before` and `after` of this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    least: i64,
    most: i64,
}

impl Bounds {
    /// Of a clock that read `first` not before this one read `before`, and `last` not after this one read `after`.
    pub(crate) fn new(before: u64, first: u64, last: u64, after: u64) -> Self {
        Self { least: difference(last, after), most: difference(first, before) }
    }

    /// What both tell.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { least: self.least.max(other.least), most: self.most.min(other.most) }
    }

    /// The middle, which is off by half of the width at most.
    pub(crate) fn estimate(self) -> ClockOffset {
        let width = i128::from(self.most) - i128::from(self.least);
        let middle = i128::from(self.least) + width / 2;
        ClockOffset {
            ahead_ns: i64::try_from(middle).unwrap_or_default(),
            // Two clocks that drift apart leave less than nothing in the end.
            error_ns: u64::try_from(width.unsigned_abs().div_ceil(2)).unwrap_or(u64::MAX),
        }
    }
}

fn difference(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_narrow() {
        // A clock that is ahead by 1000, over a way of 10 and back of 30; then over one of 50 and back of 5.
        let (first, second) = (Bounds::new(0, 1010, 1020, 50), Bounds::new(100, 1150, 1160, 165));
        assert_eq!(first.estimate(), ClockOffset { ahead_ns: 990, error_ns: 20 });
        assert_eq!(first.and(second).estimate(), ClockOffset { ahead_ns: 1002, error_ns: 8 });
    }

    #[test]
    fn this_clock_has_a_name() {
        assert!(identity().len() > 10 && identity() == identity());
    }
}
