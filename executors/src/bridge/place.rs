//! Has an engine place workers that connect.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bridge, frames};
use crate::ExecutorError;
use crate::pilot::{Invitation, Launcher, TOKEN_VARIABLE};
use crate::sync::{lock, wait_timeout};

/// Places workers by an engine: each is one long task of it, which takes one of its workers.
pub struct BridgeLauncher {
    bridge: Arc<Bridge>,
    /// The worker's command line, to which its address is added.
    command: Vec<String>,
    placed: Mutex<Vec<u64>>,
}

impl BridgeLauncher {
    /// `command` is to connect to the address that is added to it, with the token in the environment.
    pub fn new(bridge: Arc<Bridge>, command: Vec<String>) -> Self {
        Self { bridge, command, placed: Mutex::default() }
    }
}

impl Launcher for BridgeLauncher {
    fn launch(&self, invitation: &Invitation, workers: u32) -> Result<(), ExecutorError> {
        let command: Vec<&str> = self.command.iter().map(String::as_str).chain([invitation.address.as_str()]).collect();
        let program = json!({"argv": command, "env": {TOKEN_VARIABLE: invitation.token}}).to_string();
        for _ in 0..workers {
            let placement = self.bridge.next_number();
            lock(&self.bridge.state).placements.insert(placement, None);
            lock(&self.placed).push(placement);
            self.bridge.send([frames::place(placement, program.clone())]);
        }
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        let engine = self.bridge.options.engine;
        let state = lock(&self.bridge.state);
        if let Some(end) = &state.end {
            return Some(format!("{engine}: {end}"));
        }
        let placed = lock(&self.placed);
        let mut ended = placed.iter().filter_map(|placement| state.placements.get(placement)?.as_ref());
        ended.next().map(|end| match end {
            Ok(words) => format!("{engine} placed a worker that ended: {words}"),
            Err(reason) => format!("{engine} placed a worker that ended badly: {reason}"),
        })
    }

    fn end(&self, grace: Duration) {
        let until = Instant::now() + grace;
        let placed = std::mem::take(&mut *lock(&self.placed));
        let mut state = lock(&self.bridge.state);
        while state.end.is_none()
            && placed.iter().any(|placement| matches!(state.placements.get(placement), Some(None)))
        {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Never begun, perhaps, or stuck.
                self.bridge.spoil();
                break;
            }
            state = wait_timeout(&self.bridge.changed, state, left);
        }
        for placement in placed {
            state.placements.remove(&placement);
        }
    }
}
