//! `sockmap`: in the kernel, from socket to socket: eBPF.
//!
//! A program of type `sk_skb` (`bpf/sockmap.bpf.c`) sees each buffer that a socket receives, and hands it to the socket of the other leg
//! without copying it through this process. It sees what is on the wire: a stream that is to be encrypted here can't be carried
//! so, and TLS of the applications passes as it came.
//!
//! What was learned about Linux's sockmap, and what is done about it:
//!
//! - There is no flow control: what is redirected waits in a queue without bounds, and the sender is never slowed. So the program
//!   redirects no more than the peer's send buffer has room for; what is beyond that, it *passes* to the socket itself, whose window
//!   closes. [`carry`] reads what was passed, writes it to the peer, and tells the program, which redirects again from the next buffer on.
//!   A path whose sender is faster than its receiver is therefore copied for the most part.
//! - Taking a socket out of the map loses what its program has in hand. Sockets stay until their connection ends.
//! - With a stream parser as well, a connection stood still here (Linux 6.18) after bytes were passed in bursts: data lay in its receive
//!   buffer, and no program was called. The kernel's source suggests why (`tcp_bpf_strp_read_sock` counts such bytes twice in
//!   `copied_seq`); that was not proven. There is no parser: each buffer is a message. What such a buffer repeats of an earlier one,
//!   after losses, is cut off by the program, since the kernel does not.
//! - What arrived before the socket was in the map waits for ever: one `recv` wakes it.
//! - The map takes no socket whose stream has ended: such a connection is copied.
//! - The end is not redirected, and as a message it breaks the queue. The program drops it, and the data server ends the other leg once
//!   every byte is in its send buffer: counted by the program, and by the peer's acknowledged and waiting bytes.
//! - Both sockets have to be there before either redirects: until then the program passes everything.
//!
//! Each buffer costs four lookups in hash maps, and a kernel thread (`kworker`) is woken to send it; the kernel also announces it to
//! whoever polls the socket. What is copied costs what `copy` costs; a connection on which nothing waits is looked at once a second.
//! None of this was measured with this program yet: the figures of a plain sockmap proxy on loopback have it behind a copy, and
//! `benches/paths` is where to compare. Linux of another byte order than the object's, little-endian, refuses it.

mod carry;
mod probe;
mod program;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};

use self::carry::Joining;
use self::program::Program;
use super::in_process::InProcess;
use super::{DataServerError, DataServerType};
use crate::forward::{ForwardPlan, Forwarding};
use crate::relay::{DataPlane, Relay, keep};

/// Connections that one data server has at most, all sessions together; what memory it costs depends on how many there are.
pub const SOCKMAP_CONNECTIONS: NonZero<u32> = NonZero::new(16_384).unwrap();

/// Forwards in the kernel.
#[derive(Debug)]
pub struct Sockmap {
    plane: Arc<DataPlane>,
    connections: NonZero<u32>,
    /// From the first use on.
    program: Mutex<Option<Arc<Program>>>,
}

impl Sockmap {
    /// On these threads, up to so many connections at once. Nothing is loaded yet.
    pub fn new(plane: Arc<DataPlane>, connections: NonZero<u32>) -> Self {
        Self { plane, connections, program: Mutex::new(None) }
    }

    fn program(&self) -> Result<Arc<Program>, String> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = &*program {
            return Ok(Arc::clone(program));
        }
        let loaded = Program::load(self.connections.get())?;
        Ok(Arc::clone(program.insert(Arc::new(loaded))))
    }
}

impl InProcess for Sockmap {
    const KIND: DataServerType = DataServerType::Sockmap;

    fn works(&self) -> Result<(), DataServerError> {
        let works = self.program().and_then(|program| probe::probe(&program));
        works.map_err(|problem| DataServerError::Unavailable { kind: Self::KIND, problem })
    }

    fn forward(&self, plan: ForwardPlan) -> io::Result<Box<dyn Forwarding>> {
        let program = self.program().map_err(io::Error::other)?;
        Relay::start(&self.plane, plan, |tasks, path| {
            keep(tasks, &path);
            Ok(Arc::new(Joining { program, path }))
        })
    }
}
