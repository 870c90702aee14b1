//! Whether the consumer keeps up: how many messages wait, over time.

use crate::clock::Nanos;
use crate::results::record::{Lag, LagPoint};

/// Messages that wait, over the time of a trial.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// Each of so many looks, by powers of two, and the last one.
    looks: Vec<Look>,
    thinning: u32,
    count: u64,
    max_messages: u64,
}

/// One look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Nanos,
    /// Messages that had been published.
    published: u64,
    /// Of these, messages that no worker had been given.
    waiting: u64,
}

/// Below so many looks no trend shows.
const FEWEST: usize = 5;

/// Looks that results keep, and that the trend is found in: its cost is quadratic.
const MOST: usize = 200;

/// Looks that are held: those of some minutes, or every other one of twice that, and so on.
const HELD: usize = 4096;

/// A trend below this share of the rate of publishing is none that a longer trial would be in trouble for.
const SLOW_GROWTH: f64 = 0.01;

/// The standard normal distribution's 95th percentile: of trials without a trend one in twenty passes.
const SIGNIFICANT: f64 = 1.645;

impl Backlog {
    /// Takes note of a look, unless it is the one before.
    pub fn push(&mut self, at: Nanos, published: u64, waiting: u64) {
        if self.looks.last().is_some_and(|last| last.at >= at) {
            return;
        }
        // The last one stays only until the next, unless it is one of those that are kept.
        if self.looks.len() > 1 && !(self.count - 1).is_multiple_of(1 << self.thinning) {
            self.looks.pop();
        }
        self.looks.push(Look { at, published, waiting });
        self.max_messages = self.max_messages.max(waiting);
        self.count += 1;
        if self.looks.len() > HELD {
            self.thinning += 1;
            let last = self.looks.last().copied();
            let mut place = 0;
            self.looks.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            if self.looks.last().zip(last).is_some_and(|(kept, last)| kept.at < last.at) {
                self.looks.extend(last);
            }
        }
    }

    /// What it comes to for a trial that started at `start`; `None` when nobody looked.
    pub fn summary(&self, start: Nanos) -> Option<Lag> {
        let max_messages = self.looks.last().map(|_| self.max_messages)?;
        let published = thinned(self.while_published());
        let growth_per_s = (published.len() >= FEWEST).then(|| slope(&published));
        let sustained = growth_per_s
            .zip(rate(&published))
            .map(|(growth, rate)| !(growth > SLOW_GROWTH * rate && trend(&published) > SIGNIFICANT));
        // The first looks are ahead of the first item.
        let point = |look: Look| LagPoint { at_s: (look.at as f64 - start as f64) / 1e9, messages: look.waiting };
        let samples = thinned(&self.looks).into_iter().map(point).collect();
        Some(Lag { max_messages, growth_per_s, sustained, samples })
    }

    /// The looks from the first messages on until the last was published.
    fn while_published(&self) -> &[Look] {
        let Some(last) = self.looks.last() else { return &[] };
        let first = self.looks.iter().position(|look| look.published > 0).unwrap_or(self.looks.len());
        let end = self.looks.iter().position(|look| look.published == last.published).map_or(0, |end| end + 1);
        self.looks.get(first..end).unwrap_or_default()
    }
}

/// At most [`MOST`] of the looks, evenly.
fn thinned(looks: &[Look]) -> Vec<Look> {
    looks.iter().step_by(looks.len().div_ceil(MOST).max(1)).copied().collect()
}

/// Messages published each second.
fn rate(looks: &[Look]) -> Option<f64> {
    let (first, last) = (looks.first()?, looks.last()?);
    let seconds = last.at.saturating_sub(first.at) as f64 / 1e9;
    (seconds > 0.0).then(|| (last.published - first.published) as f64 / seconds)
}

fn pairs(looks: &[Look]) -> impl Iterator<Item = (&Look, &Look)> {
    looks.iter().enumerate().flat_map(|(n, earlier)| looks[n + 1..].iter().map(move |later| (earlier, later)))
}

/// The median of the slopes between all pairs, messages a second (Sen, “Estimates of the regression coefficient based on Kendall's tau”,
/// 1968): a few odd looks do not turn it.
fn slope(looks: &[Look]) -> f64 {
    let mut slopes: Vec<f64> = pairs(looks)
        .map(|(earlier, later)| {
            (later.waiting as f64 - earlier.waiting as f64) / ((later.at - earlier.at) as f64 / 1e9)
        })
        .collect();
    slopes.sort_by(f64::total_cmp);
    let middle = slopes.len() / 2;
    if slopes.len() % 2 == 1 { slopes[middle] } else { (slopes[middle - 1] + slopes[middle]) / 2.0 }
}

/// The test statistic of Mann and Kendall, standard normal where there is no trend, with the correction for ties (Mann, “Nonparametric
/// tests against trend”, 1945; Gilbert, “Statistical methods for environmental pollution monitoring”, 1987, §16.4.2).
fn trend(looks: &[Look]) -> f64 {
    let sum: i64 = pairs(looks).map(|(earlier, later)| later.waiting.cmp(&earlier.waiting) as i64).sum();
    let mut waiting: Vec<u64> = looks.iter().map(|look| look.waiting).collect();
    waiting.sort_unstable();
    let spread = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let ties: f64 = waiting.chunk_by(|a, b| a == b).map(|tied| spread(tied.len() as f64)).sum();
    let deviation = ((spread(looks.len() as f64) - ties) / 18.0).sqrt();
    if sum == 0 || deviation == 0.0 { 0.0 } else { (sum - sum.signum()) as f64 / deviation }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Nanos = 100_000_000;

    /// Of looks each tenth of a second, while 1000 messages a second are published.
    fn lag(waiting: &[u64]) -> Lag {
        let mut backlog = Backlog::default();
        for (n, waiting) in (1..).zip(waiting) {
            backlog.push(n * TENTH, n * 100, *waiting);
        }
        backlog.summary(0).unwrap()
    }

    #[test]
    fn a_growing_backlog_is_not_sustained() {
        let growing = lag(&[5, 60, 95, 160, 200, 240, 310]);
        assert_eq!((growing.sustained, growing.max_messages), (Some(false), 310));
        assert!((growing.growth_per_s.unwrap() - 500.0).abs() < 30.0, "{growing:?}");
    }

    #[test]
    fn noise_a_hiccup_and_slow_growth_are_sustained() {
        for waiting in [
            &[3, 8, 1, 9, 2, 7, 4, 6][..],
            &[0, 0, 0, 900, 600, 300, 0, 0, 0, 0],
            &[7; 20],
            &[100, 100, 101, 101, 102, 102, 103, 103, 104],
            &[900, 700, 500, 300, 100, 0],
        ] {
            assert_eq!(lag(waiting).sustained, Some(true), "{waiting:?}");
        }
    }

    #[test]
    fn few_looks_tell_nothing() {
        let few = lag(&[1, 100, 1000, 10_000]);
        assert_eq!((few.sustained, few.growth_per_s, few.samples.len()), (None, None, 4));
        assert_eq!(Backlog::default().summary(0), None);
    }

    #[test]
    fn what_comes_after_the_last_message_does_not_count() {
        let mut backlog = Backlog::default();
        for n in 1..=10 {
            backlog.push(n * TENTH, n * 100, n * 50);
        }
        for n in 11..=60 {
            backlog.push(n * TENTH, 1000, 500 - (n - 10) * 10);
            backlog.push(n * TENTH, 1000, 0);
        }
        assert_eq!(backlog.summary(0).unwrap().sustained, Some(false));
        assert_eq!(backlog.summary(TENTH).unwrap().samples[0], LagPoint { at_s: 0.0, messages: 50 });
    }

    #[test]
    fn very_long_trials_hold_a_few_looks_evenly() {
        let mut backlog = Backlog::default();
        for n in 1..=1_000_000 {
            backlog.push(n * TENTH, n * 100, n % 7);
            assert!(backlog.looks.len() <= HELD);
        }
        assert_eq!(backlog.looks.last().unwrap().published, 100_000_000);
        let gaps: Vec<_> = backlog.looks.windows(2).map(|pair| pair[1].published - pair[0].published).collect();
        assert!(backlog.looks.len() > HELD / 2 && gaps[..gaps.len() - 1].iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
        assert_eq!(backlog.summary(0).unwrap().max_messages, 6);
    }

    #[test]
    fn long_trials_keep_a_few_looks() {
        let waiting: Vec<u64> = (0..10_000).map(|n| n * 3).collect();
        let long = lag(&waiting);
        assert!(long.samples.len() <= MOST && long.samples.len() > MOST / 2, "{}", long.samples.len());
        assert_eq!((long.sustained, long.max_messages), (Some(false), 29_997));
    }

    #[test]
    fn the_statistic_is_that_of_the_book() {
        // Ten values, no ties, all rising: S = 45, variance 125; (45 − 1) / √125.
        let looks: Vec<Look> = (1..=10).map(|n| Look { at: n, published: n, waiting: n }).collect();
        assert!((trend(&looks) - 44.0 / 125.0_f64.sqrt()).abs() < 1e-12);
    }
}
