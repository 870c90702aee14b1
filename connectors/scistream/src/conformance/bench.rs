//! What the checks are made on: gateways, alone or in pairs, and what this process holds meanwhile.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::peers::Host;
use super::{Open, SOON, Shape};
use crate::Role;
use crate::dataserver::{DataServer, DataServerError};
use crate::forward::{
    ForwardOptions, ForwardPlan, Forwarding, Lane, Meter, ReservedPort, Secret, Target, Traffic, Transport,
};

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where gateways are made.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) shape: Shape,
    /// Whether a path has one gateway only.
    pub(super) single: bool,
    /// What a control server runs on.
    runtime: Arc<Runtime>,
    producer: Arc<dyn DataServer>,
    consumer: Arc<dyn DataServer>,
    directory: Arc<TempDir>,
}

/// A session as both gateways know it.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) uid: Uuid,
    pub(super) secret: Secret,
    /// Where listeners are.
    pub(super) address: IpAddr,
    pub(super) options: ForwardOptions,
    pub(super) rate: Option<u64>,
    pub(super) transport: Transport,
}

impl Session {
    pub(super) fn new() -> Self {
        let uid = Uuid::new_v4();
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(uid.as_bytes());
        Self {
            uid,
            secret: Secret::random(secret),
            address: LOOPBACK,
            options: ForwardOptions::default(),
            rate: None,
            transport: Transport::Tcp,
        }
    }

    pub(super) fn with(options: ForwardOptions) -> Self {
        Self { options, ..Self::new() }
    }
}

/// One side's session.
pub(super) struct Gateway {
    forwarding: Box<dyn Forwarding>,
    /// Where its lanes accept.
    pub(super) listeners: Vec<SocketAddr>,
}

/// A path from clients to targets; of one gateway or two.
pub(super) struct Route {
    /// From the clients' side on.
    pub(super) gateways: Vec<Gateway>,
}

impl Bench {
    pub(super) fn new(open: Open<'_>, shape: Shape) -> Self {
        allow_many_descriptors();
        let directory = TempDir::new().expect("no temporary directory");
        let gateway = |name| {
            let directory = directory.path().join(name);
            fs::create_dir(&directory).expect("no directory for a gateway");
            open(&directory)
        };
        let (producer, consumer) = (gateway("producer"), gateway("consumer"));
        producer.check().expect("it does not work here");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = Arc::new(runtime.expect("no runtime"));
        let bench = Self { shape, single: shape.single, runtime, producer, consumer, directory: Arc::new(directory) };
        // What is made once for all sessions is there from now on.
        let host = Host::new();
        let route = bench.route(&Session::new(), &[&host]);
        let (_client, _target) = route.connection(&host);
        bench.release(route);
        bench
    }

    /// The same, with paths of one gateway or two.
    pub(super) fn of(&self, single: bool) -> Self {
        Self { single, ..self.clone() }
    }

    pub(super) fn server(&self, role: Role) -> &dyn DataServer {
        match role {
            Role::Producer => &*self.producer,
            Role::Consumer => &*self.consumer,
        }
    }

    /// Starts a gateway on any ports.
    pub(super) fn start(&self, session: &Session, role: Role, targets: &[Target]) -> Result<Gateway, DataServerError> {
        let ports = targets.iter().map(|_| reserve(SocketAddr::new(session.address, 0))).collect();
        self.start_at(session, role, ports, targets)
    }

    /// Starts a gateway on these ports.
    pub(super) fn start_at(
        &self,
        session: &Session,
        role: Role,
        ports: Vec<ReservedPort>,
        targets: &[Target],
    ) -> Result<Gateway, DataServerError> {
        let Session { uid, secret, options, rate, transport, .. } = session.clone();
        let listeners: Vec<_> = ports.iter().map(ReservedPort::address).collect();
        let lanes = ports.into_iter().zip(targets).map(|(port, target)| Lane { port, target: target.clone() });
        let meter = Arc::new(Meter::default());
        let plan = ForwardPlan { uid, role, lanes: lanes.collect(), transport, secret, options, rate, meter };
        let forwarding = self.runtime.block_on(self.server(role).start(plan))?;
        Ok(Gateway { forwarding, listeners })
    }

    /// A path to these hosts, a lane for each.
    pub(super) fn route(&self, session: &Session, hosts: &[&Host]) -> Route {
        let targets: Vec<Target> = hosts.iter().map(|host| host.target()).collect();
        self.try_route(session, &targets).expect("a session did not start")
    }

    pub(super) fn try_route(&self, session: &Session, targets: &[Target]) -> Result<Route, DataServerError> {
        let producer = self.start(session, Role::Producer, targets)?;
        if self.single {
            return Ok(Route { gateways: vec![producer] });
        }
        let consumer = self.start(session, Role::Consumer, &producer.entrances())?;
        Ok(Route { gateways: vec![consumer, producer] })
    }

    /// Releases a path's gateways; they must be gone at once.
    pub(super) fn release(&self, route: Route) {
        for gateway in route.gateways {
            self.release_gateway(gateway);
        }
    }

    /// Releases a gateway, and takes its ports, which must be free at once.
    pub(super) fn release_gateway(&self, gateway: Gateway) -> Vec<ReservedPort> {
        let Gateway { forwarding, listeners } = gateway;
        let release = async { tokio::time::timeout(SOON, forwarding.release()).await };
        self.runtime.block_on(release).expect("release takes for ever");
        for listener in &listeners {
            gives_up(listener);
        }
        listeners.into_iter().map(reserve).collect()
    }

    /// Does something, and wants this process to hold no more than before. What grows is tried a few times: a data server may keep some
    /// of what it made for later (pipes), but it has to be enough at last.
    pub(super) fn leaves_nothing(&self, what: &str, mut work: impl FnMut()) {
        const TIMES: usize = 8;
        const PATIENCE: Duration = Duration::from_secs(2);
        for time in 1..=TIMES {
            let before = self.holdings();
            work();
            let mut after = before.clone();
            let patience = if time < TIMES { PATIENCE } else { SOON };
            let settled = happens(patience, || {
                after = self.holdings();
                after.within(&before)
            });
            if settled {
                return;
            }
            assert!(time < TIMES, "{what} leaves something behind each time: {after:?}; before: {before:?}");
        }
    }

    /// Descriptors, threads, processes and files there are.
    pub(super) fn holdings(&self) -> Holdings {
        let children = children();
        let files = files(self.directory.path());
        Holdings { descriptors: count("/proc/self/fd"), threads: count("/proc/self/task"), children, files }
    }
}

/// A released listener refuses, and its port can be bound. At once, but for a program that is being started just then, by another test
/// of this process: until its exec it has a copy of all descriptors.
fn gives_up(listener: &SocketAddr) {
    let refuses = || TcpStream::connect(listener).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    let is_free = || TcpListener::bind(listener).is_ok() && UdpSocket::bind(listener).is_ok();
    within("a released listener refuses, and its port can be bound", || refuses() && is_free());
}

impl Gateway {
    /// Its listeners, as targets of the other gateway.
    pub(super) fn entrances(&self) -> Vec<Target> {
        self.listeners.iter().map(|listener| listener.to_string().parse().unwrap()).collect()
    }

    pub(super) fn traffic(&self) -> Option<Traffic> {
        self.forwarding.traffic()
    }
}

impl Route {
    /// Where clients connect.
    pub(super) fn entrance(&self) -> SocketAddr {
        self.gateways[0].listeners[0]
    }

    /// A connection over the first lane, and its other end at the host.
    pub(super) fn connection(&self, host: &Host) -> (TcpStream, TcpStream) {
        host.connection(self.entrance())
    }
}

/// Takes a port for a session.
pub(super) fn reserve(address: SocketAddr) -> ReservedPort {
    // It may linger where this process looked whether it is free.
    let mut reserved = Err(io::ErrorKind::AddrInUse.into());
    within("a port can be had", || {
        reserved = ReservedPort::bind(address);
        reserved.is_ok()
    });
    reserved.unwrap()
}

/// Some hundred connections have both their ends here, and gateways between: more than many systems allow at first.
fn allow_many_descriptors() {
    // Where there is no limit some programs take long to close what they might have been given.
    const ENOUGH: u64 = 16 << 10;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if limit.current.is_some_and(|now| now < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
}

/// What is not to grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holdings {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
    /// Processes below this one, zombies too, and their programs.
    pub(super) children: Vec<(u32, String)>,
    pub(super) files: Vec<PathBuf>,
}

impl Holdings {
    /// Whether there is no more than there was. Threads are this whole process's, and tests beside this one start and end.
    pub(super) fn within(&self, before: &Self) -> bool {
        const OTHER_THREADS: usize = 16;
        self.descriptors <= before.descriptors
            && self.threads <= before.threads + OTHER_THREADS
            && self.children == before.children
            && self.files == before.files
    }

    /// Descriptors of the processes below this one.
    pub(super) fn descriptors_of_children(&self) -> usize {
        self.children.iter().map(|(pid, _)| count(&format!("/proc/{pid}/fd"))).sum()
    }
}

/// Waits until something is so.
pub(super) fn within(what: &str, so: impl FnMut() -> bool) {
    assert!(happens(SOON, so), "not within {SOON:?}: {what}");
}

/// Whether something becomes so.
pub(super) fn happens(patience: Duration, mut so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    while !so() {
        if Instant::now() >= until {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
    true
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let Ok(path) = entry.map(|entry| entry.path()) else { continue };
        if path.is_dir() {
            all.extend(files(&path));
        }
        all.push(path);
    }
    all.sort();
    all
}

/// All processes below this one, by pid.
fn children() -> Vec<(u32, String)> {
    let stat = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.split_once('(')?;
        let (program, rest) = rest.rsplit_once(") ")?;
        let parent: u32 = rest.split(' ').nth(1)?.parse().ok()?;
        Some((pid, program.to_owned(), parent))
    };
    let processes: Vec<_> = fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let mut below = vec![std::process::id()];
    let mut found = Vec::new();
    while let Some(parent) = below.pop() {
        for (pid, program, _) in processes.iter().filter(|(_, _, of)| *of == parent) {
            below.push(*pid);
            found.push((*pid, program.clone()));
        }
    }
    found.sort();
    found
}
