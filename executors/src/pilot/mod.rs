//! Tasks run by workers that somebody else places, and that call back.
//!
//! An engine (a Python one, `mpiexec`, `srun`, `ssh`) only starts long-lived workers, each with an [`Invitation`]; from then on tasks go to
//! them directly, as to worker processes of this host, at no cost of the engine.
//!
//! ```text
//! launcher ──▶ worker ── hello: token, host, clock ──▶ door ──▶ fleet ══ frames ══ worker
//! ```
//!
//! A worker that is lost is not replaced: its place is the engine's. The tasks it held end as
//! [`WorkerLost`](crate::TaskError::WorkerLost), and once none is left all tasks end as [`NotRun`](crate::TaskError::NotRun).

mod dial;
mod door;
mod hello;
pub mod launch;
mod remote;
mod tls;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use dial::{ConnectError, connect};
pub(crate) use hello::hex;
pub use launch::Launcher;

use crate::fleet::Fleet;
use crate::fleet::terms::Terms;
use crate::{Executor, ExecutorError, OutcomeSink, Task, TaskId, WorkerInfo, WorkerReport};
use door::Door;

/// Given to launchers to see their workers end, after these were asked to.
const ENDING: Duration = Duration::from_secs(3);

/// Where workers connect, and on which terms they work. The fields that are not explained are those of
/// [`ProcessOptions`](crate::process::ProcessOptions).
#[derive(Clone, Debug)]
pub struct PilotOptions {
    /// Workers that are awaited, at least 1.
    pub workers: u32,
    /// The number of the first worker.
    pub first: u32,
    /// Shared tasks that a worker runs at a time.
    pub threads_per_worker: u32,
    /// Most shared tasks that run at a time, over all workers.
    pub sharing: u32,
    /// What each makes its [`Work`](crate::Work) from.
    pub setup: Bytes,
    /// Most shared tasks that a worker holds for each of its threads.
    pub capacity: u32,
    /// Most time until all workers have connected, and then until each has made its work.
    pub ready_timeout: Duration,
    /// Most time for a shared task.
    pub task_timeout: Option<Duration>,
    /// Time for which nothing may be heard of a worker, which tells every second that it is there.
    pub silence_limit: Duration,
    /// Where workers connect.
    pub door: DoorOptions,
}

/// Where workers connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorOptions {
    /// The address to listen at.
    pub listen: IpAddr,
    /// The port to listen at; 0 for any that is free.
    pub port: u16,
    /// What workers are told to connect to, where that is not the address listened at.
    pub advertise: Option<Advertised>,
    /// Whether workers connect by TLS. The certificate is made for this executor, and they know it by their invitation.
    pub tls: bool,
}

/// Where workers find a door that stands elsewhere for them: another name of its host, or whatever forwards their connections to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// A name or an address.
    pub host: String,
    /// `None`: the one listened at.
    pub port: Option<u16>,
}

impl Default for DoorOptions {
    fn default() -> Self {
        Self { listen: Ipv4Addr::LOCALHOST.into(), port: 0, advertise: None, tls: false }
    }
}

impl DoorOptions {
    /// What workers are told to connect to, where this port is listened at.
    pub fn told(&self, listened_at: u16) -> String {
        let advertised = self.advertise.as_ref();
        let host = advertised.map_or_else(|| self.listen.to_string(), |advertised| advertised.host.clone());
        let port = advertised.and_then(|advertised| advertised.port).unwrap_or(listened_at);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl PilotOptions {
    /// So many workers of this host with one task at a time, nothing limited.
    pub fn new(workers: u32) -> Self {
        Self {
            workers,
            first: 0,
            threads_per_worker: 1,
            sharing: u32::MAX,
            setup: Bytes::new(),
            capacity: 1,
            ready_timeout: Duration::from_secs(60),
            task_timeout: None,
            silence_limit: Duration::from_secs(10),
            door: DoorOptions::default(),
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            workers: self.workers,
            first: self.first,
            threads_per_worker: self.threads_per_worker,
            sharing: self.sharing,
            setup: self.setup.clone(),
            capacity: self.capacity,
            ready_timeout: self.ready_timeout,
            max_tasks_per_worker: None,
            idle_timeout: None,
            task_timeout: self.task_timeout,
            stopped_limit: self.silence_limit,
        }
    }
}

/// The environment variable that has a worker's token.
pub const TOKEN_VARIABLE: &str = "PSBENCH_TOKEN";

/// What a worker has to know to be let in.
#[derive(Clone)]
pub struct Invitation {
    /// Where to connect: `host:port`.
    pub address: String,
    /// A secret, and by TLS the certificate of who is to answer. For the environment ([`TOKEN_VARIABLE`]) or a file, never for the command
    /// line, which everyone on the host can read.
    pub token: String,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Runs tasks on workers that a [`Launcher`] places.
pub struct PilotExecutor {
    fleet: Arc<Fleet>,
    launcher: Box<dyn Launcher>,
}

impl PilotExecutor {
    /// Has workers placed, and waits until all have connected and are ready. Nobody else is let in then.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Invalid`] for options that can't work, [`ExecutorError::Start`] where nobody can connect or nothing can be launched,
    /// [`ExecutorError::NotReady`] if not all come in time, or the launcher gives up.
    pub fn start(
        options: &PilotOptions,
        launcher: Box<dyn Launcher>,
        sink: Arc<dyn OutcomeSink>,
    ) -> Result<Self, ExecutorError> {
        let executor = Self { fleet: Arc::new(Fleet::new(options.terms(), None, sink)?), launcher };
        let cannot_listen = |source: io::Error| ExecutorError::Start {
            what: format!("listening for workers at {}, port {}", options.door.listen, options.door.port),
            source,
        };
        let door = Door::open(&options.door, Arc::clone(&executor.fleet)).map_err(cannot_listen)?;
        executor.launcher.launch(door.invitation(), options.workers)?;
        let until = Instant::now() + options.ready_timeout;
        executor.fleet.wait_ready(&|| {
            let refused = || door.refused().map(|reason| format!("; {reason}")).unwrap_or_default();
            let timed_out = || format!("they did not come within {:?}{}", options.ready_timeout, refused());
            executor.launcher.failure().or_else(|| (Instant::now() >= until).then(timed_out))
        })?;
        drop(door);
        executor.fleet.watch()?;
        Ok(executor)
    }
}

impl Executor for PilotExecutor {
    fn submit(&self, tasks: Vec<Task>) {
        self.fleet.submit(tasks);
    }

    fn cancel(&self, task: TaskId) {
        self.fleet.cancel(task);
    }

    fn tell(&self, task: TaskId, number: u64) {
        self.fleet.tell(task, number);
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        self.fleet.workers()
    }

    fn exhausted(&self) -> Option<String> {
        self.fleet.exhausted()
    }

    fn shutdown(&self, grace: Duration) -> Vec<WorkerReport> {
        let reports = self.fleet.shutdown(grace);
        self.launcher.end(ENDING);
        reports
    }
}

impl Drop for PilotExecutor {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_told_where_the_door_stands_for_them() {
        let told = |advertise: Option<(&str, Option<u16>)>| {
            let advertise = advertise.map(|(host, port)| Advertised { host: host.to_owned(), port });
            DoorOptions { advertise, ..DoorOptions::default() }.told(7000)
        };
        assert_eq!(told(None), "127.0.0.1:7000");
        assert_eq!(told(Some(("head", None))), "head:7000");
        assert_eq!(told(Some(("gateway", Some(5100)))), "gateway:5100");
        assert_eq!(told(Some(("fd71::1", Some(5100)))), "[fd71::1]:5100");
    }
}
