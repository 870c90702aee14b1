//! A listener for datagrams, the flows of its clients, and their answers.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{coop::consume_budget, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Places;
use super::flows::{Active, Activity, Flows};
use super::socket::{Buffers, Client, Datagrams, Sent, Socket, WATCHED};
use crate::dataserver::meter::Open;
use crate::dataserver::{ReservedPort, Target, Way};
use crate::relay::{Path, Tasks};

/// How long a flow may be idle unless told otherwise: what RFC 4787 (REQ-5) has NATs grant at least.
const IDLE: Duration = Duration::from_secs(120);

/// How often a name is looked up again.
const LOOK_UP: Duration = Duration::from_secs(30);

/// Where a socket fails, or a name can't be looked up.
const PAUSE: Duration = Duration::from_millis(200);

thread_local! {
    /// Of the thread, since what is read is sent before anybody else has a turn.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::new());
}

/// A session's datagrams.
pub(super) struct Udp {
    path: Path,
    places: Places,
    most_flows: usize,
    idle: Duration,
    began: Instant,
}

impl Udp {
    pub(super) fn new(path: Path, places: Places, most_flows: usize) -> Self {
        let idle = path.options.idle_timeout.unwrap_or(IDLE);
        Self { path, places, most_flows, idle, began: Instant::now() }
    }

    /// Forwards what comes in at this port.
    pub(super) fn serve(self: Arc<Self>, tasks: &Tasks, port: ReservedPort, lane: usize) -> io::Result<()> {
        let (socket, number) = port.into_udp();
        let listener = Arc::new(Socket::new(socket, self.path.options.socket_buffer)?);
        let (found, targets) = watch::channel(Vec::new());
        let udp = Arc::clone(&self);
        tasks.spawn(async move { udp.look_up(lane, &found).await });
        let mut lane = Lane {
            flows: Flows::new(self.most_flows),
            room: Arc::new(Semaphore::new(2 * self.most_flows)),
            udp: self,
            tasks: tasks.clone(),
            listener,
            overflow: AtomicU32::new(0),
            targets,
            _number: number,
        };
        tasks.spawn(async move {
            if let Err(error) = lane.run().await {
                tracing::error!("a listener for datagrams ended: {error}");
            }
        });
        Ok(())
    }

    /// Finds out where a target is, and again from time to time if it has a name.
    async fn look_up(&self, lane: usize, found: &watch::Sender<Vec<SocketAddr>>) {
        let target: &Target = &self.path.targets[lane];
        loop {
            let looked_up =
                timeout(self.path.options.connect_timeout, lookup_host((target.host(), target.port()))).await;
            let pause = match looked_up.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(addresses) => {
                    found.send_replace(addresses.collect());
                    LOOK_UP
                }
                Err(error) => {
                    self.path.meter.refused();
                    tracing::debug!("target {target}: {error}");
                    PAUSE
                }
            };
            if target.host().parse::<IpAddr>().is_ok() && pause == LOOK_UP {
                return;
            }
            sleep(pause).await;
        }
    }

    /// Whether the session's rate leaves room for these. Drops them, if not.
    fn admits(&self, way: Way, row: &Datagrams<'_>) -> bool {
        let admitted = self.path.rate.as_ref().is_none_or(|rate| rate.admit(way, row.bytes.len() as u64));
        if !admitted {
            self.path.meter.dropped(row.count());
        }
        admitted
    }

    fn account(&self, way: Way, sent: &Sent) {
        if sent.bytes > 0 {
            self.path.meter.moved(way, sent.bytes);
        }
        if sent.dropped > 0 {
            self.path.meter.dropped(sent.dropped);
        }
    }

    /// Counts what the kernel dropped at a socket since it was `seen` last.
    fn account_overflow(&self, socket: &Socket, seen: &AtomicU32) {
        let now = socket.overflowed();
        let dropped = now.wrapping_sub(seen.swap(now, Relaxed));
        if dropped > 0 {
            self.path.meter.dropped(dropped.into());
        }
    }
}

/// A listener and its clients.
struct Lane {
    udp: Arc<Udp>,
    tasks: Tasks,
    listener: Arc<Socket>,
    overflow: AtomicU32,
    flows: Flows<Client, Flow>,
    /// Of flows, those included that were evicted and have not ended yet.
    room: Arc<Semaphore>,
    targets: watch::Receiver<Vec<SocketAddr>>,
    /// Keeps the port's number from being used for connections.
    _number: OwnedFd,
}

impl Lane {
    async fn run(&mut self) -> io::Result<()> {
        // Until then the kernel keeps what comes in.
        if self.targets.wait_for(|targets| !targets.is_empty()).await.is_err() {
            return Ok(());
        }
        let listener = self.listener.readable()?;
        let mut rounds = interval((self.udp.idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(5)));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ready = listener.ready(WATCHED) => {
                    let mut ready = ready?;
                    let forwarded = BUFFERS.with_borrow_mut(|buffers| self.forward(buffers));
                    if self.room.available_permits() < self.udp.most_flows {
                        // Flows that were evicted get a turn to end before others come.
                        yield_now().await;
                    }
                    match forwarded {
                        Ok(true) => {}
                        // Whatever comes from now on wakes this task again.
                        Ok(false) => ready.clear_ready(),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                        Err(error) => {
                            tracing::warn!("can't read datagrams: {error}");
                            sleep(PAUSE).await;
                        }
                    }
                }
                _ = rounds.tick() => self.look_after_flows(),
            }
            consume_budget().await;
        }
    }

    /// Sends on what is there. Says whether there may be more.
    fn forward(&mut self, buffers: &mut Buffers) -> io::Result<bool> {
        let listener = Arc::clone(&self.listener);
        let batch = listener.read(buffers)?;
        let now = self.udp.began.elapsed();
        for row in batch.iter() {
            let client = row.client();
            let flow = match self.flows.get(&client) {
                Some(flow) => Arc::clone(&flow.way),
                None => match self.open(client, now) {
                    Ok(flow) => flow,
                    Err(error) => {
                        tracing::debug!("no flow for {}: {error}", client.address);
                        self.udp.path.meter.dropped(row.count());
                        continue;
                    }
                },
            };
            flow.activity.sent(now);
            if !self.udp.admits(Way::ToTarget, &row) {
                continue;
            }
            let sent = flow.socket.send(&row, flow.target, None);
            if let Some(error) = &sent.error {
                flow.failed(&self.udp, error);
            }
            self.udp.account(Way::ToTarget, &sent);
        }
        Ok(batch.is_full())
    }

    /// Makes a flow.
    fn open(&mut self, client: Client, now: Duration) -> io::Result<Arc<WayOut>> {
        let place = Arc::clone(&self.udp.places.0).try_acquire_owned();
        if self.flows.is_full() || place.is_err() {
            let evicted = self.flows.evict(now, self.udp.idle / 4);
            let evicted = evicted.ok_or_else(|| io::Error::other("all places are taken by clients that are there"))?;
            self.retire(&evicted);
        }
        // Somebody evicted gives its place back a little later, on its own thread.
        let place = place.map_err(|_| io::Error::other("all descriptors for datagrams are taken"))?;
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| io::Error::other("flows that were evicted have not ended yet"))?;
        let mut made = Err(io::ErrorKind::AddrNotAvailable.into());
        for target in self.targets.borrow().iter() {
            made = Socket::connected(*target, self.udp.path.options.socket_buffer).map(|socket| (socket, *target));
            if made.is_ok() {
                break;
            }
        }
        let (socket, target) = made?;
        let way = Arc::new(WayOut {
            socket: Arc::new(socket),
            target,
            activity: Activity::default(),
            overflow: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            _open: self.udp.path.meter.opened(),
            _place: place,
            _room: room,
        });
        let end = CancellationToken::new();
        let answers = answer(Arc::clone(&self.udp), Arc::clone(&way), Arc::clone(&self.listener), client);
        let ended = end.clone();
        self.tasks.spawn(async move {
            if let Some(Err(error)) = ended.run_until_cancelled(answers).await {
                tracing::warn!("answers to {}: {error}", client.address);
            }
        });
        self.flows.insert(client, Flow { way: Arc::clone(&way), _end: end.drop_guard() });
        Ok(way)
    }

    fn look_after_flows(&mut self) {
        self.udp.account_overflow(&self.listener, &self.overflow);
        let expired: Vec<_> = self.flows.expire(self.udp.began.elapsed(), self.udp.idle).collect();
        for flow in self.flows.iter().chain(&expired) {
            self.retire(flow);
        }
    }

    fn retire(&self, flow: &Flow) {
        self.udp.account_overflow(&flow.way.socket, &flow.way.overflow);
    }
}

/// A client's flow. Its answers end with it.
struct Flow {
    way: Arc<WayOut>,
    _end: DropGuard,
}

impl Active for Flow {
    fn activity(&self) -> &Activity {
        &self.way.activity
    }
}

/// A flow's connection to the target.
struct WayOut {
    socket: Arc<Socket>,
    target: SocketAddr,
    activity: Activity,
    overflow: AtomicU32,
    refused: AtomicBool,
    _open: Open,
    _place: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}

impl WayOut {
    /// Nobody may be there yet, or no more: a flow outlives that.
    fn failed(&self, udp: &Udp, error: &io::Error) {
        if error.kind() != io::ErrorKind::WouldBlock && !self.refused.swap(true, Relaxed) {
            udp.path.meter.refused();
            tracing::debug!("target {}: {error}", self.target);
        }
    }
}

/// Sends a target's answers to a client.
async fn answer(udp: Arc<Udp>, way: Arc<WayOut>, listener: Arc<Socket>, client: Client) -> io::Result<()> {
    let readable = way.socket.readable()?;
    loop {
        let mut ready = readable.ready(WATCHED).await?;
        let more = BUFFERS.with_borrow_mut(|buffers| {
            let batch = way.socket.read(buffers)?;
            way.activity.answered(udp.began.elapsed());
            for row in batch.iter().filter(|row| udp.admits(Way::ToClient, row)) {
                udp.account(Way::ToClient, &listener.send(&row, client.address, client.local));
            }
            io::Result::Ok(batch.is_full())
        });
        match more {
            Ok(true) => {}
            Ok(false) => ready.clear_ready(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => way.failed(&udp, &error),
        }
        consume_budget().await;
    }
}
