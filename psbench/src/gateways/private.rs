//! Two control servers of psbench's own, on this host, for one sweep: neither others nor their ports are needed for a try.
//!
//! Each is a process, as gateways are: what they use is theirs. They end with standard input, and so with psbench, however that ends.
//!
//! One that ends, or stays stopped, is started anew as workers are: at its address and with its sessions, which it keeps in a directory, so
//! that whoever knows it or a path through it finds both again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::num::NonZero;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use scistream::DataPlane;
use scistream::client::{GatewayAccess, Gateways, Wishes};
use scistream::dataserver::{DataServerSettings, DataServerType, Target, data_server};
use serde::Deserialize;
use uuid::Uuid;

use crate::image;
use crate::plan::{Method, Settings, SweepPlan, TrialPlan};
use crate::scratch::Scratch;

/// To listen, and to look which data servers work here.
const READY: Duration = Duration::from_secs(30);
/// To end all sessions.
const ENDING: Duration = Duration::from_secs(5);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);
/// As each answer takes milliseconds, but the machine may be busy with what is measured.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Between two looks whether both are well.
const WATCH: Duration = Duration::from_millis(100);
/// Looks in a row that find one stopped, until it counts as ended.
const STOPPED: u32 = 20;
/// Times in a row that one may fail to start anew, and times in all that one may end.
const FAILED_STARTS: u32 = 3;
const ENDS: u32 = 100;
/// Before one that failed to start is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Sessions' ports, apart for both, and below those that the system hands out.
const PRODUCER_PORTS: &str = "10000-16383";
const CONSUMER_PORTS: &str = "16384-22767";

/// Why there are no private gateways.
#[derive(Clone, Debug, thiserror::Error)]
#[error("private gateways: psbench s2cs does not serve: {0}")]
pub struct PrivateError(String);

/// A pair of control servers, which end with it.
#[derive(Debug)]
pub struct PrivateGateways {
    pair: Arc<Pair>,
    /// Ends the thread that watches over them.
    ending: Option<Sender<()>>,
    watching: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Pair {
    terms: Terms,
    producer: Server,
    consumer: Server,
}

/// What both have in common.
#[derive(Debug)]
struct Terms {
    token: String,
    kinds: Vec<DataServerType>,
}

/// One of them, at the same place whichever process it is.
#[derive(Debug)]
struct Server {
    ports: &'static str,
    address: Target,
    /// What it keeps of its sessions. Goes with it; where this process is killed, with its own.
    directory: Scratch,
    process: Mutex<Child>,
    /// It is started no more.
    given_up: AtomicBool,
}

/// What psbench s2cs prints.
#[derive(Deserialize)]
struct Report {
    address: String,
}

/// What a trial asks of private gateways, for each way of its that goes through them.
pub(crate) fn wishes(trial: &TrialPlan) -> Vec<&Wishes> {
    let Settings { broker, connector, .. } = &*trial.settings;
    let routes = if trial.method == Method::Proxy { connector.private_routes() } else { Vec::new() };
    let of_connector = routes.into_iter().map(|route| &route.wishes);
    broker.private_path().map(|path| &path.wishes).into_iter().chain(of_connector).collect()
}

impl PrivateGateways {
    /// Those that a plan wants, which goes through them from now on.
    ///
    /// # Errors
    /// One does not start, or a type does not work here. The plan is as it was.
    pub(crate) fn of(plan: &mut SweepPlan) -> Result<Option<Self>, PrivateError> {
        let wishes: Vec<_> = plan.trials.iter().flat_map(wishes).collect();
        if wishes.is_empty() {
            return Ok(None);
        }
        let mut kinds: Vec<_> = wishes.iter().filter_map(|wishes| wishes.kind).collect();
        if plan.trials.iter().any(|trial| trial.path.is_some()) {
            // One that does not work here is refused to the path that asks for it, and spoils no other.
            kinds.retain(works_here);
        }
        let pair = Self::start(&kinds)?;
        let gateways = pair.gateways();
        let gated = |settings: &Arc<Settings>| {
            let connector = settings.connector.through(&gateways);
            let broker = settings.broker.through(&gateways);
            Arc::new(Settings { connector, broker, ..Settings::clone(settings) })
        };
        plan.settings = gated(&plan.settings);
        for trial in plan.trials.iter_mut().filter(|trial| !self::wishes(trial).is_empty()) {
            trial.settings = gated(&trial.settings);
        }
        Ok(Some(pair))
    }

    /// Starts both, with these types beside the usual ones.
    ///
    /// # Errors
    /// One does not start, or a type does not work here.
    pub fn start(kinds: &[DataServerType]) -> Result<Self, PrivateError> {
        let terms = Terms { token: Uuid::new_v4().simple().to_string(), kinds: kinds.to_vec() };
        let producer = Server::start(PRODUCER_PORTS, &terms)?;
        let pair = Arc::new(Pair { consumer: Server::start(CONSUMER_PORTS, &terms)?, producer, terms });
        let (ending, ended) = mpsc::channel();
        let watched = Arc::clone(&pair);
        let watching = thread::Builder::new()
            .name("psbench-gateways".into())
            .spawn(move || watched.watch(&ended))
            .map_err(|error| PrivateError(format!("cannot start the thread that watches over them: {error}")))?;
        Ok(Self { pair, ending: Some(ending), watching: Some(watching) })
    }

    /// How both are reached.
    pub fn gateways(&self) -> Gateways {
        let access = |server: &Server| GatewayAccess {
            token: Some(self.pair.terms.token.clone()),
            time_limit: TIME_LIMIT,
            ..GatewayAccess::plain(server.address.clone())
        };
        Gateways { producer: access(&self.pair.producer), consumer: access(&self.pair.consumer) }
    }

    /// Waits until both serve, where one is being started anew, or is to be.
    pub(super) fn settle(&self) {
        let until = Instant::now() + READY;
        while Instant::now() < until && self.pair.both().iter().any(|server| server.is_missed()) {
            thread::sleep(LOOK);
        }
    }

    /// The process of the one at this address.
    pub(super) fn pid(&self, address: &Target) -> Option<u32> {
        self.pair.both().into_iter().find(|server| server.address == *address).map(|server| server.process().id())
    }
}

impl Pair {
    fn both(&self) -> [&Server; 2] {
        [&self.producer, &self.consumer]
    }

    fn watch(&self, ended: &Receiver<()>) {
        let mut care = [Care::default(), Care::default()];
        while ended.recv_timeout(WATCH) == Err(RecvTimeoutError::Timeout) {
            for (server, care) in self.both().into_iter().zip(&mut care) {
                care.look(server, &self.terms);
            }
        }
    }
}

/// How one of them has fared.
#[derive(Default)]
struct Care {
    /// Looks in a row that found it stopped.
    stopped: u32,
    ends: u32,
    failed_starts: u32,
    /// It is not started before then.
    due: Option<Instant>,
}

impl Care {
    fn look(&mut self, server: &Server, terms: &Terms) {
        if server.given_up.load(Ordering::Relaxed) || self.due.is_some_and(|due| Instant::now() < due) {
            return;
        }
        let ended = server.process().try_wait();
        match ended {
            Ok(None) => self.look_whether_stopped(server),
            Ok(Some(end)) => self.start_anew(server, terms, &end.to_string()),
            Err(error) => self.start_anew(server, terms, &error.to_string()),
        }
    }

    fn look_whether_stopped(&mut self, server: &Server) {
        let mut process = server.process();
        self.stopped = if is_stopped(process.id()) { self.stopped + 1 } else { 0 };
        if self.stopped == STOPPED {
            tracing::warn!("the private gateway at {} was stopped (SIGSTOP): it is ended", server.address);
            let _ = process.kill();
        }
    }

    fn start_anew(&mut self, server: &Server, terms: &Terms, end: &str) {
        if self.failed_starts == 0 {
            self.ends += 1;
            tracing::warn!("the private gateway at {} ended ({end}): it is started anew", server.address);
        }
        let started = launch(server.ports, terms, server.directory.path(), server.address.port());
        let problem = match started {
            Ok((process, _)) => {
                *server.process() = process;
                (self.failed_starts, self.stopped) = (0, 0);
                format!("it ended {ENDS} times")
            }
            Err(error) => {
                self.failed_starts += 1;
                self.due = Some(Instant::now() + PAUSE);
                error.to_string()
            }
        };
        if self.ends >= ENDS || self.failed_starts >= FAILED_STARTS {
            server.given_up.store(true, Ordering::Relaxed);
            tracing::error!("the private gateway at {} is not started any more: {problem}", server.address);
        }
    }
}

/// Whether a data server of this type can be had here. Where that can't be told, the control server has to.
fn works_here(kind: &DataServerType) -> bool {
    let Ok(plane) = DataPlane::new(NonZero::new(1)) else { return true };
    let settings = DataServerSettings { plane: Arc::new(plane), directory: std::env::temp_dir() };
    data_server(*kind, &settings).is_ok_and(|server| server.check().is_ok())
}

impl Server {
    fn start(ports: &'static str, terms: &Terms) -> Result<Self, PrivateError> {
        let failed = |error: io::Error| PrivateError(format!("its directory can't be made: {error}"));
        let directory = Scratch::new().map_err(failed)?;
        let (process, address) = launch(ports, terms, directory.path(), 0)?;
        Ok(Self { ports, address, directory, process: Mutex::new(process), given_up: AtomicBool::new(false) })
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it does not serve, and will.
    fn is_missed(&self) -> bool {
        let mut process = self.process();
        let serves = matches!(process.try_wait(), Ok(None)) && !is_stopped(process.id());
        !serves && !self.given_up.load(Ordering::Relaxed)
    }
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
}

/// Starts one that listens at this port, 0 for any, and keeps its sessions in this directory; waits until it serves.
fn launch(ports: &str, terms: &Terms, directory: &Path, port: u16) -> Result<(Child, Target), PrivateError> {
    let program = image::path().map_err(|error| PrivateError(error.to_string()))?;
    let mut command = Command::new(program);
    command
        .args(["s2cs", "--lifeline", "--insecure", "--json", "--port", &port.to_string(), "--log-level", "WARNING"])
        .args(["--listener-ip", &own_loopback().to_string(), "--port-range", ports, "--keep-sessions", "--state-dir"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is psbench's to act on.
        .process_group(0);
    if !terms.kinds.is_empty() {
        let usual = [DataServerType::Copy, DataServerType::Splice, DataServerType::Tls, DataServerType::Quic];
        let all: BTreeSet<_> = terms.kinds.iter().chain(&usual).map(ToString::to_string).collect();
        let all: Vec<_> = all.into_iter().collect();
        command.args(["--allow-type", &all.join(",")]);
    }
    let mut process = command.spawn().map_err(|error| PrivateError(error.to_string()))?;
    let report = ready(&mut process, &terms.token);
    match report.and_then(|report| report.address.parse().map_err(|_| "it has no address".to_owned())) {
        Ok(address) => {
            if let Some(stderr) = process.stderr.take() {
                pass_on(stderr);
            }
            Ok((process, address))
        }
        Err(problem) => {
            let _ = process.kill();
            let _ = process.wait();
            Err(PrivateError(problem))
        }
    }
}

/// The most that it has to say as it starts, bytes.
const MOST: u64 = 64 << 10;

/// Waits until it listens.
fn ready(process: &mut Child, token: &str) -> Result<Report, String> {
    let told = process.stdin.as_mut().map_or(Ok(()), |stdin| writeln!(stdin, "{token}"));
    let stdout = process.stdout.take().ok_or("it has no standard output")?;
    let (tell, line) = mpsc::channel();
    // Ends with the process, which is killed where it takes too long.
    let read = move || {
        let mut line = String::new();
        let read = BufReader::new(stdout.take(MOST)).read_line(&mut line);
        let _ = tell.send(read.map(|_| line));
    };
    thread::Builder::new().spawn(read).map_err(|error| format!("cannot start a thread to read from it: {error}"))?;
    let line = line.recv_timeout(READY).map_err(|_| format!("it said nothing for {} s", READY.as_secs()))?;
    let line = told.and(line).map_err(|error| error.to_string())?;
    if line.is_empty() {
        // It has ended, or is to: what it said must have an end.
        let _ = process.kill();
        let mut why = String::new();
        if let Some(stderr) = &mut process.stderr {
            let _ = stderr.take(MOST).read_to_string(&mut why);
        }
        let why = why.lines().next().unwrap_or("it ended at once");
        return Err(why.trim_start_matches("error: ").to_owned());
    }
    serde_json::from_str(&line).map_err(|error| error.to_string())
}

/// What it says goes to this process's log.
fn pass_on(stderr: ChildStderr) {
    let pass = move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            tracing::warn!("private gateway: {}", message(&line));
        }
    };
    if let Err(error) = thread::Builder::new().spawn(pass) {
        tracing::warn!("what a private gateway says is not logged: cannot start a thread: {error}");
    }
}

/// A line of its log without date and level, of which this process's log has its own.
fn message(line: &str) -> &str {
    line.split_once(") :: ").map_or(line, |(_, message)| message)
}

/// An address of the loopback interface that is most likely nobody else's, so that ports are free.
fn own_loopback() -> Ipv4Addr {
    let [.., high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 0x3f), middle, low.max(1))
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(process.stdin.take());
        let until = Instant::now() + ENDING;
        while matches!(process.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                let _ = process.kill();
                let _ = process.wait();
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for PrivateGateways {
    fn drop(&mut self) {
        drop(self.ending.take());
        // It has logged whatever went wrong in it.
        let _ = self.watching.take().map(JoinHandle::join);
        // Both at once: each takes its time to end what it runs.
        self.pair.both().iter().for_each(|server| drop(server.process().stdin.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_logs_is_dated_once() {
        let line = "[2026-11-20 18:31:02.123] WARNING (scistream::control) :: HAProxy ended (signal 9) :: again";
        assert_eq!(message(line), "HAProxy ended (signal 9) :: again");
        assert_eq!(message("haproxy: not found"), "haproxy: not found");
    }
}
