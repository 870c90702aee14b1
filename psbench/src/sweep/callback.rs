//! Workers at another site, whose connections come to the dispatcher through gateways.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use psbench_executors::ExecutorError;
use psbench_executors::pilot::{Invitation, Launcher};
use scistream::client::HeldPath;

use crate::brokers::{PathError, PathPlan};

/// Makes a path to where the dispatcher listens.
pub(super) fn path(plan: &PathPlan, door: &str) -> Result<HeldPath, PathError> {
    plan.make(&door.parse()?)
}

/// Has workers placed that connect where a path begins, which leads to the dispatcher and is there for as long as they are.
pub(super) struct Callback {
    plan: PathPlan,
    launcher: Box<dyn Launcher>,
    path: Mutex<Option<HeldPath>>,
}

impl Callback {
    pub(super) fn new(plan: PathPlan, launcher: Box<dyn Launcher>) -> Self {
        Self { plan, launcher, path: Mutex::default() }
    }

    fn path(&self) -> MutexGuard<'_, Option<HeldPath>> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Launcher for Callback {
    fn launch(&self, invitation: &Invitation, workers: u32) -> Result<(), ExecutorError> {
        let made = path(&self.plan, &invitation.address).map_err(|error| ExecutorError::Start {
            what: "workers that connect through gateways".to_owned(),
            source: io::Error::other(error),
        })?;
        // Gateways give as many ports as were asked for, or no path.
        let address = made.listeners().first().map(ToString::to_string).unwrap_or_default();
        *self.path() = Some(made);
        self.launcher.launch(&Invitation { address, token: invitation.token.clone() }, workers)
    }

    fn failure(&self) -> Option<String> {
        self.launcher.failure()
    }

    fn end(&self, grace: Duration) {
        self.launcher.end(grace);
        drop(self.path().take());
    }
}
