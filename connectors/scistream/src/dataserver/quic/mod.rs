//! `quic`: QUIC (RFC 9000) between the gateways.
//!
//! For each target the consumer's gateway keeps one connection to the producer's, or as many as `--preconnect` says (16 at most), made
//! as soon as the session starts to forward and made again when one is lost. Each TCP connection is a bidirectional stream of one of
//! them: it costs no handshake, only [a byte](GREETING) that makes the other gateway see it. Lost packets hold up the streams that they
//! belong to and no other. Receivers that read nothing stop only their own streams, until what was sent to them fills what a connection's
//! streams share (1 GiB, or four windows if that is more, in either gateway): some 100 of them on a short path with the default buffer, 5
//! at 144 ms, 4 on longer paths. More connections hold more. The producer's gateway listens on its port for UDP, which firewalls have to
//! let through; the same port for TCP stays bound, so that its number is the session's alone.
//!
//! **Who may.** Both gateways prove keys that they derive from the session's secret ([`identity`](super::identity)). Whoever has none is
//! told nothing and causes no connection to the target; an address that nobody has shown to be his own gets a Retry packet (RFC 9000
//! §8.1.2), smaller than what it answers. Handshakes, connections and streams are bounded in number.
//!
//! **The path.** Flow control is in user space, so that `tcp_rmem` and `tcp_wmem` of the hosts don't matter for the WAN leg, and nothing
//! is gained by stripes. A stream's window is `--buffer-size`, plus what the path holds at 10 Gbit/s by its round-trip time: 180 MB at
//! 144 ms. quinn can't change it later, so that a connection that finds the path to be another than what it was set up for is replaced
//! before it is used, by one that fits. Congestion control is cubic where the path is short, else BBR, unless `--congestion` says
//! otherwise. When the consumer's gateway, or a NAT device's binding for it, gets another address, the connection and its streams go
//! on (§9). When nothing arrives for 8 s, although either gateway sends something every 3 s, it goes on from another port by itself;
//! after 30 s the connection is lost, and TCP connections of it are reset.
//!
//! **What it costs.** For each packet: one copy into it and its sealing (AES-128-GCM, in place), at the other end one copy out of the
//! receive buffer and its opening. For the TCP connection: a read of up to 256 KiB into memory that the packets are then made of
//! ([`chunk`]), and one gathering write of up to 64 packets' contents. Both are tasks of the thread that drives the connection. Packets
//! have up to 16,000 bytes, where the path carries them, and as many as fit go with one system call (GSO) or arrive with one (GRO): each
//! costs its gateways some 2 µs together beside its bytes. Over loopback, samples of 64 KiB and 1 MiB, both gateways' CPU s/GB: 1.07 and
//! 1.10 at 6400 bytes, 1.00 and 1.01 at 9000, 0.92 and 0.94 at 16,000; at 1452 the whole chain took twice as long as at 6400. No
//! difference between acknowledgements of every second packet and every tenth or thirtieth. Of the gateways' time a third goes into the
//! copies and a fifth into AES. More unacknowledged than 2 MB carries no more, and raises the jitter (at 1 MiB twice as high): on two
//! cores, whoever has one sends all that he may before the next one has a turn.
//!
//! Two gateways on one host of two cores, source and sink beside them, as `cargo bench -p scistream --bench paths` measures it, medians
//! of five beside two HAProxies: with samples of 64 KiB 9.5 Gbit/s (HAProxy 11.7), with samples of 1 MiB 9.9 (11.8); both gateways take
//! 1.1 CPU s/GB (0.8), and samples arrive with 1.5 and 1.1 times the jitter. Runs differ by a fifth; four pairs of runs had it × 1.08 and
//! × 1.14 of what it carried with packets of 6400 bytes and its tasks on any thread, at 0.9 times the gateways' CPU s/GB.
//!
//! A session of five ports takes 4 ms to set up at both control servers, until the listeners accept (`--bench setup`; `tls` 3 ms, `copy`
//! 2.5). Its memory is bounded by [`narrow`], and given back: a control server grew by 27 MB in its first 200 sessions, and by none in the next 800.

mod chunk;
mod endpoint;
mod inbound;
mod narrow;
mod outbound;
mod stream;
#[cfg(test)]
mod tests;
mod transport;

use std::io;
use std::sync::Arc;

use self::inbound::Inbound;
use self::outbound::Outbound;
use self::transport::Times;
use super::DataServerType;
use super::in_process::{InProcess, whole_streams_only};
use crate::Role;
use crate::forward::{Congestion, ForwardOptions, ForwardPlan, Forwarding, Transport};
use crate::relay::{DataPlane, Path, Relay};

/// What goes through the connections (ALPN), and its version.
const PROTOCOL: &[u8] = b"psbench-scistream/1";

/// How each stream begins, from whoever opened it.
const GREETING: [u8; 1] = [1];

/// Forwards over QUIC.
#[derive(Clone, Debug)]
pub struct Quic {
    plane: Arc<DataPlane>,
    times: Times,
}

impl Quic {
    /// On these threads.
    pub fn new(plane: Arc<DataPlane>) -> Self {
        Self { plane, times: Times::default() }
    }
}

impl InProcess for Quic {
    const KIND: DataServerType = DataServerType::Quic;

    fn cannot(&self, options: &ForwardOptions, transport: Transport) -> Option<String> {
        if transport == Transport::Tcp && options.stripes > 1 {
            let problem = "needs no stripes: one connection's window holds what the path does; leave --stripes at 1";
            return Some(problem.into());
        }
        if options.preconnect > outbound::MOST {
            return Some(format!(
                "keeps {} connections at most for each port; set --preconnect to that or less",
                outbound::MOST
            ));
        }
        match &options.congestion {
            Congestion::Named(name) if !transport::is_known(&options.congestion) => {
                Some(format!("has no congestion control {name:?}; there are bbr, cubic and reno"))
            }
            _ => whole_streams_only(options, transport),
        }
    }

    fn forward(&self, plan: ForwardPlan) -> io::Result<Box<dyn Forwarding>> {
        match plan.role {
            Role::Producer => {
                let (ports, path) = Path::of(plan);
                let path = Arc::new(path);
                let relay = Relay::new(&self.plane, &path.meter);
                let crypto = Inbound::crypto(&path)?;
                for (lane, port) in ports.into_iter().enumerate() {
                    Inbound::start(lane, port, &path, &crypto, relay.tasks(), self.times)?;
                }
                Ok(Box::new(relay))
            }
            Role::Consumer => {
                Relay::start(&self.plane, plan, |tasks, path| Ok(Arc::new(Outbound::start(&path, tasks, self.times)?)))
            }
        }
    }
}
