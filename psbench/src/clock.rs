//! Time, injected wherever it is read, so that pacing and statistics are tested without sleeping.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds of the host's monotonic clock. Comparable between the processes of one host, and unmoved when its wall clock is set.
pub type Nanos = u64;

/// Tells the time and passes it.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Nanos;

    /// Returns at `instant` or a little later; at once when it has passed. May also return early: the caller looks again.
    fn sleep_until(&self, instant: Nanos);
}

/// The host's clock: `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The clock of another host, read on this one, whose own is ahead of it or behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock {
    ahead_ns: i64,
}

impl HostClock {
    /// Where this host's clock is ahead by so many nanoseconds.
    pub fn ahead_by(ahead_ns: i64) -> Self {
        Self { ahead_ns }
    }
}

impl Clock for HostClock {
    fn now(&self) -> Nanos {
        behind(SystemClock.now(), self.ahead_ns)
    }

    fn sleep_until(&self, instant: Nanos) {
        SystemClock.sleep_until(behind(instant, self.ahead_ns.saturating_neg()));
    }
}

/// An instant of a clock that is ahead by so many nanoseconds, by the clock that it is ahead of.
pub fn behind(instant: Nanos, ahead_ns: i64) -> Nanos {
    instant.saturating_add_signed(ahead_ns.saturating_neg())
}

/// The longest single sleep, so that a waiting loop sees within this time that it was told to stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

impl Clock for SystemClock {
    fn now(&self) -> Nanos {
        nanos(clock_gettime(ClockId::Monotonic))
    }

    fn sleep_until(&self, instant: Nanos) {
        let left = Duration::from_nanos(instant.saturating_sub(self.now()));
        std::thread::sleep(left.min(LONGEST_SLEEP));
    }
}

/// Names [`SystemClock`]: its instants compare only with those of a clock of the same name. `None` where the system does not tell.
pub fn identity() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || Some(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned());
    BOOT.get_or_init(read).as_deref()
}

/// CPU time that this process has used in user and system mode, all threads together.
pub fn process_cpu_time() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ProcessCPUTime)))
}

/// The same instant on the host's monotonic clock and, nanoseconds, since the Unix epoch.
fn anchor() -> &'static (Nanos, i64) {
    static ANCHOR: OnceLock<(Nanos, i64)> = OnceLock::new();
    ANCHOR.get_or_init(|| {
        let unix = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        (SystemClock.now(), unix)
    })
}

/// Seconds since the Unix epoch at an instant of [`SystemClock`]; one anchor for the whole process, so that differences stay exact.
pub fn unix_seconds(instant: Nanos) -> f64 {
    unix_nanos(instant) as f64 / 1e9
}

/// Nanoseconds since the Unix epoch at an instant of [`SystemClock`], by the same anchor.
pub fn unix_nanos(instant: Nanos) -> i64 {
    let (monotonic, unix) = *anchor();
    i64::try_from(i128::from(unix) + i128::from(instant) - i128::from(monotonic)).unwrap_or(i64::MAX)
}

fn nanos(time: Timespec) -> Nanos {
    // Both clocks count from 0 upwards.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// A clock that a test sets, and that sleeping moves.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicU64);

#[cfg(test)]
impl ManualClock {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as u64, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn now(&self) -> Nanos {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn sleep_until(&self, instant: Nanos) {
        self.0.fetch_max(instant, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_moves_forward_and_sleeps() {
        let before = SystemClock.now();
        SystemClock.sleep_until(before + 2_000_000);
        assert!(SystemClock.now() >= before + 2_000_000);
    }

    #[test]
    fn the_clock_of_another_host_differs_by_its_offset() {
        let second = 1_000_000_000;
        let (early, late) = (HostClock::ahead_by(5 * second), HostClock::ahead_by(-5000 * second));
        let difference = late.now() - early.now();
        assert!((5005 * second.unsigned_abs()).abs_diff(difference) < 60 * second.unsigned_abs(), "{difference}");
        let before = late.now();
        late.sleep_until(before + 2_000_000);
        assert!(late.now() >= before + 2_000_000);
    }

    #[test]
    fn unix_seconds_keep_differences() {
        let now = SystemClock.now();
        let difference = unix_seconds(now + 1_500_000_000) - unix_seconds(now);
        assert!((difference - 1.5).abs() < 1e-5, "{difference}");
    }
}
