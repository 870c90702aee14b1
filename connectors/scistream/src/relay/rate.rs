//! Keeping a session to a rate.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use crate::forward::Way;

/// A token bucket for each way, which all connections of a session share. Bytes are taken when they were read, and paid by waiting
/// before the next read: the kernel's flow control slows the sender down, and nothing is held or dropped for it.
///
/// Kept as the time at which the bucket is full again ("virtual scheduling", ITU-T I.371), so that taking is one atomic operation.
#[derive(Debug)]
pub(crate) struct Rate {
    bits_per_second: u64,
    /// Since when times are counted.
    start: Instant,
    /// When all that was taken is paid, in nanoseconds.
    paid: [AtomicU64; 2],
}

/// What may go at once after a pause, in time: longer than timers are late, too short to be felt as a burst.
const DEPTH: Duration = Duration::from_millis(20);
/// The most that should be moved at a time, so that connections take turns.
const TURN: Duration = Duration::from_millis(5);
const SMALLEST_TURN: u64 = 1024;
const LARGEST_TURN: u64 = 256 << 10;

impl Rate {
    /// In bits/s; 0 counts as 1.
    pub(crate) fn new(bits_per_second: u64) -> Self {
        Self { bits_per_second: bits_per_second.max(1), start: Instant::now(), paid: Default::default() }
    }

    /// The most to read at a time, in bytes.
    fn turn(&self) -> usize {
        let bytes = self.bits_per_second / 8 * TURN.as_millis() as u64 / 1000;
        bytes.clamp(SMALLEST_TURN, LARGEST_TURN) as usize
    }

    /// Takes bytes that were read. Whoever took them reads nothing until then; `None`: they are paid already.
    fn take(&self, way: Way, bytes: u64) -> Option<Instant> {
        let (now, cost) = (nanos(self.start.elapsed()), self.cost(bytes));
        let after = |before: u64| before.max(now.saturating_sub(nanos(DEPTH))).saturating_add(cost);
        let (Ok(before) | Err(before)) = self.paid(way).fetch_update(Relaxed, Relaxed, |before| Some(after(before)));
        let until = after(before);
        (until > now).then(|| self.start + Duration::from_nanos(until))
    }

    /// How long so many bytes take, in nanoseconds.
    fn cost(&self, bytes: u64) -> u64 {
        let cost = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.bits_per_second);
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    fn paid(&self, way: Way) -> &AtomicU64 {
        &self.paid[match way {
            Way::ToTarget => 0,
            Way::ToClient => 1,
        }]
    }

    /// Takes bytes that can't wait, unless some that went before are still to be paid. Says whether they may go.
    pub(crate) fn admit(&self, way: Way, bytes: u64) -> bool {
        let (now, cost) = (nanos(self.start.elapsed()), self.cost(bytes));
        let admitted = self.paid(way).fetch_update(Relaxed, Relaxed, |before| {
            (before <= now).then(|| before.max(now.saturating_sub(nanos(DEPTH))).saturating_add(cost))
        });
        admitted.is_ok()
    }
}

/// One way of a connection before its session's rate. Whoever waits for the rate is not idle.
#[derive(Debug)]
pub(crate) struct Toll<'a> {
    rate: Option<&'a Rate>,
    activity: &'a Activity,
    way: Way,
    /// Until what was read is paid.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<'a> Toll<'a> {
    pub(crate) fn new(rate: Option<&'a Rate>, activity: &'a Activity, way: Way) -> Self {
        Self { rate, activity, way, pause: None }
    }

    /// The most to read at a time, in bytes.
    pub(crate) fn turn(&self) -> usize {
        self.rate.map_or(usize::MAX, Rate::turn)
    }

    /// The most to read now, in bytes. Pending: nothing yet.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(self.turn())
    }

    /// So many bytes were read.
    pub(crate) fn took(&mut self, bytes: usize) {
        self.pause = self.take(bytes).map(|until| Box::pin(sleep_until(until)));
    }

    /// So many bytes were read; waits until they are paid.
    pub(crate) async fn pay(&self, bytes: usize) {
        if let Some(until) = self.take(bytes) {
            sleep_until(until).await;
        }
    }

    fn take(&self, bytes: usize) -> Option<Instant> {
        let until = self.rate.and_then(|rate| rate.take(self.way, bytes as u64));
        if let Some(until) = until {
            self.activity.held_until(until);
        }
        until
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// 1,000,000 bytes/s.
    const RATE: u64 = 8_000_000;

    async fn move_bytes(rate: &Rate, way: Way, mut bytes: usize) {
        let activity = Activity::default();
        let toll = Toll::new(Some(rate), &activity, way);
        while bytes > 0 {
            let turn = bytes.min(toll.turn());
            toll.pay(turn).await;
            bytes -= turn;
        }
    }

    fn is_about(measured: Duration, expected: Duration) -> bool {
        measured.abs_diff(expected) <= DEPTH + Duration::from_millis(5)
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_a_rate() {
        let rate = Rate::new(RATE);
        let start = Instant::now();
        let one = async {
            move_bytes(&rate, Way::ToTarget, 1_000_000).await;
            start.elapsed()
        };
        let other = async {
            move_bytes(&rate, Way::ToTarget, 1_000_000).await;
            start.elapsed()
        };
        let (one, other) = tokio::join!(one, other);
        for elapsed in [one, other] {
            assert!(is_about(elapsed, Duration::from_secs(2)), "{elapsed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_way_has_the_rate_for_itself() {
        let rate = Rate::new(RATE);
        let start = Instant::now();
        tokio::join!(move_bytes(&rate, Way::ToTarget, 1_000_000), move_bytes(&rate, Way::ToClient, 1_000_000));
        assert!(is_about(start.elapsed(), Duration::from_secs(1)), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_the_bucket_holds() {
        let rate = Rate::new(RATE);
        sleep(Duration::from_secs(3600)).await;
        let start = Instant::now();
        move_bytes(&rate, Way::ToTarget, 500_000).await;
        assert!(is_about(start.elapsed(), Duration::from_millis(500)), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_rate_is_not_idle() {
        // A turn, the smallest there is, takes a second more than the limit.
        let (rate, limit) = (Rate::new(1_000), Duration::from_secs(7));
        let activity = Activity::default();
        let mut toll = Toll::new(Some(&rate), &activity, Way::ToTarget);
        let moving = async {
            for _ in 0..10 {
                let turn = std::future::poll_fn(|context| toll.poll(context)).await;
                activity.note();
                toll.took(turn);
            }
        };
        let start = Instant::now();
        tokio::select! {
            error = activity.idle(Some(limit)) => panic!("{error} after {:?}", start.elapsed()),
            () = moving => assert!(start.elapsed() > 9 * limit),
        }
        activity.idle(Some(limit)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_wait_goes_at_the_rate_or_not_at_all() {
        let rate = Rate::new(RATE);
        let start = Instant::now();
        let mut went = 0;
        while start.elapsed() < Duration::from_secs(1) {
            went += u64::from(rate.admit(Way::ToTarget, 1_000));
            // Twice what is allowed.
            sleep(Duration::from_millis(1)).await;
            went += u64::from(rate.admit(Way::ToTarget, 1_000));
        }
        assert!((980..=1_040).contains(&went), "{went}");
    }

    #[tokio::test(start_paused = true)]
    async fn rates_without_sense_do_no_harm() {
        assert!(Rate::new(0).take(Way::ToTarget, u64::MAX).is_some());
        let fast = Rate::new(u64::MAX);
        assert_eq!(fast.take(Way::ToTarget, 1 << 20), None);
        assert!(fast.turn() <= LARGEST_TURN as usize);
    }
}
