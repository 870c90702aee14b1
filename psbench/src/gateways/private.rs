//! Two control servers of psbench's own, on this host, for one sweep: neither others nor their ports are needed for a try.
//!
//! Each is a process, as gateways are: what they use is theirs. They end with standard input, and so with psbench, however that ends.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::num::NonZero;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use scistream::DataPlane;
use scistream::client::{GatewayAccess, Gateways, Wishes};
use scistream::dataserver::{DataServerSettings, DataServerType, Target, data_server};
use serde::Deserialize;
use uuid::Uuid;

use crate::plan::{Method, Settings, SweepPlan, TrialPlan};

/// To listen, and to look which data servers work here.
const READY: Duration = Duration::from_secs(30);
/// To end all sessions.
const ENDING: Duration = Duration::from_secs(5);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);
/// As each answer takes milliseconds, but the machine may be busy with what is measured.
const TIME_LIMIT: Duration = Duration::from_secs(15);

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
    producer: Server,
    consumer: Server,
    token: String,
}

/// One of them.
#[derive(Debug)]
struct Server {
    process: Child,
    address: Target,
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
        let token = Uuid::new_v4().simple().to_string();
        let start = |ports| Server::start(ports, kinds, &token);
        Ok(Self { producer: start(PRODUCER_PORTS)?, consumer: start(CONSUMER_PORTS)?, token })
    }

    /// How both are reached.
    pub fn gateways(&self) -> Gateways {
        let access = |server: &Server| GatewayAccess {
            token: Some(self.token.clone()),
            time_limit: TIME_LIMIT,
            ..GatewayAccess::plain(server.address.clone())
        };
        Gateways { producer: access(&self.producer), consumer: access(&self.consumer) }
    }

    /// The process of the one at this address.
    pub(super) fn pid(&self, address: &Target) -> Option<u32> {
        let both = [&self.producer, &self.consumer];
        both.into_iter().find(|server| server.address == *address).map(|server| server.process.id())
    }
}

/// Whether a data server of this type can be had here. Where that can't be told, the control server has to.
fn works_here(kind: &DataServerType) -> bool {
    let Ok(plane) = DataPlane::new(NonZero::new(1)) else { return true };
    let settings = DataServerSettings { plane: Arc::new(plane), directory: std::env::temp_dir() };
    data_server(*kind, &settings).is_ok_and(|server| server.check().is_ok())
}

impl Server {
    fn start(ports: &str, kinds: &[DataServerType], token: &str) -> Result<Self, PrivateError> {
        let program = std::env::current_exe().map_err(|error| PrivateError(error.to_string()))?;
        let mut command = Command::new(program);
        command
            .args(["s2cs", "--lifeline", "--insecure", "--json", "--port", "0", "--log-level", "WARNING"])
            .args(["--listener-ip", &own_loopback().to_string(), "--port-range", ports])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is psbench's to act on.
            .process_group(0);
        if !kinds.is_empty() {
            let usual = [DataServerType::Copy, DataServerType::Splice, DataServerType::Tls, DataServerType::Quic];
            let all: BTreeSet<_> = kinds.iter().chain(&usual).map(ToString::to_string).collect();
            let all: Vec<_> = all.into_iter().collect();
            command.args(["--allow-type", &all.join(",")]);
        }
        let mut process = command.spawn().map_err(|error| PrivateError(error.to_string()))?;
        let report = ready(&mut process, token);
        match report.and_then(|report| report.address.parse().map_err(|_| "it has no address".to_owned())) {
            Ok(address) => {
                if let Some(stderr) = process.stderr.take() {
                    pass_on(stderr);
                }
                Ok(Self { process, address })
            }
            Err(problem) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(PrivateError(problem))
            }
        }
    }
}

/// Waits until it listens.
fn ready(process: &mut Child, token: &str) -> Result<Report, String> {
    let told = process.stdin.as_mut().map_or(Ok(()), |stdin| writeln!(stdin, "{token}"));
    let stdout = process.stdout.take().ok_or("it has no standard output")?;
    let (tell, line) = mpsc::channel();
    // Ends with the process, which is killed where it takes too long.
    let read = move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
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
            let _ = stderr.read_to_string(&mut why);
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
        drop(self.process.stdin.take());
        let until = Instant::now() + ENDING;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for PrivateGateways {
    fn drop(&mut self) {
        // Both at once: each takes its time to end what it runs.
        drop((self.producer.process.stdin.take(), self.consumer.process.stdin.take()));
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
