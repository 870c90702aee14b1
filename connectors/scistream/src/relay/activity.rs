//! Whether anything moves on a connection.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Whether anything moves on a connection, either way, or would if its session's rate let it.
#[derive(Debug)]
pub(crate) struct Activity {
    moves: AtomicU64,
    began: Instant,
    /// Until when a way waits for the rate, in nanoseconds since it began.
    held_until: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { moves: AtomicU64::new(0), began: Instant::now(), held_until: AtomicU64::new(0) }
    }
}

impl Activity {
    /// Something moved. Costs an addition, not an atomic one: that counts get lost among threads does no harm, as long as they change.
    pub(crate) fn note(&self) {
        self.moves.store(self.moves.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Until then nothing moves because it may not.
    pub(super) fn held_until(&self, until: Instant) {
        let until = until.saturating_duration_since(self.began).as_nanos();
        self.held_until.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), Relaxed);
    }

    /// Fails once nothing has moved for so long, up to a quarter later; never, if there is no limit.
    pub(crate) async fn idle(&self, limit: Option<Duration>) -> io::Error {
        self.idle_as(limit, || Ok(0)).await
    }

    /// As [`idle`](Self::idle), where bytes move that are counted elsewhere.
    pub(crate) async fn idle_as(&self, limit: Option<Duration>, count: impl Fn() -> io::Result<u64>) -> io::Error {
        const LOOKS: u32 = 4;
        let Some(limit) = limit else { return pending().await };
        let (mut seen, mut quiet, mut looked) = (None, 0, Instant::now());
        loop {
            let now = match count() {
                Ok(counted) => Some((counted, self.moves.load(Relaxed))),
                Err(error) => return error,
            };
            quiet = if now == seen && !self.was_held(looked) { quiet + 1 } else { 0 };
            if quiet == LOOKS {
                break;
            }
            (seen, looked) = (now, Instant::now());
            sleep(limit / LOOKS).await;
        }
        io::Error::new(io::ErrorKind::TimedOut, format!("nothing moved for {limit:?}"))
    }

    /// Whether it was held at this time.
    fn was_held(&self, then: Instant) -> bool {
        then.saturating_duration_since(self.began) < Duration::from_nanos(self.held_until.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(8);

    /// When a connection with so much activity is idle.
    async fn idle_at(activity: &Activity, use_it: impl Future<Output = ()>) -> f64 {
        let start = Instant::now();
        let use_it = async {
            use_it.await;
            pending::<()>().await;
        };
        tokio::select! {
            error = activity.idle(Some(LIMIT)) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            () = use_it => {}
        }
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_quiet_connection_is_idle() {
        let activity = Activity::default();
        let at = idle_at(&activity, async {
            for _ in 0..10 {
                sleep(Duration::from_secs(6)).await;
                activity.note();
            }
        });
        let at = at.await;
        assert!((68.0..=70.0).contains(&at), "{at}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_held_is_not_idle() {
        let activity = Activity::default();
        let at = idle_at(&activity, async { activity.held_until(Instant::now() + Duration::from_secs(60)) }).await;
        assert!((68.0..=70.0).contains(&at), "{at}");
        let counted = AtomicU64::new(0);
        let start = Instant::now();
        let count = || Ok(counted.fetch_add(u64::from(start.elapsed() < Duration::from_secs(60)), Relaxed));
        activity.idle_as(Some(LIMIT), count).await;
        let at = start.elapsed().as_secs_f64();
        assert!((68.0..=70.0).contains(&at), "{at}");
    }
}
