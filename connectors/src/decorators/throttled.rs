//! A connector behind a slow line.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::lock::lock;
use crate::{Connector, ConnectorConfig, ConnectorError, Key};

/// Delays operations as a line of limited bandwidth, which all threads share, and some latency would.
#[derive(Debug)]
pub struct Throttled {
    inner: Arc<dyn Connector>,
    line: Line,
    started: Instant,
    /// When the line is free again, since `started`.
    free_at: Mutex<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    bytes_per_second: u64,
    latency: Duration,
}

impl Line {
    /// Sends `bytes` at `now` over the line that is free at `free_at`, and says how long that takes. Latency delays a transfer, but
    /// does not occupy the line.
    fn send(&self, free_at: &mut Duration, now: Duration, bytes: u64) -> Duration {
        let seconds = bytes as f64 / self.bytes_per_second.max(1) as f64;
        *free_at = now.max(*free_at).saturating_add(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        (*free_at - now).saturating_add(self.latency)
    }
}

impl Throttled {
    /// Puts `inner` behind a line of `bytes_per_second`, with a `latency` for each operation.
    pub fn new(inner: Arc<dyn Connector>, bytes_per_second: u64, latency: Duration) -> Self {
        let line = Line { bytes_per_second, latency };
        Self { inner, line, started: Instant::now(), free_at: Mutex::default() }
    }

    fn delay(&self, bytes: u64) {
        let delay = self.line.send(&mut lock(&self.free_at), self.started.elapsed(), bytes);
        thread::sleep(delay);
    }
}

fn size_of(object: Option<&Bytes>) -> u64 {
    object.map_or(0, |object| object.len() as u64)
}

impl Connector for Throttled {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        self.delay(object.len() as u64);
        self.inner.put(object)
    }

    fn put_batch(&self, objects: Vec<Bytes>) -> Result<Vec<Key>, ConnectorError> {
        self.delay(objects.iter().map(|object| object.len() as u64).sum());
        self.inner.put_batch(objects)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let object = self.inner.get(key)?;
        self.delay(size_of(object.as_ref()));
        Ok(object)
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.delay(0);
        self.inner.exists(key)
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.delay(0);
        self.inner.evict(key)
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        self.delay(0);
        self.inner.evict_batch(keys)
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let object = self.inner.take(key)?;
        self.delay(size_of(object.as_ref()));
        Ok(object)
    }

    fn held(&self) -> Option<u64> {
        self.inner.held()
    }

    fn stop_waiting(&self) {
        self.inner.stop_waiting();
    }

    fn config(&self) -> &ConnectorConfig {
        self.inner.config()
    }

    fn config_for(&self, key: &Key) -> &ConnectorConfig {
        self.inner.config_for(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn transfers_queue_for_the_line_and_not_for_latency() {
        let line = Line { bytes_per_second: 1_000_000, latency: 7 * MS };
        let mut free_at = Duration::ZERO;
        assert_eq!(line.send(&mut free_at, 5 * MS, 10_000), 17 * MS);
        assert_eq!(line.send(&mut free_at, 5 * MS, 10_000), 27 * MS);
        assert_eq!(line.send(&mut free_at, 20 * MS, 1_000), 13 * MS);
        assert_eq!(line.send(&mut free_at, 100 * MS, 0), 7 * MS);
    }

    #[test]
    fn no_bandwidth_at_all_is_no_panic() {
        let line = Line { bytes_per_second: 0, latency: MS };
        let mut free_at = Duration::ZERO;
        assert!(line.send(&mut free_at, Duration::ZERO, u64::MAX) > Duration::from_secs(1 << 40));
        line.send(&mut free_at, Duration::ZERO, u64::MAX);
    }
}
