//! Trying again.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use crate::lock::lock;
use crate::{ConnectorError, Secret};

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
    standing: Arc<Standing>,
}

/// What is known of the paths to one process, by all here that use them.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Everything was tried in vain.
    is_down: AtomicBool,
    /// What was tried last broke off.
    is_doubted: AtomicBool,
}

/// By the secret of whom they lead to.
static KNOWN: Mutex<BTreeMap<[u8; 16], Arc<Standing>>> = Mutex::new(BTreeMap::new());

/// What is known of the paths to whoever has this secret.
fn standing(secret: &Secret) -> Arc<Standing> {
    Arc::clone(lock(&KNOWN).entry(secret.0).or_default())
}

/// Notes that others have tried everything in vain.
pub(super) fn doubt(secret: &Secret) {
    let standing = standing(secret);
    standing.is_down.store(true, Relaxed);
    standing.is_doubted.store(true, Relaxed);
}

impl Standing {
    pub(super) fn is_doubted(&self) -> bool {
        self.is_doubted.load(Relaxed)
    }
}

impl Patience {
    /// With the paths to whoever has this secret.
    pub(super) fn with(secret: &Secret) -> Self {
        Self { standing: standing(secret) }
    }

    /// What those see who connect.
    pub(super) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// What a request that may be repeated comes to.
    pub(super) fn persist<T>(
        &self,
        mut request: impl FnMut() -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        let mut pauses = &PAUSES[..];
        if self.standing.is_down.load(Relaxed) {
            sleep(DOWN);
            pauses = &[];
        }
        let mut stalls = 0;
        loop {
            let error = match request() {
                Ok(answer) => {
                    self.standing.is_down.store(false, Relaxed);
                    self.standing.is_doubted.store(false, Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let ConnectorError::Io { source, .. } = &error else { return Err(error) };
            self.standing.is_doubted.store(true, Relaxed);
            stalls += usize::from(source.kind() == ErrorKind::TimedOut);
            let Some((pause, more)) = pauses.split_first().filter(|_| stalls <= STALLS) else {
                self.standing.is_down.store(true, Relaxed);
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
        assert!(!patience.standing.is_down.load(Relaxed));
    }

    #[test]
    fn whoever_goes_the_same_way_knows_what_others_found() {
        let (secret, other) = (Secret([71; 16]), Secret([72; 16]));
        let tries_of = |secret: &Secret| {
            let mut tries = 0;
            let request = || {
                tries += 1;
                Err::<(), _>(broken(ErrorKind::ConnectionRefused))
            };
            Patience::with(secret).persist(request).unwrap_err();
            tries
        };
        doubt(&secret);
        assert_eq!((tries_of(&secret), tries_of(&other), tries_of(&other)), (1, 4, 1));
        Patience::with(&secret).persist(|| Ok(())).unwrap();
        assert!(!standing(&secret).is_doubted());
        assert_eq!(tries_of(&secret), 4);
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
