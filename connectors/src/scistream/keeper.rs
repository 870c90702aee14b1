//! Looks after paths, and makes those anew that a gateway has lost.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ::scistream::client::HeldPath;

use super::{Site, Ways};
use crate::Address;

/// Between two looks: what is stored meanwhile may be lost with a path.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks where the last one found something wrong, and those before it.
const LONGEST: Duration = Duration::from_secs(16);
/// Of one process: what ends so many paths ends the next one, too.
const MOST_RENEWALS: u32 = 100;

/// A thread that holds the paths of one process. They are given back when this is dropped: within three of the gateways' time limits, and
/// four more if it is making one anew just then.
#[derive(Debug)]
pub(super) struct Keeper {
    ending: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread has.
struct Rounds {
    paths: Vec<Held>,
    /// As they are now.
    ways: Ways,
    address: Arc<RwLock<Address>>,
    renewals: u32,
}

struct Held {
    path: HeldPath,
    /// The log was told that something is wrong with it.
    is_told: bool,
}

impl Keeper {
    /// Looks after the paths to the sites of these ways, one to each, and keeps `address` up to date, which tells where they begin.
    ///
    /// # Errors
    /// The system refuses a thread; then the paths are given back.
    pub(super) fn start(paths: Vec<HeldPath>, ways: Ways, address: Arc<RwLock<Address>>) -> io::Result<Self> {
        let paths = paths.into_iter().map(|path| Held { path, is_told: false }).collect();
        let rounds = Rounds { paths, ways, address, renewals: 0 };
        let (ending, ended) = mpsc::channel();
        let thread = thread::Builder::new().name("psbench-paths".into()).spawn(move || rounds.run(&ended))?;
        Ok(Self { ending: Some(ending), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.ending.take());
        // It has logged whatever went wrong in it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Rounds {
    fn run(mut self, ended: &Receiver<()>) {
        let mut pause = LOOK;
        while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = if self.look() { LOOK } else { LONGEST.min(pause * 2) };
        }
    }

    /// Whether all paths were there.
    fn look(&mut self) -> bool {
        let mut were_there = true;
        for (held, site) in self.paths.iter_mut().zip(&mut self.ways.sites) {
            were_there &= held.look_after(site, &mut self.renewals);
        }
        // Host names and ports can always be written.
        if let Ok(address) = Address::of(&self.ways) {
            *self.address.write().unwrap_or_else(PoisonError::into_inner) = address;
        }
        were_there
    }
}

impl Held {
    /// Whether it was there; makes it anew where it was not.
    fn look_after(&mut self, site: &mut Site, renewals: &mut u32) -> bool {
        match self.path.is_there() {
            Ok(true) => {
                self.is_told = false;
                return true;
            }
            Ok(false) if *renewals < MOST_RENEWALS => {
                *renewals += 1;
                self.renew(site);
            }
            Ok(false) => self.tell(site, &format!("a gateway lost it, after it was made anew {MOST_RENEWALS} times")),
            Err(error) => self.tell(site, &error.to_string()),
        }
        false
    }

    fn renew(&mut self, site: &mut Site) {
        if let Err(error) = self.path.renew() {
            return self.tell(site, &error.to_string());
        }
        let before = site.to_string();
        *site = Site::new(&site.name, self.path.listeners());
        tracing::warn!(
            "a gateway had lost the path for workers at {before}: it was made anew, at {site}. What was stored before can't be had where \
             that is elsewhere; start psbench s2cs with --keep-sessions, and paths outlive it"
        );
    }

    /// Once, until it is there again.
    fn tell(&mut self, site: &Site, problem: &str) {
        if !self.is_told {
            self.is_told = true;
            tracing::warn!("the path for workers at {site} may lead nowhere: {problem}");
        }
    }
}
