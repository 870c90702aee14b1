//! A bounded pool of blocking connections to one server.

use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::ConnectorError;
use crate::lock::lock;

type Connect<C> = Box<dyn Fn() -> Result<C, ConnectorError> + Send + Sync>;

/// One connection for each thread that is in a request, up to a bound; threads beyond it wait.
pub(crate) struct Pool<C> {
    connect: Connect<C>,
    bound: usize,
    state: Mutex<State<C>>,
    returned: Condvar,
}

struct State<C> {
    idle: Vec<C>,
    busy: usize,
}

/// A connection, and whether it served before: then it may have died since.
struct Lease<C> {
    connection: C,
    used: bool,
}

impl<C> Pool<C> {
    /// Connects once, so that a server that is not there is noticed now.
    pub(crate) fn new(
        bound: usize,
        connect: impl Fn() -> Result<C, ConnectorError> + Send + Sync + 'static,
    ) -> Result<Self, ConnectorError> {
        let first = connect()?;
        Ok(Self::with(first, bound, connect))
    }

    /// Begins with this connection.
    pub(crate) fn with(
        first: C,
        bound: usize,
        connect: impl Fn() -> Result<C, ConnectorError> + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(State { idle: vec![first], busy: 0 });
        Self { connect: Box::new(connect), bound, state, returned: Condvar::new() }
    }

    /// How many threads are in a request.
    pub(crate) fn busy(&self) -> usize {
        lock(&self.state).busy
    }

    /// Makes a request that may be repeated: once, over a new connection, where a pooled one turns out dead.
    pub(crate) fn run<T>(&self, request: impl FnMut(&mut C) -> Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        self.attempt(request).map(|(answer, _)| answer)
    }

    /// Makes a request that removes what it returns. `None` from a repeated request may mean that the first one did it and its
    /// answer was lost, so the first one's error is returned then.
    pub(crate) fn take<T>(
        &self,
        request: impl FnMut(&mut C) -> Result<Option<T>, ConnectorError>,
    ) -> Result<Option<T>, ConnectorError> {
        match self.attempt(request)? {
            (None, Some(first_error)) => Err(first_error),
            (answer, _) => Ok(answer),
        }
    }

    /// The answer, with the error of the first attempt where there were two.
    fn attempt<T>(
        &self,
        mut request: impl FnMut(&mut C) -> Result<T, ConnectorError>,
    ) -> Result<(T, Option<ConnectorError>), ConnectorError> {
        let _place = self.enter();
        let Lease { mut connection, used } = self.lease()?;
        let (answer, first_error) = match request(&mut connection) {
            Err(error) if used && error.is_disconnect() => {
                // Whatever ended this connection has most likely ended the others.
                lock(&self.state).idle.clear();
                connection = (self.connect)()?;
                (request(&mut connection)?, Some(error))
            }
            // After an error the connection's state is unknown: it is closed, not kept.
            answer => (answer?, None),
        };
        lock(&self.state).idle.push(connection);
        Ok((answer, first_error))
    }

    /// Waits until fewer than the bound are in a request.
    fn enter(&self) -> Place<'_, C> {
        let mut state = self
            .returned
            .wait_while(lock(&self.state), |state| state.busy >= self.bound)
            .unwrap_or_else(PoisonError::into_inner);
        state.busy += 1;
        Place(self)
    }

    fn lease(&self) -> Result<Lease<C>, ConnectorError> {
        let idle = lock(&self.state).idle.pop();
        Ok(match idle {
            Some(connection) => Lease { connection, used: true },
            None => Lease { connection: (self.connect)()?, used: false },
        })
    }
}

/// The right to be in a request, given back on drop.
struct Place<'a, C>(&'a Pool<C>);

impl<C> Drop for Place<'_, C> {
    fn drop(&mut self) {
        lock(&self.0.state).busy -= 1;
        self.0.returned.notify_one();
    }
}

impl<C> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("bound", &self.bound).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn dead() -> ConnectorError {
        ConnectorError::Io {
            connector: "test".into(),
            action: "request".into(),
            source: io::ErrorKind::ConnectionReset.into(),
        }
    }

    /// A pool whose connections are numbered from 0.
    fn pool(bound: usize) -> (Pool<usize>, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new(bound, {
            let made = Arc::clone(&made);
            move || Ok(made.fetch_add(1, SeqCst))
        });
        (pool.unwrap(), made)
    }

    #[test]
    fn a_dead_connection_is_replaced_once() {
        let (pool, _) = pool(2);
        let answer = pool.run(|connection| if *connection == 0 { Err(dead()) } else { Ok(*connection) });
        assert_eq!(answer.unwrap(), 1);
        let mut requests = 0;
        pool.run(|_| {
            requests += 1;
            Err::<(), _>(dead())
        })
        .unwrap_err();
        assert_eq!(requests, 2);
    }

    #[test]
    fn nothing_from_a_repeated_take_is_the_first_error() {
        let (pool, _) = pool(2);
        let answer = pool.take(|connection| if *connection == 0 { Err(dead()) } else { Ok(None::<()>) });
        assert!(answer.unwrap_err().is_disconnect());
        assert_eq!(pool.take(|_| Ok(None::<()>)).unwrap(), None);
    }

    #[test]
    fn threads_beyond_the_bound_wait() {
        let (pool, made) = pool(2);
        let busy = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    pool.run(|_| {
                        assert!(busy.fetch_add(1, SeqCst) < 2);
                        thread::sleep(Duration::from_millis(2));
                        busy.fetch_sub(1, SeqCst);
                        Ok(())
                    })
                });
            }
        });
        assert!(made.load(SeqCst) <= 2);
    }
}
