//! What a sweep will do, worked out and checked before anything starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use psbench_connectors::{ConnectorSpec, Lifetime, is_loopback};
use psbench_executors::pilot::DoorOptions;
use psbench_executors::process::CpuAffinity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::brokers::{BrokerChoice, PathPlan};

/// How bulk data travels from generator to worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// In full, through broker and dispatcher.
    Default,
    /// By proxy: only metadata goes through broker and dispatcher.
    Proxy,
}

impl Method {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Proxy => "proxy",
        }
    }
}

/// Who generates the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GeneratorKind {
    /// A worker of the executor
    Internal,
    /// A process beside psbench, whatever the executor
    Local,
    /// Another program
    External,
}

impl GeneratorKind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Local => "local",
            Self::External => "external",
        }
    }
}

/// Where tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorKind {
    /// Dask.
    Dask,
    /// An endpoint of Globus Compute.
    Globus,
    /// Ranks that `mpiexec` starts.
    Mpi,
    /// Parsl.
    Parsl,
    /// Worker processes on this host.
    Process,
    /// Any engine with the shape of Python's `concurrent.futures.Executor`.
    Python,
    /// Tasks of a job of Slurm's, which `srun` starts.
    Slurm,
    /// Processes that `ssh` starts on given hosts.
    Ssh,
    /// Threads of psbench itself.
    Thread,
    /// One that this program brings with it.
    Own(&'static str),
}

impl ExecutorKind {
    /// The names of psbench's executors, as `--executor` takes them.
    pub const NAMES: [&'static str; 9] =
        ["dask", "globus", "mpi", "parsl", "process", "python", "slurm", "ssh", "thread"];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dask => "dask",
            Self::Globus => "globus",
            Self::Mpi => "mpi",
            Self::Parsl => "parsl",
            Self::Process => "process",
            Self::Python => "python",
            Self::Slurm => "slurm",
            Self::Ssh => "ssh",
            Self::Thread => "thread",
            Self::Own(name) => name,
        }
    }
}

/// How an engine is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubmitMode {
    /// Each item is a task of the engine
    Task,
    /// The engine places psbench's workers, which get the items from the dispatcher
    Pilot,
}

impl SubmitMode {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Pilot => "pilot",
        }
    }
}

/// An engine that reaches past this process, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnginePlan {
    /// What places workers.
    pub placement: Placement,
    /// What travels through it.
    pub submit: SubmitMode,
    /// Items that are one task of the engine, at least 1; always 1 for [`SubmitMode::Pilot`].
    pub batch: u32,
    /// Where workers connect.
    pub door: DoorOptions,
    /// What leads them there, where they can't reach it by themselves.
    pub through: Option<PathPlan>,
    /// psbench's program on the hosts of workers.
    pub worker_program: String,
    /// Most time until the engine is there, and then until its workers are.
    pub ready_timeout: Duration,
}

impl EnginePlan {
    /// Whether it may have more workers than it is asked for.
    pub fn has_a_size_of_its_own(&self) -> bool {
        match &self.placement {
            Placement::Python { engine, options, .. } => {
                *engine == "globus" || !options["scheduler"].is_null() || !options["config"].is_null()
            }
            Placement::Launcher(_) => false,
        }
    }

    /// Whether workers on other hosts find no way in: the dispatcher listens for this host's alone.
    pub fn keeps_out(&self) -> bool {
        self.door.listen.is_loopback() && self.through.is_none()
    }

    /// Whether its workers are known to be on other hosts. Of others it shows when they are there.
    pub fn is_elsewhere(&self) -> bool {
        match &self.placement {
            Placement::Python { engine, options, .. } => {
                *engine == "globus" || options["executor"] == "htex-polaris-headless"
            }
            Placement::Launcher(launch) => {
                launch.hosts.iter().any(|host| !is_loopback(host.rsplit('@').next().unwrap_or(host)))
            }
        }
    }
}

/// What an executor that the program brings with it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnExecutorPlan {
    /// Its own options, by their names.
    pub options: BTreeMap<String, String>,
    /// Where workers that it places connect.
    pub door: DoorOptions,
    /// psbench's program where these are.
    pub worker_program: String,
    /// Most time until they are there.
    pub ready_timeout: Duration,
}

/// What places workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// An engine of Python's.
    Python {
        /// Python's program, which has the engine's package.
        python: PathBuf,
        /// The engine, as the bridge calls it.
        engine: &'static str,
        /// Its own options.
        options: serde_json::Value,
    },
    /// A launcher: a program that starts so many others.
    Launcher(Launch),
}

/// A launcher and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Whose conventions it follows.
    pub kind: LauncherKind,
    /// Its program.
    pub program: String,
    /// Options given to it ahead of psbench's own.
    pub options: Vec<String>,
    /// Where workers go, in turn; only for [`LauncherKind::Ssh`].
    pub hosts: Vec<String>,
}

/// The kinds of launchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LauncherKind {
    /// `mpiexec`.
    Mpi,
    /// `srun`.
    Slurm,
    /// `ssh`.
    Ssh,
}

impl LauncherKind {
    /// Its program, where none is named.
    pub fn program(self) -> &'static str {
        match self {
            Self::Mpi => "mpiexec",
            Self::Slurm => "srun",
            Self::Ssh => "ssh",
        }
    }
}

/// What a task does with its item once it is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// Sleeps for the task time.
    Sleep,
    /// Burns CPU for the task time.
    Spin,
    /// Reads every byte, then sleeps for the task time.
    Sum,
}

/// Which items of a stream one of its generators makes: of `G` generators number `g` makes `g`, `g + G`, `g + 2G` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which generator, from 0.
    pub generator: u32,
    /// How many there are, at least 1.
    pub generators: u32,
}

impl Share {
    /// All items, of the only generator.
    pub const ALL: Self = Self { generator: 0, generators: 1 };

    /// The shares of so many generators, in their order.
    pub fn each(generators: u32) -> impl Iterator<Item = Self> {
        (0..generators).map(move |generator| Self { generator, generators })
    }

    /// How many of the stream's first `items` it has.
    pub fn of(self, items: u64) -> u64 {
        items.saturating_sub(self.generator.into()).div_ceil(self.generators.into())
    }

    /// The stream's number of its own `n`th item, both counted from 0.
    pub fn number(self, n: u64) -> u64 {
        n.saturating_mul(self.generators.into()).saturating_add(self.generator.into())
    }
}

/// When the generators make their items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pacing {
    /// Item `n` of the stream is due at `n ×` this interval.
    Interval(Duration),
    /// Every item is due at once: as fast as the stream takes them.
    Max,
}

/// Whether payloads are made ahead of the run and used in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pregenerate {
    /// When making each one afresh would take more than a quarter of the interval.
    Auto,
    /// Always.
    Always,
    /// Never: each item has bytes of its own.
    Never,
}

/// Where payload bytes come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadSource {
    /// Random bytes.
    Random {
        /// Ahead or afresh.
        pregenerate: Pregenerate,
    },
    /// A file, replayed: item `n` gets the `n`th part of the item's size, from the beginning again at the end.
    File(PathBuf),
}

/// How long stored objects stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectLifetime {
    /// Until their resolve, as with the Python tool.
    Owned,
    /// Until this long after they were stored, or the end of the trial.
    Leased(Duration),
    /// Until the end of the trial.
    Run,
    /// For ever.
    Static,
}

impl ObjectLifetime {
    /// What each proxy says of its object.
    pub fn of_proxies(self) -> Lifetime {
        match self {
            Self::Owned => Lifetime::Owned,
            Self::Leased(lease) => Lifetime::Leased(lease),
            Self::Run | Self::Static => Lifetime::Kept,
        }
    }
}

/// How worker processes are kept; nothing of it is limited by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPool {
    /// Tasks that a process computes at a time, each on a thread, at least 1.
    pub threads_per_worker: u32,
    /// Tasks after which a process is replaced.
    pub max_tasks_per_worker: Option<u64>,
    /// Time without a task after which a process ends, to be started again when there are tasks for it.
    pub idle: Option<Duration>,
    /// Most address space of a process, bytes.
    pub memory: Option<u64>,
    /// Which cores each process may use.
    pub cpu_affinity: Option<CpuAffinity>,
}

impl Default for WorkerPool {
    fn default() -> Self {
        Self { threads_per_worker: 1, max_tasks_per_worker: None, idle: None, memory: None, cpu_affinity: None }
    }
}

impl WorkerPool {
    /// The processes of so many workers: one for each generator, and as few as can be for those that compute.
    pub fn processes(&self, workers: u32, generators: u32) -> u32 {
        generators + workers.saturating_sub(generators).div_ceil(self.threads_per_worker)
    }
}

/// What all trials of a sweep have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where tasks run.
    pub executor: ExecutorKind,
    /// The engine behind it, where it has one.
    pub engine: Option<EnginePlan>,
    /// What the program's own executor is given, where it is one.
    pub own_executor: Option<OwnExecutorPlan>,
    /// Workers that the executor starts, where that is more than a trial's `workers`.
    pub pool_workers: Option<u32>,
    /// How worker processes are kept.
    pub pool: WorkerPool,
    /// Most time for one task; `None` for no bound but the trial's.
    pub task_timeout: Option<Duration>,
    /// Who generates.
    pub generator: GeneratorKind,
    /// Workers that generate, at least 1. Where another program generates it is 1, which is idle.
    pub generators: u32,
    /// The broker.
    pub broker: BrokerChoice,
    /// First part of every trial's topic; of an external generator's, all of it.
    pub topic: String,
    /// Where bulk data lives under [`Method::Proxy`].
    pub connector: ConnectorSpec,
    /// Items of a trial.
    pub task_count: u64,
    /// What a task does.
    pub task: TaskKind,
    /// For how long.
    pub task_sleep: Duration,
    /// The rate asked for; `None` for the default interval `task_sleep / compute workers`.
    pub pacing: Option<Pacing>,
    /// Tasks waiting at each worker beyond the one it runs.
    pub prefetch: u32,
    /// The most bytes of messages that the dispatcher holds; `None` for [`TrialPlan::inflight_bytes`]'s own.
    pub max_inflight_bytes: Option<u64>,
    /// The most items under way of a stream without a pace; `None` for [`TrialPlan::inflight_items`]'s own.
    pub max_inflight_items: Option<u64>,
    /// Payload bytes.
    pub payload: PayloadSource,
    /// Seed of random payloads; `None` for a random one.
    pub seed: Option<u64>,
    /// Whether workers check a checksum of every item.
    pub verify: bool,
    /// How long stored objects stay.
    pub lifetime: ObjectLifetime,
    /// Items that finish later than this after they were scheduled are counted as late.
    pub deadline: Option<Duration>,
    /// Bound of a trial; `None` for [`TrialPlan::timeout`]'s own.
    pub timeout: Option<Duration>,
    /// Bytes of objects that each worker keeps after their resolve; 0 for none.
    pub cache_bytes: u64,
}

impl Settings {
    /// Whether another program generates.
    pub fn is_external(&self) -> bool {
        self.generator == GeneratorKind::External
    }

    /// Workers of a trial that compute nothing, since they generate, or are left to whoever does. A generator beside this process takes none of
    /// an engine's.
    pub fn placed_generators(&self) -> u32 {
        if self.generator == GeneratorKind::Local && self.engine.is_some() { 0 } else { self.generators }
    }

    /// Tasks that travel together as one of an engine's.
    pub fn batch(&self) -> u32 {
        self.engine.as_ref().map_or(1, |engine| engine.batch)
    }

    /// Generators that psbench runs: none where another program generates.
    pub fn own_generators(&self) -> u32 {
        if self.is_external() { 0 } else { self.generators }
    }
}

/// One run of one point of the matrix.
#[derive(Clone, Debug)]
pub struct TrialPlan {
    /// Position in the order of running, from 0.
    pub index: usize,
    /// The path that it measures; absent where none are compared.
    pub path: Option<String>,
    /// What it has in common with others.
    pub settings: Arc<Settings>,
    /// Item size, bytes.
    pub data_size: u64,
    /// The stream method.
    pub method: Method,
    /// Workers, the generators included; at least one more than these.
    pub workers: u32,
    /// Which repetition, from 0.
    pub repeat: u32,
}

impl TrialPlan {
    /// What people know it by: its path, or its method where no paths are compared.
    pub fn way(&self) -> &str {
        self.path.as_deref().unwrap_or(self.method.name())
    }

    /// Workers that compute.
    pub fn compute_workers(&self) -> u32 {
        self.workers - self.settings.placed_generators()
    }

    /// Tasks at the executor at any time, at most: those that workers compute, and those that wait at each of them.
    pub fn outstanding(&self) -> u64 {
        let waiting = u64::from(self.settings.prefetch);
        u64::from(self.compute_workers()) * (1 + waiting) * u64::from(self.settings.batch())
    }

    /// The most bytes of messages that the dispatcher holds: as asked, or twice what can be outstanding, so that as much can wait,
    /// and at least 64 MiB.
    pub fn inflight_bytes(&self) -> u64 {
        const LEAST: u64 = 64 << 20;
        let outstanding = self.outstanding().saturating_mul(self.data_size);
        self.settings.max_inflight_bytes.unwrap_or_else(|| outstanding.saturating_mul(2).max(LEAST))
    }

    /// The most items that are under way at a time: made, and not yet done with. As asked, or by default as many as keep all workers at
    /// work. The same for both methods, where the pace is set by what takes the items: without a bound it would be the generator's memory
    /// or the broker's that ends the queue, and latency the length of that. Absent where items are due one by one, and where another
    /// program generates, which nobody can hold back.
    pub fn inflight_items(&self) -> Option<u64> {
        /// As many hide wake-ups: measured with the throughput of a stream without a bound, where 32 items of 100 kB in full had 5 % less.
        const FEWEST: u64 = 64;
        /// Small items are made and sent by many together.
        const MOST: u64 = 1024;
        const BYTES: u64 = 4 << 20;
        /// On their way to the dispatcher, beside what it holds.
        const ON_THE_WAY: u64 = 2;
        if self.settings.is_external() || self.pacing() != Pacing::Max {
            return None;
        }
        Some(self.settings.max_inflight_items.unwrap_or_else(|| {
            let size = self.data_size.max(1);
            let busy = self.outstanding().saturating_mul(2).max((BYTES / size).clamp(FEWEST, MOST));
            // What the dispatcher can't hold of items in full, is not to be there by proxy either.
            let items = busy.min(self.inflight_bytes() / size).max(1) + ON_THE_WAY;
            items.max(self.settings.generators.into())
        }))
    }

    /// When items are due.
    pub fn pacing(&self) -> Pacing {
        self.settings.pacing.unwrap_or_else(|| {
            let interval = self.settings.task_sleep / self.compute_workers();
            if interval.is_zero() { Pacing::Max } else { Pacing::Interval(interval) }
        })
    }

    /// The shortest time the trial can take: its schedule, or its tasks, whichever is longer.
    pub fn ideal(&self) -> Duration {
        let settings = &self.settings;
        let rounds = settings.task_count.div_ceil(u64::from(self.compute_workers()));
        let tasks = mul(settings.task_sleep, rounds);
        match self.pacing() {
            Pacing::Max => tasks,
            Pacing::Interval(interval) => {
                tasks.max(mul(interval, settings.task_count.saturating_sub(1)) + settings.task_sleep)
            }
        }
    }

    /// The time of one item at 10 MB/s, slower than any path worth measuring.
    pub fn slow_transfer(&self) -> Duration {
        const SLOW_BYTES_PER_S: f64 = 10e6;
        Duration::try_from_secs_f64(self.data_size as f64 / SLOW_BYTES_PER_S).unwrap_or(Duration::MAX)
    }

    /// When the trial is given up: as asked, or twice the ideal time, plus the time of all bytes at a slow 10 MB/s, plus a minute.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout.unwrap_or_else(|| {
            let transfer = mul(self.slow_transfer(), self.settings.task_count);
            self.ideal().saturating_mul(2).saturating_add(transfer).saturating_add(Duration::from_secs(60))
        })
    }
}

fn mul(duration: Duration, times: u64) -> Duration {
    u32::try_from(times).map_or(Duration::MAX, |times| duration.saturating_mul(times))
}

/// A whole sweep.
#[derive(Clone, Debug)]
pub struct SweepPlan {
    /// What all trials have in common. Where paths are compared, these are the first one's, and a trial's own differ from them in
    /// connector and broker.
    pub settings: Arc<Settings>,
    /// The trials in the order of running.
    pub trials: Vec<TrialPlan>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_item_is_in_one_share(generators in 1u32..9, items in 0u64..200) {
            let shares = || Share::each(generators);
            let mut all: Vec<u64> =
                shares().flat_map(|share| (0..share.of(items)).map(move |n| share.number(n))).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..items).collect::<Vec<_>>());
            prop_assert!(shares().all(|share| share.number(share.of(items)) >= items));
        }
    }
}
