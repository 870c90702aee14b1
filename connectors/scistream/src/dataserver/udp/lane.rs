//! A listener for datagrams, the flows of its clients, and their answers.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{coop::consume_budget, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::PAUSE;
use super::flows::{Active, Activity, Flows};
use super::places::{Place, Share};
use super::socket::{Buffers, Client, Datagrams, Sent, Socket, WATCHED};
use super::target::{Addresses, follow};
use crate::forward::{Open, ReservedPort, Way};
use crate::relay::{Path, Tasks};

/// How long a flow may be idle unless told otherwise: what RFC 4787 (REQ-5) has NATs grant at least.
const IDLE: Duration = Duration::from_secs(120);

/// How long a flow to an address that its target's name no longer has may be without an answer.
const SILENCE: Duration = Duration::from_secs(30);

thread_local! {
    /// Of the thread, since what is read is sent before anybody else has a turn.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::new());
}

/// A session's datagrams.
pub(super) struct Udp {
    path: Path,
    share: Arc<Share>,
    most_flows: usize,
    idle: Duration,
    /// How long a flow to where its target was may be without an answer.
    silence: Duration,
    began: Instant,
}

impl Udp {
    pub(super) fn new(path: Path, share: Arc<Share>, most_flows: usize) -> Self {
        let idle = path.options.idle_timeout.unwrap_or(IDLE);
        Self { path, share, most_flows, idle, silence: SILENCE, began: Instant::now() }
    }

    /// Forwards what comes in at this port.
    pub(super) fn serve(self: Arc<Self>, tasks: &Tasks, port: ReservedPort, lane: usize) -> io::Result<()> {
        let (found, targets) = watch::channel(Vec::new());
        let udp = Arc::clone(&self);
        tasks.spawn(async move {
            let Path { targets, options, meter, .. } = &udp.path;
            follow(&targets[lane], options.connect_timeout, meter, &found).await;
        });
        self.serve_at(tasks, port, targets)
    }

    /// Forwards what comes in at this port to where the target is.
    fn serve_at(
        self: Arc<Self>,
        tasks: &Tasks,
        port: ReservedPort,
        targets: watch::Receiver<Addresses>,
    ) -> io::Result<()> {
        let (socket, number) = port.into_udp();
        let listener = Arc::new(Socket::new(socket, self.path.options.socket_buffer)?);
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
    targets: watch::Receiver<Addresses>,
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
        let place = self.udp.share.take();
        if self.flows.is_full() || place.is_none() {
            let evicted = self.flows.evict(now, self.udp.idle / 4);
            let evicted = evicted.ok_or_else(|| io::Error::other("all places are taken by clients that are there"))?;
            self.retire(&evicted);
        }
        // Somebody evicted gives its place back a little later, on its own thread.
        let place = place.ok_or_else(|| io::Error::other("all descriptors for datagrams of its session are taken"))?;
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
        let now = self.udp.began.elapsed();
        let mut over: Vec<_> = self.flows.expire(now, self.udp.idle).collect();
        over.extend(self.leave_behind(now));
        let excess = self.udp.share.excess(self.flows.len());
        over.extend((0..excess).map_while(|_| self.flows.evict(now, Duration::ZERO)));
        for flow in self.flows.iter().chain(&over) {
            self.retire(flow);
        }
    }

    /// Takes the flows out that go to where the target was and nobody answers any longer. Their clients' next datagrams find it. Where
    /// somebody answers they stay: names may have more addresses than each look-up tells.
    fn leave_behind(&mut self, now: Duration) -> Vec<Flow> {
        let (targets, then) = (self.targets.borrow(), now.saturating_sub(self.udp.silence));
        let is_behind = |flow: &Flow| !targets.contains(&flow.way.target) && !flow.way.activity.is_answered_since(then);
        self.flows.extract(is_behind).collect()
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
    /// The target refuses what it is sent, as far as is known.
    refused: AtomicBool,
    _open: Open,
    _place: Place,
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
    let mut failing = false;
    loop {
        let mut ready = readable.ready(WATCHED).await?;
        let more = BUFFERS.with_borrow_mut(|buffers| {
            let batch = way.socket.read(buffers)?;
            way.activity.answered(udp.began.elapsed());
            way.refused.store(false, Relaxed);
            for row in batch.iter().filter(|row| udp.admits(Way::ToClient, row)) {
                udp.account(Way::ToClient, &listener.send(&row, client.address, client.local));
            }
            io::Result::Ok(batch.is_full())
        });
        match more {
            Ok(true) => {}
            Ok(false) => ready.clear_ready(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => {
                way.failed(&udp, &error);
                // One may be what became of an earlier datagram, which is told once.
                if failing {
                    sleep(PAUSE).await;
                }
                failing = true;
                continue;
            }
        }
        failing = false;
        consume_budget().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::UdpSocket;
    use std::pin::pin;
    use std::thread;

    use super::super::Places;
    use super::*;
    use crate::forward::ForwardOptions;
    use crate::relay::{DataPlane, Relay};

    const BOUND: Duration = Duration::from_secs(60);

    fn udp(options: ForwardOptions) -> Udp {
        Udp::new(Path::nowhere(options), Places::of(100).share(), 10)
    }

    fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_fails_for_good_is_not_asked_without_end() {
        let udp = Arc::new(udp(ForwardOptions::default()));
        let (_peer, address) = socket();
        let listener = Arc::new(Socket::connected(address, None).unwrap());
        let way = Arc::new(WayOut {
            socket: Arc::new(Socket::broken()),
            target: address,
            activity: Activity::default(),
            overflow: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            _open: udp.path.meter.opened(),
            _place: udp.share.take().unwrap(),
            _room: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        });
        let mut answering = pin!(answer(Arc::clone(&udp), way, listener, Client { address, local: None }));
        let mut polls = 0;
        let counted = poll_fn(|context| {
            polls += 1;
            assert!(polls < 1_000, "it never rests");
            answering.as_mut().poll(context)
        });
        tokio::select! {
            ended = counted => panic!("{ended:?}"),
            () = sleep(10 * PAUSE) => {}
        }
        assert_eq!(udp.path.meter.traffic().connections_refused, 1);
    }

    #[test]
    fn a_target_that_moves_is_followed() {
        let plane = Arc::new(DataPlane::new(std::num::NonZero::new(1)).unwrap());
        let options = ForwardOptions { idle_timeout: Some(BOUND), ..ForwardOptions::default() };
        let mut udp = udp(options);
        // Longer than a busy machine takes for an answer.
        (udp.idle, udp.silence) = (Duration::from_secs(20), Duration::from_secs(5));
        let relay = Relay::new(&plane, &udp.path.meter);
        let port = ReservedPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = port.address();
        let ((old, old_address), (new, new_address)) = (socket(), socket());
        let (found, targets) = watch::channel(vec![old_address]);
        Arc::new(udp).serve_at(relay.tasks(), port, targets).unwrap();
        let hears = |at: &UdpSocket, said: &[u8]| {
            let mut buffer = [0; 10];
            let (size, from) = at.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..size], said);
            at.send_to(b"yes", from).unwrap();
        };
        let (first, second) = (socket().0, socket().0);
        first.send_to(b"first", listener).unwrap();
        hears(&old, b"first");
        // Only then its flow is one that somebody answers.
        assert_eq!(first.recv(&mut [0; 10]).unwrap(), 3);
        found.send_replace(vec![new_address]);
        second.send_to(b"second", listener).unwrap();
        hears(&new, b"second");
        // Its flow stays as long as somebody answers there, and then follows.
        first.send_to(b"first", listener).unwrap();
        hears(&old, b"first");
        let until = Instant::now() + BOUND;
        new.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while new.recv_from(&mut [0; 10]).is_err() {
            assert!(Instant::now() < until, "its flow does not follow");
            first.send_to(b"again", listener).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
    }
}
