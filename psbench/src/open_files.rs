//! How many files a process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Enough for connections and segments of any trial; far above it, programs that close all descriptors one by one take seconds to start.
const ENOUGH: u64 = 65_536;

/// How many files this process may have open; absent where there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    /// What it was given.
    pub(crate) given: Option<u64>,
    /// What it has now.
    pub(crate) now: Option<u64>,
    /// What it could have.
    pub(crate) most: Option<u64>,
}

/// Lets this process, and those that it starts, open as many files as its user may, to within reason: the limit that a shell gives is
/// 1024 for the sake of programs that use `select`, and a connection to each of many workers takes more.
pub(crate) fn allow_more() -> OpenFiles {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |hard| hard.min(ENOUGH));
    if limit.current.is_some_and(|soft| soft < wanted) {
        // Up to the hard limit anyone may; where a sandbox refuses, whatever runs out of files says so itself.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
    OpenFiles { given: limit.current, now: getrlimit(Resource::Nofile).current, most: limit.maximum }
}
