//! `copy`: in user space, through bounded buffers.
//!
//! Both ways of a connection are one task on one thread. In full flow a turn is a read of up to 256 KiB, which costs a copy out of the
//! kernel, and a write of as much, which costs a copy into it, from the same chunk, which stays in the core's cache: of the gateways'
//! 0.6 CPU s/GB (1 MiB samples, two gateways) nearly all is that. Beside it a turn costs two system calls, since a read or write in part
//! also shows that a socket has no more or takes no more, a count for each, and no allocation: chunks come from a pool of the thread's own,
//! last in first out, and a connection that waits for data has none. More than a chunk is held only for a receiver that takes nothing for
//! a while: see [`way`]. After a turn that moved something the sockets are looked at once more, without waiting: while small samples
//! flow the sender then has nobody to wake, which is what it spends most on.
//!
//! Beside two HAProxies as the reference sets them up (`benches/paths`; medians of five interleaved rounds on two cores, BBR) it carried
//! × 1.15 at 1 KiB samples, and × 1.23 at 64 KiB and at 1 MiB; all took × 0.95, × 0.81 and × 0.82 of the processor time per byte, of which
//! the gateways' is 0.54 and 0.59 CPU s/GB (HAProxy 0.82); with `reno` for all sockets it carried × 1.0, × 1.2 and × 1.0. It was below them
//! nowhere, which is why it is the default. At 64 KiB a gateway reads 190 KB at a time, and HAProxy 93: what is left is the copying, which
//! costs what it costs. [`Splice`](super::Splice) spares it.

pub(super) mod pool;
mod way;

use std::io;
use std::sync::Arc;

use self::way::OneWay;
use super::DataServerType;
use super::in_process::InProcess;
use super::stripes::Striping;
use super::udp::{self, Places};
use crate::forward::{ForwardOptions, ForwardPlan, Forwarding, MOST_STRIPES, Transport};
use crate::relay::{BothWays, DataPlane, Relay, keep};

/// Forwards in user space.
#[derive(Clone, Debug)]
pub struct Copy {
    plane: Arc<DataPlane>,
    places: Places,
}

impl Copy {
    /// On these threads.
    pub fn new(plane: Arc<DataPlane>) -> Self {
        Self { plane, places: Places::new() }
    }
}

impl InProcess for Copy {
    const KIND: DataServerType = DataServerType::Copy;
    const FORWARDS_UDP: bool = true;

    fn cannot(&self, options: &ForwardOptions, transport: Transport) -> Option<String> {
        match options.stripes {
            0 | 1 => None,
            _ if transport == Transport::Udp => Some("forwards datagrams as they are: leave out `stripes`".into()),
            stripes if stripes > MOST_STRIPES as usize => {
                Some(format!("can't carry a stream over {stripes} connections; up to {MOST_STRIPES}"))
            }
            _ => None,
        }
    }

    fn forward(&self, plan: ForwardPlan) -> io::Result<Box<dyn Forwarding>> {
        if plan.transport == Transport::Udp {
            return udp::start(&self.plane, &self.places, plan);
        }
        Relay::start(&self.plane, plan, |tasks, path| {
            keep(tasks, &path);
            Ok(match path.options.stripes {
                0 | 1 => Arc::new(BothWays { path, flow: |course| Box::new(OneWay::new(course)) }),
                _ => Arc::new(Striping::new(path)),
            })
        })
    }
}
