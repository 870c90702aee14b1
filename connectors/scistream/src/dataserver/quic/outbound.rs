//! The consumer's side: keeps connections to the other gateway, and opens a stream of them for each connection that it accepts.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::BoxFuture;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError};
use tokio::net::{TcpStream, lookup_host};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::chunk::Chunks;
use super::endpoint::{Closing, RELEASED, endpoint, socket_to};
use super::stream::{Stream, carry};
use super::transport::{Times, fits, transport};
use super::{GREETING, PROTOCOL};
use crate::dataserver::identity::client_config;
use crate::relay::{Carrier, Path, ResetOnDrop, Tasks, tune};

/// Between the first attempts to connect; later ones wait longer.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long an attempt may take: four round trips, for a path of more than a second.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Connections of one lane; more only split the receivers' windows and congestion control further.
pub(super) const MOST: usize = 16;

/// The consumer's side of a session.
#[derive(Debug)]
pub(super) struct Outbound {
    path: Arc<Path>,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    chunks: Arc<Chunks>,
    /// Those that are there, each with the thread that drives it.
    connections: Vec<(Handle, watch::Receiver<Option<Connection>>)>,
    /// Of threads, for what was accepted.
    accepted: AtomicUsize,
    /// Of connections, for streams.
    opened: AtomicUsize,
}

impl Outbound {
    /// Connects to the targets from now on, ahead of whoever needs it.
    pub(super) fn start(path: &Arc<Path>, tasks: &Tasks, times: Times) -> io::Result<Self> {
        let crypto = client_config(&path.secret, PROTOCOL).map_err(io::Error::other)?;
        let crypto = Arc::new(QuicClientConfig::try_from(crypto).map_err(io::Error::other)?);
        let start = |lane| {
            let thread = tasks.thread();
            let (publish, connection) = watch::channel(None);
            let keeper = Keeper {
                lane,
                path: Arc::clone(path),
                times,
                crypto: Arc::clone(&crypto),
                tasks: tasks.clone(),
                thread: thread.clone(),
                publish,
                round_trip: Duration::ZERO,
            };
            tasks.spawn_on(&thread, keeper.keep());
            (thread, connection)
        };
        let lanes = (0..path.targets.len()).map(|lane| Lane {
            chunks: Chunks::new(&path.meter),
            connections: (0..path.options.preconnect.max(1)).map(|_| start(lane)).collect(),
            accepted: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
        });
        let lanes = lanes.collect();
        Ok(Self { path: Arc::clone(path), lanes })
    }

    async fn carry_over(&self, client: TcpStream, lane: usize) -> io::Result<()> {
        let path = &*self.path;
        let client = ResetOnDrop::new(client);
        tune(path, &client)?;
        let lane = &self.lanes[lane];
        let Ok(stream) = timeout(path.options.connect_timeout, lane.open()).await else {
            path.meter.refused();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no connection to the other gateway, or no stream of it",
            ));
        };
        carry(client, stream, path, &lane.chunks).await
    }
}

impl Carrier for Outbound {
    /// That of the connection whose turn it is: between two threads each would wake the other for every few packets.
    fn thread(&self, lane: usize) -> Option<Handle> {
        let Lane { connections, accepted, .. } = &self.lanes[lane];
        let turn = accepted.fetch_add(1, Relaxed);
        Some(connections[turn % connections.len()].0.clone())
    }

    fn carry(self: Arc<Self>, client: TcpStream, lane: usize) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move { self.carry_over(client, lane).await })
    }
}

impl Lane {
    /// Opens a stream, once there is a connection that has one left.
    async fn open(&self) -> Stream {
        loop {
            match self.try_open().await {
                Ok(stream) => return stream,
                Err(error) => tracing::debug!("no stream: {error}"),
            }
            // The connection was lost just now; whoever keeps it is about to notice.
            sleep(FIRST_PAUSE).await;
        }
    }

    /// Opens one of the next connection, of this thread's if it has any, or of the first one to be there if there is none.
    async fn try_open(&self) -> Result<Stream, ConnectionError> {
        let (here, turn) = (Handle::current().id(), self.opened.fetch_add(1, Relaxed));
        let (before, after) = self.connections.split_at(turn % self.connections.len());
        let mut choice: Vec<_> = after.iter().chain(before).collect();
        choice.sort_by_key(|(thread, _)| thread.id() != here);
        let ready = choice.iter().find_map(|(_, connection)| connection.borrow().clone());
        let connection = match ready {
            Some(connection) => connection,
            None => {
                let mut connection = choice[0].1.clone();
                match connection.wait_for(Option::is_some).await.ok().and_then(|connection| connection.clone()) {
                    Some(connection) => connection,
                    // The session ended.
                    None => return Err(ConnectionError::LocallyClosed),
                }
            }
        };
        let (mut send, recv) = connection.open_bi().await?;
        // The other gateway does not see a stream before there is something of it.
        let greeted = send.write_all(&GREETING).await;
        let stream = Stream::new(send, recv);
        greeted.map_err(|_| connection.close_reason().unwrap_or(ConnectionError::Reset))?;
        Ok(stream)
    }
}

/// Keeps one connection to the other gateway.
struct Keeper {
    lane: usize,
    path: Arc<Path>,
    times: Times,
    crypto: Arc<QuicClientConfig>,
    tasks: Tasks,
    thread: Handle,
    publish: watch::Sender<Option<Connection>>,
    /// What the next connection is set up for.
    round_trip: Duration,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect().await {
                Ok((endpoint, connection)) => {
                    pause = FIRST_PAUSE;
                    tracing::info!(peer = %connection.remote_address(), round_trip = ?connection.rtt(), "connected to the other gateway");
                    self.publish.send_replace(Some(connection.clone()));
                    let error = self.watch(&endpoint, &connection).await;
                    self.publish.send_replace(None);
                    match error {
                        // Both halves of a path are released together, and the other one may be faster.
                        ConnectionError::ApplicationClosed(close) if close.error_code == RELEASED => {
                            tracing::info!("the other gateway released its half");
                        }
                        error => tracing::warn!("lost the connection to the other gateway: {error}"),
                    }
                }
                Err(error) => {
                    let target = &self.path.targets[self.lane];
                    if pause < LONGEST_PAUSE {
                        tracing::warn!("can't connect to the other gateway at {target}: {error}");
                    } else {
                        tracing::debug!("still can't connect to the other gateway at {target}: {error}");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Connects to the first of the target's addresses that answers.
    async fn connect(&mut self) -> io::Result<(Closing, Connection)> {
        let (host, port) = (self.path.targets[self.lane].host().to_owned(), self.path.targets[self.lane].port());
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((host, port)).await? {
            match self.connect_to(address).await {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects, and again where the path turns out to be another than what the connection was set up for: a stream's window can't be
    /// changed later.
    async fn connect_to(&mut self, address: SocketAddr) -> io::Result<(Closing, Connection)> {
        /// The first, one that fits what that found, and one more if it found a busy host rather than a long path.
        const ATTEMPTS: usize = 3;
        let mut attempts = 1;
        // Both gateways find out anew: the other one may have been restarted and know nothing of the path.
        self.round_trip = Duration::ZERO;
        let endpoint = endpoint(&self.tasks, &self.thread, socket_to(address, &self.path.options)?, None)?;
        loop {
            let attempt = timeout(ATTEMPT, self.attempt(&endpoint, address)).await;
            let connection = attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            // Handshakes take time of their own on both hosts, which is not the path's.
            let round_trip = connection.min_rtt();
            if attempts == ATTEMPTS || fits(&self.path.options, self.round_trip, round_trip) {
                return Ok((endpoint, connection));
            }
            self.round_trip = round_trip;
            connection.close(RELEASED, b"the path is another");
            attempts += 1;
        }
    }

    async fn attempt(&self, endpoint: &Closing, address: SocketAddr) -> io::Result<Connection> {
        let mut config = ClientConfig::new(Arc::clone(&self.crypto) as Arc<_>);
        config.transport_config(transport(&self.path.options, self.times, self.round_trip));
        // The name plays no part: the other gateway is known by its key.
        let connecting = endpoint.0.connect_with(config, address, "gateway").map_err(io::Error::other)?;
        Ok(connecting.await?)
    }

    /// Watches a connection until it is lost. Where nothing arrives any more although something should, it goes on from another port:
    /// a NAT device or a firewall on the way may have forgotten the one of before, or have lost the path that it goes by.
    async fn watch(&self, endpoint: &Closing, connection: &Connection) -> ConnectionError {
        let mut closed = pin!(connection.closed());
        let mut looks = interval(self.times.silent);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = 0;
        loop {
            tokio::select! {
                error = &mut closed => return error,
                _ = looks.tick() => {}
            }
            let received = connection.stats().udp_rx.datagrams;
            if received == seen {
                let moved = socket_to(connection.remote_address(), &self.path.options)
                    .and_then(|socket| endpoint.0.rebind(socket));
                match moved {
                    Ok(()) => tracing::info!("nothing arrives from the other gateway: goes on from another port"),
                    Err(error) => {
                        tracing::warn!("nothing arrives from the other gateway, and there is no other port: {error}");
                    }
                }
            }
            seen = received;
        }
    }
}
