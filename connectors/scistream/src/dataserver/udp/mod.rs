//! Datagrams, which `copy` forwards where a session is one of UDP.
//!
//! Each client of a lane has a flow: a socket of its own that is connected to the target, so that answers find their way back and the
//! target tells clients apart. Nobody says when a flow is over, so it ends once it has been idle for long, or where somebody else needs
//! its place: a flood of made-up addresses takes neither more than [`MOST_FLOWS`] places of a lane (twice as many while
//! those that were evicted end) nor the descriptors that others need ([`places`]), and does not push out clients that have shown, by sending
//! after an answer, to be where they say.
//!
//! Nothing waits for room: what a socket does not take at once is dropped and counted, what the kernel dropped for us too. A session
//! that is kept to a rate drops what is over it (a policer, not a shaper): whoever sends datagrams prefers late news lost.
//!
//! Costs: a wake-up and a system call read up to 16 times 64 KB of datagrams, in rows where the kernel has joined them (GRO), and each
//! row leaves by one system call (GSO). No datagram is copied in this process.

mod flows;
mod lane;
mod places;
mod socket;
mod target;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::lane::Udp;
pub(super) use self::places::Places;
use crate::forward::{ForwardPlan, Forwarding};
use crate::relay::{DataPlane, Path, Relay};

/// Where a socket fails, or a name can't be looked up.
const PAUSE: Duration = Duration::from_millis(200);

/// Flows of one lane.
const MOST_FLOWS: usize = 1024;

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
    let udp = Arc::new(Udp::new(path, places.share(), most_flows));
    for (lane, port) in ports.into_iter().enumerate() {
        Arc::clone(&udp).serve(relay.tasks(), port, lane)?;
    }
    Ok(Box::new(relay))
}
