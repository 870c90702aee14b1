//! Warnings that anybody can cause.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of a kind.
const QUIET: Duration = Duration::from_secs(60);

/// Warnings of one kind: one line a minute, which tells the latest and how many there were. Dropping tells the rest.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    last_line: Option<Instant>,
    count: u64,
    latest: String,
}

impl Seldom {
    /// Logs it, or counts it for the next line.
    pub fn warn(&self, warning: impl Into<String>) {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        untold.count += 1;
        untold.latest = warning.into();
        if untold.last_line.is_none_or(|at| at.elapsed() >= QUIET)
            && let Some(line) = untold.take()
        {
            tracing::warn!("{line}");
        }
    }
}

impl Drop for Seldom {
    fn drop(&mut self) {
        if let Some(line) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            tracing::warn!("{line}");
        }
    }
}

impl Untold {
    /// What there is to tell.
    fn take(&mut self) -> Option<String> {
        let latest = std::mem::take(&mut self.latest);
        let line = match std::mem::take(&mut self.count) {
            0 => return None,
            1 => latest,
            count => format!("{latest} (the latest of {count} such since the last line)"),
        };
        self.last_line = Some(Instant::now());
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minute_has_one_line_with_a_count() {
        let warnings = Seldom::default();
        for _ in 0..1000 {
            warnings.warn("somebody called");
        }
        assert_eq!(warnings.0.lock().unwrap().count, 999, "all but the first wait for the next line");
        advance(QUIET).await;
        warnings.warn("one more called");
        assert_eq!(warnings.0.lock().unwrap().count, 0);
        for _ in 0..2 {
            warnings.warn("somebody called");
        }
        let line = warnings.0.lock().unwrap().take().unwrap();
        assert_eq!(line, "somebody called (the latest of 2 such since the last line)");
    }
}
