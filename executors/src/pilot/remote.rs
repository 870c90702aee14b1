//! A worker at the other end of a connection.

use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::hello::Guest;
use crate::WorkerInfo;
use crate::clock;
use crate::fleet::channel::Channel;
use crate::fleet::member::{End, WorkerProcess};

/// A worker that has not been heard of for as long, though it tells every second that it is there, can't get on.
const SILENT: Duration = Duration::from_secs(3);

/// A worker that connected. Nothing can be done to its process but to hang up, upon which it ends.
pub(super) struct Remote {
    guest: Guest,
    channel: Channel,
    /// When something last came from it.
    heard: AtomicU64,
}

impl Remote {
    pub(super) fn new(guest: Guest, channel: Channel) -> Self {
        Self { guest, channel, heard: clock::now().into() }
    }
}

impl WorkerProcess for Remote {
    fn place(&self) -> String {
        format!("pid {} on {}", self.guest.pid, self.guest.host)
    }

    fn introduce(&self, info: &mut WorkerInfo) {
        info.pid = Some(self.guest.pid);
        info.host = self.guest.elsewhere.then(|| self.guest.host.clone());
        info.clock = self.guest.clock;
    }

    fn heard(&self) {
        self.heard.store(clock::now(), Ordering::Relaxed);
    }

    fn ailment(&self) -> Option<&'static str> {
        let silence = clock::now().saturating_sub(self.heard.load(Ordering::Relaxed));
        (Duration::from_nanos(silence) > SILENT).then_some("silent")
    }

    fn kill(&self) {
        self.channel.shut_down(Shutdown::Both);
    }

    fn reap(&self, _linger: Duration) -> End {
        End { text: "its connection ended".to_owned(), success: true }
    }
}
