//! Trying again.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

use crate::ConnectorError;

/// Before each further try.
const PAUSES: [Duration; 3] = [Duration::from_millis(30), Duration::from_millis(370), Duration::from_secs(2)];

/// Before the one try of a request when the last one tried everything in vain: items of a path that is gone fail one after the other,
/// not all within a moment, nor each after all pauses.
const DOWN: Duration = Duration::from_millis(50);

/// A stalled transfer has taken 30 s already.
const STALLS: usize = 1;

/// Tries again where a path broke off, but not for ever.
#[derive(Debug, Default)]
pub(super) struct Patience {
    is_down: AtomicBool,
    doubt: Arc<Doubt>,
}

/// Whether what was tried last over a path broke off.
#[derive(Debug, Default)]
pub(super) struct Doubt(AtomicBool);

impl Doubt {
    pub(super) fn is_there(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Patience {
    /// What those see who connect.
    pub(super) fn doubt(&self) -> Arc<Doubt> {
        Arc::clone(&self.doubt)
    }

    /// What a request that may be repeated comes to.
    pub(super) fn persist<T>(
        &self,
        mut request: impl FnMut() -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        let mut pauses = &PAUSES[..];
        if self.is_down.load(Relaxed) {
            sleep(DOWN);
            pauses = &[];
        }
        let mut stalls = 0;
        loop {
            let error = match request() {
                Ok(answer) => {
                    self.is_down.store(false, Relaxed);
                    self.doubt.0.store(false, Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let ConnectorError::Io { source, .. } = &error else { return Err(error) };
            self.doubt.0.store(true, Relaxed);
            stalls += usize::from(source.kind() == ErrorKind::TimedOut);
            let Some((pause, more)) = pauses.split_first().filter(|_| stalls <= STALLS) else {
                self.is_down.store(true, Relaxed);
                return Err(error);
            };
            tracing::debug!("tried again after {pause:?}: {error}");
            sleep(*pause);
            pauses = more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(kind: ErrorKind) -> ConnectorError {
        ConnectorError::Io { connector: "test".into(), action: "ask".into(), source: kind.into() }
    }

    #[test]
    fn what_breaks_off_is_tried_four_times_at_most() {
        let patience = Patience::default();
        let mut tries = 0;
        let answer = patience.persist(|| {
            tries += 1;
            if tries < 3 { Err(broken(ErrorKind::ConnectionReset)) } else { Ok(tries) }
        });
        assert_eq!(answer.unwrap(), 3);
        tries = 0;
        let mut fail = || {
            tries += 1;
            Err::<(), _>(broken(ErrorKind::ConnectionRefused))
        };
        patience.persist(&mut fail).unwrap_err();
        // The next one learns of it.
        patience.persist(&mut fail).unwrap_err();
        assert_eq!(tries, 4 + 1);
        patience.persist(|| Ok(())).unwrap();
        assert!(!patience.is_down.load(Relaxed));
    }

    #[test]
    fn stalls_and_refusals_are_not_tried_over_and_over() {
        for (error, most) in [
            (&(|| broken(ErrorKind::TimedOut)) as &dyn Fn() -> ConnectorError, 2),
            (&|| ConnectorError::Unreachable { connector: "test".into(), reason: "never".into() }, 1),
        ] {
            let mut tries = 0;
            Patience::default()
                .persist(|| {
                    tries += 1;
                    Err::<(), _>(error())
                })
                .unwrap_err();
            assert_eq!(tries, most);
        }
    }
}
