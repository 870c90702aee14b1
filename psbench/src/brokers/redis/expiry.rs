//! That no list stays of a run that could not delete it.
//!
//! Lists of psbench's own expire some time after nobody pushed to them or took from them any more; another program's are its own.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::MessageFormat;
use super::{Kind, Server};

/// After which a list goes.
pub(super) const EXPIRY: Duration = Duration::from_secs(600);

/// Between two times that whoever takes from a list lets it live on.
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// The lists of the trials that run.
static LISTS: Mutex<Vec<(Server, String)>> = Mutex::new(Vec::new());

impl Server {
    /// Whether psbench makes its topics, and sees to it that they go.
    pub(super) fn has_own_lists(&self) -> bool {
        self.kind == Kind::Queue && self.format == MessageFormat::Psbench
    }

    /// Notes a list that is to go with this process.
    pub(super) fn note_list(&self, topic: &str) {
        if self.has_own_lists() {
            lists().push((self.clone(), topic.to_owned()));
        }
    }

    /// A list has gone.
    pub(super) fn forget_list(&self, topic: &str) {
        lists().retain(|(_, known)| known != topic);
    }
}

/// What has a list live on.
pub(super) fn refresh(topic: &str) -> redis::Cmd {
    redis::cmd("EXPIRE").arg(topic).arg(EXPIRY.as_secs()).to_owned()
}

/// Deletes the lists of trials that run, as far as that can be done.
pub(in super::super) fn abandon() {
    let all = std::mem::take(&mut *lists());
    for (server, topic) in all {
        if let Ok(mut connection) = server.control_for(&topic) {
            // Whoever leaves at once is told of nothing.
            let _ = connection.query(redis::cmd("UNLINK").arg(&topic));
        }
    }
}

fn lists() -> MutexGuard<'static, Vec<(Server, String)>> {
    LISTS.lock().unwrap_or_else(PoisonError::into_inner)
}
