//! What the data servers share that forward in this process: threads, accepting, connecting, ending.
//!
//! A [`Relay`] accepts at a session's listeners and hands each connection to a [`Carrier`], which is what the types differ in.

mod activity;
mod ahead;
mod both;
mod congestion;
mod connect;
mod deliver;
mod end;
mod plane;
mod pump;
mod rate;
mod socket;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub(crate) use self::activity::Activity;
pub(crate) use self::ahead::{Ahead, keep, reach};
pub(crate) use self::both::{BothWays, Course};
pub(crate) use self::congestion::{Choice, tcp_info};
use self::connect::listen;
pub(crate) use self::connect::{connect, tune};
pub(crate) use self::deliver::{conclude, unacknowledged};
pub(crate) use self::end::{ResetOnDrop, broken, end_stream, reset_by_peer};
pub use self::plane::DataPlane;
pub(crate) use self::pump::{Flow, Progress, TURN, pump, pump_all};
pub(crate) use self::rate::{Rate, Toll};
pub(crate) use self::socket::{poll_read, poll_read_vectored, poll_write};
#[cfg(test)]
use crate::forward::Transport;
use crate::forward::{ForwardOptions, ForwardPlan, Forwarding, Lane, Meter, ReservedPort, Secret, Target, Traffic};
use crate::{Role, Seldom};

/// How a session's connections are to be carried: its plan, less the listeners.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) role: Role,
    /// That of each lane.
    pub(crate) targets: Vec<Target>,
    pub(crate) secret: Secret,
    pub(crate) options: ForwardOptions,
    /// `None`: as fast as it goes.
    pub(crate) rate: Option<Rate>,
    pub(crate) meter: Arc<Meter>,
    /// Those of each lane.
    ahead: Vec<Ahead>,
    /// Of its sockets.
    congestion: congestion::Choice,
}

impl Path {
    /// Takes a plan apart.
    pub(crate) fn of(plan: ForwardPlan) -> (Vec<ReservedPort>, Self) {
        let ForwardPlan { role, lanes, secret, mut options, rate, meter, .. } = plan;
        // With none nothing would move.
        options.buffer_size = options.buffer_size.max(1);
        let (ports, targets): (Vec<_>, Vec<_>) = lanes.into_iter().map(|Lane { port, target }| (port, target)).unzip();
        let ahead = targets.iter().map(|_| Ahead::default()).collect();
        let congestion = congestion::Choice::of(&options.congestion);
        (ports, Self { role, targets, secret, options, rate: rate.map(Rate::new), meter, ahead, congestion })
    }
}

#[cfg(test)]
impl Path {
    /// One that leads nowhere.
    pub(crate) fn nowhere(options: ForwardOptions) -> Self {
        let (uid, meter) = (uuid::Uuid::nil(), Arc::default());
        let (role, lanes, secret) = (Role::Consumer, Vec::new(), Secret::of(uid));
        Self::of(ForwardPlan { uid, role, lanes, transport: Transport::Tcp, secret, options, rate: None, meter }).1
    }
}

/// Carries connections. Called from the data plane's threads, for many connections at once.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Where the next one of a lane is to be carried; `None`: wherever.
    fn thread(&self, _lane: usize) -> Option<Handle> {
        None
    }

    /// Carries one that was accepted at a lane, to its end. An error is for the log; whoever is still connected was told by then.
    fn carry(self: Arc<Self>, client: TcpStream, lane: usize) -> BoxFuture<'static, io::Result<()>>;
}

/// A session that this process forwards. Its tasks end with it.
#[derive(Debug)]
pub(crate) struct Relay {
    tasks: Tasks,
    /// Whatever becomes of the rest.
    _end: DropGuard,
}

/// What runs for a session.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    plane: Arc<DataPlane>,
    meter: Arc<Meter>,
    all: TaskTracker,
    end: CancellationToken,
}

impl Relay {
    /// One that does nothing yet.
    pub(crate) fn new(plane: &Arc<DataPlane>, meter: &Arc<Meter>) -> Self {
        let end = CancellationToken::new();
        let tasks =
            Tasks { plane: Arc::clone(plane), meter: Arc::clone(meter), all: TaskTracker::new(), end: end.clone() };
        Self { tasks, _end: end.drop_guard() }
    }

    /// One that hands what a plan's listeners accept to a carrier, which is made for its path.
    ///
    /// # Errors
    /// It can't listen, or there is no carrier.
    pub(crate) fn start(
        plane: &Arc<DataPlane>,
        plan: ForwardPlan,
        carrier: impl FnOnce(&Tasks, Arc<Path>) -> io::Result<Arc<dyn Carrier>>,
    ) -> io::Result<Box<dyn Forwarding>> {
        let (ports, path) = Path::of(plan);
        let path = Arc::new(path);
        let relay = Self::new(plane, &path.meter);
        let carrier = carrier(&relay.tasks, Arc::clone(&path))?;
        for (lane, port) in ports.into_iter().enumerate() {
            relay.tasks.accept(listen(&path, port)?, lane, Arc::clone(&carrier));
        }
        Ok(Box::new(relay))
    }

    /// What runs for it.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}

impl Tasks {
    /// Runs a task on one of the data plane's threads, until it ends or the session does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&self.thread(), task);
    }

    /// One of the data plane's threads, for tasks that belong together.
    pub(crate) fn thread(&self) -> Handle {
        self.plane.next().clone()
    }

    /// Runs a task on this thread, until it ends or the session does.
    pub(crate) fn spawn_on(&self, thread: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        let task = async move {
            end.run_until_cancelled(task).await;
        };
        self.attach(thread, task);
    }

    /// Runs a task on this thread that ends by itself once the session does.
    pub(crate) fn attach(&self, thread: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        self.all.spawn_on(task, thread);
    }

    /// The session's end.
    pub(crate) fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// Hands what the listener of a lane accepts to the carrier.
    fn accept(&self, listener: TcpListener, lane: usize, carrier: Arc<dyn Carrier>) {
        let tasks = self.clone();
        self.spawn(async move {
            if let Err(error) = tasks.serve(listener, lane, carrier).await {
                tracing::error!("a listener ended: {error}");
            }
        });
    }

    async fn serve(&self, listener: TcpListener, lane: usize, carrier: Arc<dyn Carrier>) -> io::Result<()> {
        /// Where this process has no descriptor left, waiting is all there is to do.
        const SHORTAGE: Duration = Duration::from_millis(50);
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shortages = Seldom::default();
        loop {
            let client = match listener.accept().await {
                Ok((client, _)) => client,
                // Whoever connected is gone already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    shortages.warn(format!("can't accept connections: {error}; tried again until it can"));
                    sleep(SHORTAGE).await;
                    continue;
                }
            };
            let open = self.meter.opened();
            // Its readiness is watched by the thread that carries it.
            let client = match client.into_std() {
                // The session may end before its task begins.
                Ok(client) => ResetOnDrop::new(client),
                Err(error) => {
                    tracing::debug!("a connection: {error}");
                    continue;
                }
            };
            let carrier = Arc::clone(&carrier);
            let thread = carrier.thread(lane).unwrap_or_else(|| self.thread());
            self.spawn_on(&thread, async move {
                let carried = match TcpStream::from_std(client.into_inner()) {
                    Ok(client) => carrier.carry(client, lane).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = carried {
                    tracing::debug!("a connection: {error}");
                }
                drop(open);
            });
        }
    }
}

impl Forwarding for Relay {
    fn traffic(&self) -> Option<Traffic> {
        Some(self.tasks.meter.traffic())
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, ()> {
        let Self { tasks, _end: end } = *self;
        drop(end);
        tasks.all.close();
        Box::pin(async move { tasks.all.wait().await })
    }
}
