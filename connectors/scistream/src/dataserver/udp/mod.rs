//! Datagrams, which `copy` forwards where a session is one of UDP.
//!
//! Each client of a lane has a flow: a socket of its own that is connected to the target, so that answers find their way back and the
//! target tells clients apart. Nobody says when a flow is over, so it ends once it has been idle for long, or where somebody else needs
//! its place: a flood of made-up addresses takes neither more than [`MOST_FLOWS`] places of a lane (twice as many while
//! those that were evicted end) nor the descriptors that others need, and does not push out clients that have shown, by sending after an
//! answer, to be where they say.
//!
//! Nothing waits for room: what a socket does not take at once is dropped and counted, what the kernel dropped for us too. A session
//! that is kept to a rate drops what is over it (a policer, not a shaper): whoever sends datagrams prefers late news lost.
//!
//! Costs: a wake-up and a system call read up to 16 times 64 KB of datagrams, in rows where the kernel has joined them (GRO), and each
//! row leaves by one system call (GSO). No datagram is copied in this process.

mod flows;
mod lane;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;

use self::lane::Udp;
use crate::dataserver::{ForwardPlan, Forwarding};
use crate::relay::{DataPlane, Path, Relay};

/// Flows of one lane.
const MOST_FLOWS: usize = 1024;

/// The descriptors that flows may take of this process, all sessions together: half of all.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2;
        let most = usize::try_from(descriptors).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(most)))
    }
}

/// Starts to forward datagrams.
pub(super) fn start(plane: &Arc<DataPlane>, places: &Places, plan: ForwardPlan) -> io::Result<Box<dyn Forwarding>> {
    start_with(plane, places, plan, MOST_FLOWS)
}

fn start_with(
    plane: &Arc<DataPlane>,
    places: &Places,
    plan: ForwardPlan,
    most_flows: usize,
) -> io::Result<Box<dyn Forwarding>> {
    let (ports, path) = Path::of(plan);
    let relay = Relay::new(plane, &path.meter);
    let udp = Arc::new(Udp::new(path, places.clone(), most_flows));
    for (lane, port) in ports.into_iter().enumerate() {
        Arc::clone(&udp).serve(relay.tasks(), port, lane)?;
    }
    Ok(Box::new(relay))
}
