//! `tls`: TLS 1.3 between the two gateways, each of which proves that it knows the session's secret.
//!
//! The consumer's gateway is the client, the producer's the server, as with the reference's stunnel. Who they are to each other is in
//! [`identity`](super::identity). A connection is made or answered by rustls until both have proved themselves ([`handshake`]); then
//! rustls hands its keys over, and records are made and taken here ([`record`]), in the memory that they are read to and written from
//! ([`outbox`], [`inbox`], [`stream`]). A target is connected to only once the other gateway says, sealed, that somebody is there ([`go`]).
//!
//! A stream's end is a record (`close_notify`), each way for itself; a connection that ends without one is a reset to whoever is behind
//! the gateway. Keys are replaced long before AES-GCM's limit. What strangers can cost is bounded ([`door`](super::door)).
//!
//! # What a byte costs
//!
//! In each gateway one read, one pass of AES-GCM, one write; nothing is copied besides what the kernel copies at either. rustls' own
//! records, by contrast, are copied to a queue, sealed in pieces of 16 KiB that are written one by one or gathered, and opened into
//! another queue. Measured on one core of an EPYC with VAES (ring, AES-128-GCM, 16 KiB records, in cache), CPU s/GB: to seal 0.21, to open
//! in place 0.16, to open and move to where the record before ended 0.15. So contents are moved together for nothing, and go out in one
//! plain write.
//!
//! A batch is up to [`memory::BATCH`] records: one vectored read, straight into the places between headers and tags, and one write for
//! each; what is smaller goes at once. That decides how often one side wakes the other; see there for what was measured. A key costs a
//! lock once in 2^23 records, a count for the meter one atomic addition for each batch, an idle connection no memory but its keys.
//!
//! Two gateways on one host of two cores, source and sink beside them, as `cargo bench -p scistream --bench paths` measures it, medians
//! of five: with samples of 64 KiB 11.3 Gbit/s where two stunnels as the reference sets them up give 3.3 (3.4 times as much), with
//! samples of 1 MiB 10.3 against 2.9; both gateways take 0.80 CPU s/GB where the stunnels take 2.31.
//!
//! # What a connection costs
//!
//! One round trip for TCP, one for the handshake, none for the word that somebody is there, which goes with the handshake's end. With
//! `preconnect` all but half a round trip were done before. In a handshake each side signs and checks once (Ed25519), and a key is agreed
//! on (X25519).

mod ahead;
mod fuzz;
mod go;
mod handshake;
mod inbox;
mod memory;
mod outbox;
#[cfg(test)]
mod properties;
mod record;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use self::ahead::Ahead;
pub use self::fuzz::read_records;
use self::go::PROTOCOL;
use self::handshake::Session;
use super::DataServerType;
use super::door::Door;
use super::identity::{client_config, server_config};
use super::in_process::InProcess;
use crate::Role;
use crate::forward::{ForwardPlan, Forwarding};
use crate::relay::{Carrier, DataPlane, Path, Relay, ResetOnDrop, conclude, connect, tune};

/// How long the other gateway may take to prove itself, once it has accepted: some round-trip times.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections of a session that have not proved themselves yet.
const STRANGERS: usize = 128;
/// Between attempts to connect ahead of time, while the other gateway can't be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// Forwards under TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    plane: Arc<DataPlane>,
}

impl Tls {
    /// On these threads.
    pub fn new(plane: Arc<DataPlane>) -> Self {
        Self { plane }
    }
}

impl InProcess for Tls {
    const KIND: DataServerType = DataServerType::Tls;

    fn forward(&self, plan: ForwardPlan) -> io::Result<Box<dyn Forwarding>> {
        Relay::start(&self.plane, plan, |tasks, path| {
            let side = Side::of(&path).map_err(io::Error::other)?;
            let gateway = Arc::new(Gateway { path, side });
            if gateway.path.role == Role::Consumer && gateway.path.options.preconnect > 0 {
                for lane in 0..gateway.path.targets.len() {
                    let gateway = Arc::clone(&gateway);
                    tasks.spawn(async move { gateway.connect_ahead(lane).await });
                }
            }
            Ok(gateway)
        })
    }
}

/// One of the two gateways, for one session.
struct Gateway {
    path: Arc<Path>,
    side: Side,
}

/// Which of the two.
enum Side {
    /// Connects to the other one; that of each lane.
    Consumer { config: Arc<ClientConfig>, ahead: Vec<Ahead> },
    /// Accepts from the other one.
    Producer { config: Arc<ServerConfig>, door: Door },
}

impl Side {
    fn of(path: &Path) -> Result<Self, rustls::Error> {
        Ok(match path.role {
            Role::Consumer => {
                let mut config = client_config(&path.secret, PROTOCOL)?;
                config.enable_secret_extraction = true;
                let ahead = path.targets.iter().map(|_| Ahead::default()).collect();
                Self::Consumer { config: Arc::new(config), ahead }
            }
            Role::Producer => {
                let mut config = server_config(&path.secret, PROTOCOL)?;
                config.enable_secret_extraction = true;
                Self::Producer { config: Arc::new(config), door: Door::new(STRANGERS) }
            }
        })
    }
}

impl Gateway {
    /// To the other gateway, which has proved itself.
    async fn connect(&self, config: &Arc<ClientConfig>, lane: usize) -> io::Result<(TcpStream, Session)> {
        let stream = connect(&self.path, &self.path.targets[lane]).await?;
        let session = timeout(HANDSHAKE, handshake::connect(config, &stream)).await??;
        Ok((stream, session))
    }

    /// Keeps as many connections of a lane ready as the session wants.
    async fn connect_ahead(&self, lane: usize) {
        let Side::Consumer { config, ahead } = &self.side else { return };
        let ahead = &ahead[lane];
        loop {
            let lack = ahead.lacks(self.path.options.preconnect).await;
            let made = join_all((0..lack).map(|_| self.connect(config, lane))).await;
            let put = made.into_iter().map(|made| made.and_then(|(stream, session)| ahead.put(stream, session)));
            if let Some(error) = put.filter_map(Result::err).last() {
                tracing::debug!("no connection ahead of time: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

impl Carrier for Gateway {
    fn carry(self: Arc<Self>, client: TcpStream, lane: usize) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            let path = &self.path;
            let client = ResetOnDrop::new(client);
            tune(path, &client)?;
            match &self.side {
                Side::Consumer { config, ahead } => {
                    let (other, mut session) = match ahead[lane].take() {
                        Some(made) => made,
                        None => self.connect(config, lane).await?,
                    };
                    let other = ResetOnDrop::new(other);
                    go::say(&other, &mut session).await?;
                    let carried = stream::carry(path, &client, &other, session).await;
                    conclude(path, [client, other], carried).await
                }
                Side::Producer { config, door } => {
                    let from = client.peer_addr()?.ip();
                    let mut session = door.admit(from, handshake::accept(config, &client)).await?;
                    go::hear(&client, &mut session).await?;
                    let target = ResetOnDrop::new(connect(path, &path.targets[lane]).await?);
                    let carried = stream::carry(path, &target, &client, session).await;
                    conclude(path, [client, target], carried).await
                }
            }
        })
    }
}
