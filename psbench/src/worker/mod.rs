//! What workers do with a task: generate the stream, or resolve an item and work on it.

mod usage;

use std::hint::black_box;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use psbench_connectors::{
    Address, ConnectorError, Key, KeySource, Proxy, ResolveFailure, Resolver, StoreMetrics, StoreOptions, checksum,
};
use psbench_executors::{ClockOffset, Task, TaskContext, Work};
use serde::{Deserialize, Serialize};

pub use self::usage::{Usage, reset_peak_memory};
use crate::clock::{Clock, HostClock, Nanos, process_cpu_time};
use crate::generator::{self, Control, GeneratorPlan, OpenStore};
use crate::item::{self, Body, Head, ItemFailure, ItemHead, ItemOutcome};
use crate::plan::{ObjectLifetime, TaskKind};

/// What every worker of a trial is told before its first task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerSetup {
    /// What a task does once its item is there.
    pub task: TaskKind,
    /// For how long.
    pub task_sleep: Duration,
    /// Whether to check checksums.
    pub verify: bool,
    /// Bytes of resolved objects to keep; 0 for none.
    pub cache_bytes: u64,
    /// The services of the trial's connector, which see the credentials of workers.
    pub trusted: Vec<Address>,
}

/// What a worker says at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerFinish {
    /// What its process used.
    pub usage: Usage,
    /// What its resolves came to.
    pub metrics: StoreMetrics,
    /// Generators that ran here.
    pub generators: u32,
    /// Objects of the generators here that were deleted because their lease had expired.
    pub expired: u64,
    /// Objects of the generators here that this process still held at its end; absent where they are elsewhere.
    pub held: Option<u64>,
}

/// The work of psbench's workers.
pub struct StreamWork {
    setup: WorkerSetup,
    resolver: Resolver,
    /// The dispatcher's clock, as far as this host knows it.
    clock: HostClock,
    /// The most memory of this process, when it was last looked at.
    peak_memory: Mutex<(Nanos, Option<u64>)>,
    /// Generators that ran here.
    generators: AtomicU32,
    /// Whether generators are to stop because nobody is left to work for.
    abandoned: AtomicBool,
    /// Generators that are at work here.
    generating: Mutex<u32>,
    /// One has ended.
    generated_all: Condvar,
    /// The store of each generator: its objects may live in this process.
    generated: Mutex<Vec<Generated>>,
}

/// What a generator here has stored.
struct Generated {
    store: OpenStore,
    keys: KeySource,
    lifetime: ObjectLifetime,
}

impl StreamWork {
    /// For the workers of this process, whose clock is so far ahead of the dispatcher's.
    pub fn new(setup: WorkerSetup, clock: ClockOffset) -> Self {
        let options = StoreOptions { cache_bytes: setup.cache_bytes, ..StoreOptions::default() };
        let resolver =
            Resolver::new(format!("process {}", std::process::id()), options).trusting(setup.trusted.clone());
        Self {
            setup,
            resolver,
            clock: HostClock::ahead_by(clock.ahead_ns),
            peak_memory: Mutex::default(),
            generators: AtomicU32::new(0),
            abandoned: AtomicBool::new(false),
            generating: Mutex::new(0),
            generated_all: Condvar::new(),
            generated: Mutex::default(),
        }
    }

    /// From what the dispatcher sent.
    pub fn from_setup(setup: &[u8], clock: ClockOffset) -> Result<Self, String> {
        let setup = item::decode(setup).ok_or("the dispatcher is another version of psbench")?;
        Ok(Self::new(setup, clock))
    }

    fn generated(&self) -> MutexGuard<'_, Vec<Generated>> {
        lock(&self.generated)
    }

    fn generate(&self, task: &Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
        let plan: GeneratorPlan = item::decode(&task.head).ok_or("not a generator's plan")?;
        self.generators.fetch_add(1, Ordering::Relaxed);
        let lifetime = plan.store.as_ref().map_or(ObjectLifetime::Owned, |store| store.lifetime);
        let opened = |store, keys| self.generated().push(Generated { store, keys, lifetime });
        let stop = || context.is_cancelled() || self.abandoned.load(Ordering::Relaxed);
        *lock(&self.generating) += 1;
        let control = Control { stop: &stop, allowed: &|known, wait| context.told_above(known, wait) };
        let report = generator::generate(&plan, &self.clock, control, &opened);
        *lock(&self.generating) -= 1;
        self.generated_all.notify_all();
        Ok(item::encode(&report))
    }

    fn process(&self, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
        let started = self.clock.now();
        let Some((Head::Item(head), doubted)) = item::decode_task(&task.head) else { return Err("not an item".into()) };
        let arrived = match head.body {
            Body::Full { size, checksum } => self.check(&head, task.payload, size, checksum),
            Body::Proxy => self.resolve(&task.payload, doubted, context),
            Body::Unusable => Err(unusable(&head, &task.payload)),
        };
        let mut outcome = ItemOutcome { started, resolved: None, finished: 0, evicted: None, bytes: 0, failure: None };
        match arrived {
            Ok(Arrived { bytes, resolved, evicted }) => {
                outcome.resolved = resolved.then(|| self.clock.now());
                outcome.evicted = outcome.resolved.filter(|_| evicted);
                outcome.bytes = bytes.len() as u64;
                self.work(&bytes, context);
            }
            Err(failure) => outcome.failure = Some(failure),
        }
        outcome.finished = self.clock.now();
        Ok(item::encode(&outcome))
    }

    fn check(&self, head: &ItemHead, bytes: Bytes, size: u64, checksum: Option<u64>) -> Result<Arrived, ItemFailure> {
        let corrupt = |what: String| ItemFailure {
            corrupt: true,
            unreachable: false,
            reason: format!("item {}: {what}", head.sequence),
        };
        if bytes.len() as u64 != size {
            return Err(corrupt(format!("{} bytes came instead of {size}", bytes.len())));
        }
        match checksum.filter(|_| self.setup.verify) {
            Some(expected) if self::checksum(&bytes) != expected => Err(corrupt("its checksum is wrong".into())),
            _ => Ok(Arrived { bytes, resolved: false, evicted: false }),
        }
    }

    fn resolve(&self, proxy: &[u8], doubted: bool, context: &TaskContext<'_>) -> Result<Arrived, ItemFailure> {
        let failure = |corrupt, unreachable, error: &dyn std::error::Error| ItemFailure {
            corrupt,
            unreachable,
            reason: chain(error),
        };
        let proxy = Proxy::decode(proxy).map_err(|error| failure(true, false, &error))?;
        if doubted {
            proxy.address.doubt();
        }
        if proxy.key.size.is_none_or(|size| size >= LARGE) {
            context.about_to_wait();
        }
        let resolved = self.resolver.resolve(&proxy, self.setup.verify).map_err(|error| {
            let corrupt = matches!(error.reason, ResolveFailure::Length { .. } | ResolveFailure::Checksum { .. });
            let unreachable =
                matches!(&error.reason, ResolveFailure::Connector(error) if matches!(**error, ConnectorError::Io { .. }));
            failure(corrupt, unreachable, &error)
        })?;
        Ok(Arrived { bytes: resolved.bytes, resolved: true, evicted: resolved.evicted })
    }

    fn work(&self, bytes: &[u8], context: &TaskContext<'_>) {
        let WorkerSetup { task, task_sleep, .. } = self.setup;
        if task == TaskKind::Sum {
            black_box(bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte))));
        }
        if task_sleep.is_zero() {
            return;
        }
        context.about_to_wait();
        if task == TaskKind::Spin {
            let until = self.clock.now() + task_sleep.as_nanos() as u64;
            while self.clock.now() < until {
                std::hint::spin_loop();
            }
        } else {
            sleep(task_sleep);
        }
    }
}

fn unusable(head: &ItemHead, why: &[u8]) -> ItemFailure {
    let reason = format!("item {}: {}", head.sequence, String::from_utf8_lossy(why));
    ItemFailure { corrupt: false, unreachable: false, reason }
}

/// Objects from this size on take longer to come than outcomes of earlier tasks should wait, bytes.
const LARGE: u64 = 64 << 10;

/// An item's bytes at its worker.
struct Arrived {
    bytes: Bytes,
    resolved: bool,
    evicted: bool,
}

impl Work for StreamWork {
    fn run(&self, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
        if task.exclusive { self.generate(&task, context) } else { self.process(task, context) }
    }

    fn finish(&self) -> Bytes {
        let stores: Vec<_> = self.generated().drain(..).map(|generated| generated.store).collect();
        item::encode(&WorkerFinish {
            usage: Usage::of_this_process(),
            metrics: self.resolver.metrics(),
            generators: self.generators.load(Ordering::Relaxed),
            expired: stores.iter().map(|store| store.metrics().expired).sum(),
            held: stores.iter().filter_map(|store| store.connector().held()).reduce(|sum, held| sum + held),
        })
    }

    /// Without the objects of generators: these run on workers whose end is seen.
    fn progress(&self) -> Bytes {
        /// A look at memory takes longer than a small task.
        const LOOK: Nanos = 100_000_000;
        let now = self.clock.now();
        let mut peak = lock(&self.peak_memory);
        if now.saturating_sub(peak.0) > LOOK || peak.1.is_none() {
            *peak = (now, Usage::of_this_process().peak_memory);
        }
        item::encode(&WorkerFinish {
            usage: Usage { cpu: process_cpu_time(), peak_memory: peak.1 },
            metrics: self.resolver.metrics(),
            generators: self.generators.load(Ordering::Relaxed),
            expired: 0,
            held: None,
        })
    }

    fn abandoned(&self) {
        /// For generators to be out of their stores: they are not to add to what is deleted.
        const MOMENT: Duration = Duration::from_secs(1);
        self.abandoned.store(true, Ordering::Relaxed);
        let generating =
            self.generated_all.wait_timeout_while(lock(&self.generating), MOMENT, |generating| *generating > 0);
        drop(generating);
        // Nobody else knows any more what was stored.
        for Generated { store, keys, lifetime } in self.generated().drain(..) {
            if store.connector().address().outlives_process() && lifetime != ObjectLifetime::Static {
                let stored: Vec<Key> = (0..keys.made()).map(|n| Key::named(keys.nth(n))).collect();
                let _ = store.evict_batch(&stored);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic elsewhere leaves is as good as what it found.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The work of this process's own threads, if they work.
static LOCAL: Mutex<Weak<StreamWork>> = Mutex::new(Weak::new());

/// Makes the work of a thread executor, and remembers it for [`abandon_local`].
pub fn local(setup: WorkerSetup) -> Arc<StreamWork> {
    let work = Arc::new(StreamWork::new(setup, ClockOffset::default()));
    *lock(&LOCAL) = Arc::downgrade(&work);
    work
}

/// Deletes what generators on threads of this process have stored; for a process that is about to exit with the trial unfinished.
pub fn abandon_local() {
    let work = lock(&LOCAL).upgrade();
    if let Some(work) = work {
        work.abandoned();
    }
}

/// Sleeps for as long as it was asked, to within some microseconds.
fn sleep(duration: Duration) {
    thread_local! {
        /// Linux wakes a thread up to 50 µs late unless told otherwise: 5 % of a task of 1 ms.
        static EXACT: () = {
            let _ = rustix::thread::set_current_timer_slack(Some(NonZero::<u64>::MIN));
        };
    }
    EXACT.with(|()| std::thread::sleep(duration));
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors tell their cause themselves.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
