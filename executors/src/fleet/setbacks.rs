//! When a worker that is missing is to be started.

use std::time::{Duration, Instant};

/// Workers in a row that may end before they are ready, until no more are started.
const MAX_FAILED_STARTS: u32 = 3;
/// Workers in a row that may end while they hold no task, until no more are started.
const MAX_IDLE_DEATHS: u32 = 8;
/// Time before the next start after one setback; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The setbacks in a row, so that workers that can't last are not started in a tight loop, nor for ever.
///
/// A worker that ends with a task in its hands is none: each such end takes a task with it, so there are no more of
/// them than tasks.
#[derive(Debug, Default)]
pub(super) struct Setbacks {
    failed_starts: u32,
    idle_deaths: u32,
    /// The last worker that started told that its work can't be made.
    hopeless: bool,
    /// The last setback.
    last: Option<(Instant, String)>,
}

/// What to do about a worker that is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Advice {
    Start,
    /// Not before then.
    Wait(Instant),
    /// No more, for this reason.
    GiveUp(String),
}

impl Setbacks {
    /// A worker ended before it was ready, or could not even be started.
    pub(super) fn failed_start(&mut self, now: Instant, reason: &str) {
        self.failed_starts += 1;
        self.last = Some((now, reason.to_owned()));
    }

    /// A worker told that its work can't be made.
    pub(super) fn refused(&mut self) {
        self.hopeless = true;
    }

    /// Whether another start is likely to come to nothing, too.
    pub(super) fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    /// A worker ended while it held nothing.
    pub(super) fn idle_death(&mut self, now: Instant, reason: &str) {
        self.idle_deaths += 1;
        self.last = Some((now, reason.to_owned()));
    }

    /// A worker is ready.
    pub(super) fn started(&mut self) {
        self.failed_starts = 0;
        self.hopeless = false;
    }

    /// A worker ended a task.
    pub(super) fn worked(&mut self) {
        self.idle_deaths = 0;
    }

    /// The last one's reason.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_ref().map(|(_, reason)| reason.as_str())
    }

    pub(super) fn advice(&self, now: Instant) -> Advice {
        let Some((last, reason)) = &self.last else {
            return Advice::Start;
        };
        if self.failed_starts >= MAX_FAILED_STARTS {
            return Advice::GiveUp(format!(
                "no workers are left: {MAX_FAILED_STARTS} in a row were never ready, the last: {reason}"
            ));
        }
        if self.idle_deaths >= MAX_IDLE_DEATHS {
            return Advice::GiveUp(format!(
                "no workers are left: {MAX_IDLE_DEATHS} in a row ended while they had no task, the last: {reason}"
            ));
        }
        match self.failed_starts + self.idle_deaths {
            0 => Advice::Start,
            setbacks => {
                let due = *last + FIRST_PAUSE.saturating_mul(1 << (setbacks - 1)).min(LONGEST_PAUSE);
                if due <= now { Advice::Start } else { Advice::Wait(due) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let begun = Instant::now();
        let mut setbacks = Setbacks::default();
        let mut pauses = Vec::new();
        let reason = loop {
            match setbacks.advice(begun) {
                Advice::Start => {}
                Advice::Wait(due) => {
                    assert_eq!(setbacks.advice(due), Advice::Start);
                    pauses.push((due - begun).as_millis());
                }
                Advice::GiveUp(reason) => break reason,
            }
            // Being ready helps nothing if it dies thereafter.
            setbacks.started();
            setbacks.idle_death(begun, "signal 11");
        };
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000]);
        assert_eq!(reason, "no workers are left: 8 in a row ended while they had no task, the last: signal 11");
        setbacks.worked();
        assert_eq!(setbacks.advice(begun), Advice::Start);
    }

    #[test]
    fn workers_that_are_never_ready_are_given_up_sooner() {
        let begun = Instant::now();
        let mut setbacks = Setbacks::default();
        for _ in 0..3 {
            assert!(!matches!(setbacks.advice(begun), Advice::GiveUp(_)));
            setbacks.failed_start(begun, "exit code 7");
        }
        let reason = "no workers are left: 3 in a row were never ready, the last: exit code 7";
        assert_eq!(setbacks.advice(begun), Advice::GiveUp(reason.to_owned()));
        setbacks.started();
        assert_eq!(setbacks.advice(begun), Advice::Start);
    }
}
