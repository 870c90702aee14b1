//! Threads where the system may allow no more: each costs one of `pids.max`, or of `ulimit -u`.

use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::terminal::tell;

/// What to do where the system refuses a thread or a process.
const REMEDY: &str =
    "; the system allows no more threads and processes: raise pids.max of the control group, or ulimit -u";

/// What each of `jobs` comes to, in their order: all at once, as far as there are threads, and the others one after the other.
pub(crate) fn all<J: Send, T: Send>(jobs: impl IntoIterator<Item = J>, run: impl Fn(J) -> T + Sync) -> Vec<T> {
    let run = &run;
    thread::scope(|scope| {
        let start = |job: J| {
            let place = Place::of(job);
            let theirs = place.clone();
            let started = thread::Builder::new().spawn_scoped(scope, move || theirs.take().map(run));
            match started {
                Ok(thread) => Running::Beside(thread),
                // The closure is gone, what it was to work on is not.
                Err(_) => Running::Done(place.take().map(run)),
            }
        };
        let running: Vec<_> = jobs.into_iter().map(start).collect();
        running.into_iter().filter_map(Running::wait).collect()
    })
}

/// A job until somebody takes it.
struct Place<J>(Arc<Mutex<Option<J>>>);

impl<J> Clone for Place<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J> Place<J> {
    fn of(job: J) -> Self {
        Self(Arc::new(Mutex::new(Some(job))))
    }

    fn take(&self) -> Option<J> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

enum Running<'scope, T> {
    Beside(thread::ScopedJoinHandle<'scope, Option<T>>),
    Done(Option<T>),
}

impl<T> Running<'_, T> {
    fn wait(self) -> Option<T> {
        match self {
            Self::Beside(thread) => thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Self::Done(result) => result,
        }
    }
}

/// The same error, with what to do where a thread or a process was refused.
pub(crate) fn with_remedy(error: String) -> String {
    let refused = error.contains("(os error 11)")
        && ["start", "serve", "spawn", "thread", "watch"].iter().any(|what| error.contains(what));
    if refused && !error.contains(REMEDY) { error + REMEDY } else { error }
}

/// Ends this process in order where a library can't have a thread, which it takes for a defect: with a line, and after `clean_up`.
pub(crate) fn end_where_refused(clean_up: fn(), code: u8) {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if !is_refusal(said) {
            return usual(panic);
        }
        tell(format_args!("error: {}", with_remedy(format!("{said} (os error 11)"))));
        clean_up();
        #[expect(clippy::exit, reason = "a library counts on its thread: nothing of it can go on")]
        std::process::exit(code.into());
    }));
}

/// As the standard library and tokio put it.
fn is_refusal(panic: &str) -> bool {
    ["failed to spawn thread", "OS can't spawn worker thread"].iter().any(|start| panic.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_is_done_in_its_place() {
        assert_eq!(all(0..50, |n| n * n), (0..50).map(|n| n * n).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_refused_has_a_remedy_and_what_took_too_long_has_none() {
        let refused = "cannot start 4 worker threads: Resource temporarily unavailable (os error 11)";
        assert!(with_remedy(refused.into()).ends_with("ulimit -u"));
        let late = "redis at 127.0.0.1:6379: subscribe: Resource temporarily unavailable (os error 11)";
        assert_eq!(with_remedy(late.into()), late);
    }
}
