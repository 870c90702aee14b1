//! How long a sweep still takes.

use std::time::Duration;

/// Foretells from what the plan says of each trial, corrected by how long the trials so far took.
#[derive(Debug)]
pub(super) struct TimeLeft {
    /// The shortest time of each trial.
    ideals: Vec<Duration>,
    /// Trials that have ended.
    ended: usize,
    /// How long they took.
    took: Duration,
}

impl TimeLeft {
    pub(super) fn new(ideals: Vec<Duration>) -> Self {
        Self { ideals, ended: 0, took: Duration::ZERO }
    }

    /// The next trial has ended.
    pub(super) fn trial_ended(&mut self, took: Duration) {
        self.ended += 1;
        self.took += took;
    }

    /// Of the running trial, in which `part` (0 to 1) of the items are done after `elapsed`. Absent when there is nothing to
    /// tell it from.
    pub(super) fn of_trial(&self, elapsed: Duration, part: f64) -> Option<Duration> {
        if part > 0.0 {
            return Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - part) / part).ok();
        }
        let whole = self.foretold(self.ideals.get(self.ended..=self.ended)?)?;
        Some(whole.saturating_sub(elapsed))
    }

    /// Of the whole sweep, likewise.
    pub(super) fn of_sweep(&self, elapsed: Duration, part: f64) -> Option<Duration> {
        let further = self.ideals.get(self.ended + 1..).unwrap_or_default();
        Some(self.of_trial(elapsed, part)? + self.foretold(further)?)
    }

    /// How long trials of these ideal times will take.
    fn foretold(&self, ideals: &[Duration]) -> Option<Duration> {
        let ended: Duration = self.ideals[..self.ended.min(self.ideals.len())].iter().sum();
        let ideal: Duration = ideals.iter().sum();
        if !ended.is_zero() {
            let slower = self.took.as_secs_f64() / ended.as_secs_f64();
            Duration::try_from_secs_f64(ideal.as_secs_f64() * slower).ok()
        } else if self.ended > 0 {
            // Trials without pauses have no ideal time; the next ones take as long as those before.
            let each = self.took / u32::try_from(self.ended).ok()?;
            each.checked_mul(u32::try_from(ideals.len()).ok()?)
        } else {
            (!ideal.is_zero() || ideals.is_empty()).then_some(ideal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn starts_from_the_plan_and_learns_from_what_it_took() {
        let mut left = TimeLeft::new(vec![seconds(10), seconds(10), seconds(20)]);
        assert_eq!(left.of_sweep(seconds(0), 0.0), Some(seconds(40)));
        assert_eq!(left.of_trial(seconds(5), 0.25), Some(seconds(15)));
        assert_eq!(left.of_sweep(seconds(5), 0.25), Some(seconds(45)));
        left.trial_ended(seconds(20));
        assert_eq!(left.of_trial(seconds(5), 0.0), Some(seconds(15)));
        assert_eq!(left.of_sweep(seconds(5), 0.0), Some(seconds(55)));
        left.trial_ended(seconds(20));
        assert_eq!(left.of_sweep(seconds(10), 0.5), Some(seconds(10)));
    }

    #[test]
    fn trials_without_ideal_times_take_as_long_as_those_before() {
        let mut left = TimeLeft::new(vec![Duration::ZERO; 3]);
        assert_eq!(left.of_sweep(seconds(1), 0.0), None);
        left.trial_ended(seconds(6));
        assert_eq!(left.of_sweep(seconds(1), 0.5), Some(seconds(7)));
        left.trial_ended(seconds(6));
        left.trial_ended(seconds(6));
        assert_eq!(left.of_trial(seconds(1), 0.0), None);
    }
}
