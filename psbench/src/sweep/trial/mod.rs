//! One trial: generators → broker → dispatcher → executor → workers → recorder, and the record of it.

mod record;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psbench_executors::{Executor, ExecutorError};
use uuid::Uuid;

use self::record::Told;
pub(super) use self::record::finish;
use super::engines::Engines;
use super::executor::{self, Starts};
use super::generators::{Generators, Noted};
use crate::brokers::{Broker, BrokerError, LagSample, Subscriber};
use crate::clock::{Clock, Nanos};
use crate::dispatcher::{Bounds, Dispatcher, Finished};
use crate::gateways::{GatewayMeter, Reading};
use crate::item::{self, UnwritablePlan};
use crate::logging;
use crate::plan::{Method, ObjectLifetime, Settings, TrialPlan};
use crate::recorder::{Backlog, Recorder};
use crate::results::record::TrialRecord;
use crate::trace::{self, TraceError, TraceFile};
use crate::worker::{Usage, reset_peak_memory};

/// Told of a trial's progress: items done with, payload bytes that reached a worker.
pub type TrialEvents<'a> = dyn FnMut(u64, u64) + 'a;

/// What a trial runs on.
pub(super) struct Bench<'a> {
    pub(super) settings: &'a Settings,
    pub(super) broker: &'a dyn Broker,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) interrupted: &'a AtomicBool,
    /// What outlasts the trial of the executor.
    pub(super) engines: Option<&'a Engines>,
    /// How its start has gone so far.
    pub(super) starts: &'a Starts,
    /// Tells what gateways use.
    pub(super) gateways: &'a GatewayMeter,
    /// Where the trace of each trial goes, if it is wanted.
    pub(super) trace_dir: Option<&'a Path>,
}

/// Why a trial could not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Plan(#[from] UnwritablePlan),
}

/// One look at everything takes at most this long.
const POLL: Duration = Duration::from_millis(50);

/// Silence of the broker after which a message that should have come counts as lost, once all generators have ended.
const SILENCE: Duration = Duration::from_secs(3);

/// Given to a broker to take in what a process had sent that has just ended.
const SETTLED: Duration = Duration::from_millis(500);

/// Time for generators and workers to end when all is well, and when not.
const ENDING: Duration = Duration::from_secs(10);
const FORCED: Duration = Duration::from_secs(2);

impl Bench<'_> {
    /// Runs a trial to its end; whatever happens, there is a record.
    pub(super) fn run(&self, trial: &TrialPlan, events: &mut TrialEvents<'_>) -> TrialRecord {
        let mut topic = self.settings.topic.clone();
        if !self.settings.is_external() {
            topic = format!("{topic}-{}", Uuid::new_v4().simple());
        }
        reset_peak_memory();
        let before = Usage::of_this_process();
        match Run::start(self, trial, &topic) {
            Ok(run) => run.finish(events, before),
            Err(error) => {
                // Where there is no subscriber, the broker knows itself what is left.
                if !matches!(error, StartError::Broker(_))
                    && !self.settings.is_external()
                    && let Err(error) = self.broker.delete(&topic)
                {
                    tracing::warn!("{error}");
                }
                self.not_started(trial, topic, &error)
            }
        }
    }
}

/// A trial that runs.
struct Run<'a> {
    bench: &'a Bench<'a>,
    trial: &'a TrialPlan,
    topic: String,
    generators: Generators,
    dispatcher: Arc<Dispatcher>,
    executor: Arc<dyn Executor>,
    /// What its gateways had used when it began.
    gateways: Vec<Reading>,
    trace: Option<TraceFile>,
    subscriber: Option<Box<dyn Subscriber>>,
    /// How many messages waited, where the broker tells.
    backlog: Backlog,
    start: Nanos,
    deadline: Nanos,
    /// What went wrong, the cause first.
    problems: Vec<String>,
    /// Whether the first problem is the broker's or the engine's: then those of generators follow from it.
    cause_is_known: bool,
}

impl<'a> Run<'a> {
    fn start(bench: &'a Bench<'a>, trial: &'a TrialPlan, topic: &str) -> Result<Self, StartError> {
        let settings = bench.settings;
        let subscriber = bench.broker.subscribe(topic)?;
        tracing::info!(topic, "subscribed");
        let outstanding = usize::try_from(trial.outstanding()).unwrap_or(usize::MAX);
        let inflight_bytes = trial.inflight_bytes();
        let generators = settings.own_generators();
        let inflight_items = trial.inflight_items();
        let bounds = Bounds {
            outstanding,
            inflight_bytes,
            inflight_items,
            items: settings.task_count,
            generators,
            held_by_generators: trial.method == Method::Proxy && !settings.connector.outlives_process(),
        };
        let recorder = Recorder::new(settings.deadline, settings.generators, settings.broker.partitions());
        let dispatcher = Arc::new(Dispatcher::new(bounds, recorder, Arc::clone(&bench.clock)));
        let executor = executor::start(settings, trial, (bench.engines, bench.starts), Arc::clone(&dispatcher) as _)?;
        tracing::info!(workers = executor.workers().len(), "workers are ready");
        let trace = bench.trace_dir.map(|dir| trace::start(dir, trial)).transpose()?.map(|(items, file)| {
            dispatcher.trace_into(items);
            file
        });
        let generators = Generators::new(generators);
        let gateways = bench.gateways.begin(trial);
        let start = bench.clock.now();
        let timeout = u64::try_from(trial.timeout().as_nanos()).unwrap_or(u64::MAX);
        let plans = generators.plans(settings, trial, &bench.broker.config(), topic, start);
        dispatcher.run_on(&executor, plans.iter().map(item::encode_plan).collect::<Result<_, _>>()?);
        if settings.is_external() {
            let (broker, most, time) = (&settings.broker, settings.task_count, trial.timeout());
            tracing::info!(
                target: logging::BENCH,
                "waiting for a producer on topic {topic}, {broker}: at most {most} items within {time:.0?}"
            );
        }
        Ok(Self {
            bench,
            trial,
            topic: topic.into(),
            generators,
            dispatcher,
            executor,
            gateways,
            trace,
            subscriber: Some(subscriber),
            backlog: Backlog::default(),
            start,
            deadline: start.saturating_add(timeout),
            problems: Vec::new(),
            cause_is_known: false,
        })
    }

    fn finish(mut self, events: &mut TrialEvents<'_>, before: Usage) -> TrialRecord {
        let received = self.receive(events);
        let all_well = received.is_ok();
        if let Err(problem) = received {
            self.problems.push(problem);
            self.generators.cancel(&*self.executor);
        }
        let client = self.subscriber.as_ref().and_then(|subscriber| subscriber.statistics());
        let received = self.subscriber.as_ref().and_then(|subscriber| subscriber.received_bytes());
        // A generator that waits for room at the broker learns from this that nobody takes any more.
        self.subscriber = None;
        tracing::info!("no more messages are taken; waiting for running tasks");
        let drained = self.drain(events);
        if self.problems.is_empty()
            && let Some(reason) = self.executor.exhausted()
        {
            self.cause_is_known = true;
            self.problems.push(gone(&reason));
        }
        let all_well = all_well && drained;
        let ended = self.dispatcher.generators(if all_well { ENDING } else { FORCED });
        self.dispatcher.close("the trial was given up");
        let reports = self.executor.shutdown(if all_well { ENDING } else { FORCED });
        let Noted { causes, effects, reports: told } = self.generators.note(ended);
        let place = usize::from(self.cause_is_known);
        self.problems.splice(place..place, causes);
        self.problems.extend(effects);
        let finished = self.dispatcher.finish();
        let held = self.generators.held(&reports);
        if self.trial.method == Method::Proxy && held.is_none() {
            self.abandon();
        }
        let orphaned = self.clean_up(&finished, held);
        self.record(
            finished,
            orphaned,
            Told { generators: &told, workers: &reports, subscriber: client, received },
            before,
        )
    }

    /// Takes messages from the broker to the dispatcher until the stream ends; an error is why it could not go on.
    fn receive(&mut self, events: &mut TrialEvents<'_>) -> Result<(), String> {
        let Some(subscriber) = &mut self.subscriber else { return Ok(()) };
        let clock = &self.bench.clock;
        let mut watch = Watch::new(self.bench, &self.dispatcher, &*self.executor, &self.generators);
        let mut messages = Vec::new();
        let mut quiet_since = clock.now();
        let mut idle_since = quiet_since;
        let mut ended_since = None;
        // A large item shows only when it is there as a whole.
        let silence = SILENCE + self.trial.slow_transfer();
        while !self.dispatcher.stream_has_ended() {
            let now = watch.look(events);
            if now >= self.deadline {
                return Err(timed_out(self.trial.timeout()));
            }
            // Whoever generates goes on: nobody tells it to end its stream.
            if self.bench.settings.is_external() && self.bench.interrupted.load(Ordering::Relaxed) {
                return Ok(());
            }
            if let Some(reason) = self.executor.exhausted() {
                self.cause_is_known = true;
                return Err(gone(&reason));
            }
            let lag = subscriber.lag();
            if let Some(LagSample { at, published, taken }) = lag {
                self.backlog.push(at, published, published.saturating_sub(taken) + self.dispatcher.waiting());
            }
            if !self.dispatcher.has_room(POLL) {
                quiet_since = now;
                continue;
            }
            if let Err(error) = subscriber.receive(&mut messages, POLL) {
                self.cause_is_known = true;
                return Err(error.to_string());
            }
            if !messages.is_empty() {
                (quiet_since, idle_since) = (now, now);
                self.dispatcher.accept(&mut messages).map_err(|foreign| foreign.to_string())?;
                continue;
            }
            // A generator may wait for the end of items that are lost.
            if !self.dispatcher.is_drained(Duration::ZERO) || lag.is_some_and(|lag| lag.published > lag.taken) {
                idle_since = now;
            } else if now.saturating_sub(idle_since) > silence.as_nanos() as u64 {
                idle_since = now;
                let missing = self.dispatcher.miss();
                if missing > 0 {
                    tracing::warn!(
                        "nothing came for {silence:.0?}: {missing} items may be lost, and as many more may be made"
                    );
                }
            }
            let silent = self.dispatcher.silent_generators();
            if silent.is_empty() {
                (quiet_since, ended_since) = (now, None);
                continue;
            }
            // A subscriber may find a broker that was away later than the generator did. While messages that were not read can come, only
            // the subscriber's own patience ends the wait.
            let sent_by = ended_since.get_or_insert(now).saturating_add(SETTLED.as_nanos() as u64);
            let patience = match subscriber.may_come(sent_by) {
                Some(true) => {
                    quiet_since = now;
                    continue;
                }
                // Who is known to be gone is waited for no longer than the broker has something of it.
                Some(false) if silent.awaited.is_empty() => 2 * POLL,
                None if silent.awaited.is_empty() => SILENCE,
                Some(false) => SILENCE,
                None => silence,
            };
            if now.saturating_sub(quiet_since) > patience.as_nanos() as u64 {
                if silent.awaited.is_empty() {
                    tracing::info!("all has come of what generators had sent that were lost");
                    return Ok(());
                }
                return Err(self.generators.silent(&silent.awaited, patience));
            }
        }
        Ok(())
    }

    /// Waits until the tasks that are out are done; `false` when the time is up before.
    fn drain(&mut self, events: &mut TrialEvents<'_>) -> bool {
        let mut watch = Watch::new(self.bench, &self.dispatcher, &*self.executor, &self.generators);
        while !self.dispatcher.is_drained(POLL) {
            if watch.look(events) >= self.deadline {
                if self.problems.is_empty() {
                    self.problems.push(timed_out(self.trial.timeout()));
                }
                return false;
            }
        }
        true
    }

    /// Gives back what generators had elsewhere, not all of which ended in order.
    fn abandon(&mut self) {
        if let Err(error) = self.generators.abandon(&self.bench.settings.connector) {
            self.problems.push(format!("paths may be left at gateways: {error}"));
        }
    }

    /// Deletes what is left at broker and connector; returns how many objects were orphaned: left behind by their resolve, or, where
    /// they were to stay, never resolved. `held`: what the generators' processes still held at their end, where all told.
    fn clean_up(&mut self, finished: &Finished, held: Option<u64>) -> u64 {
        if self.bench.settings.is_external() {
            // What is left is its own.
            return 0;
        }
        if let Err(error) = self.bench.broker.delete(&self.topic) {
            self.problems.push(error.to_string());
        }
        if self.trial.method == Method::Default {
            return 0;
        }
        let lifetime = self.bench.settings.lifetime;
        let connector = &self.bench.settings.connector;
        let generated = finished.all_generated();
        let unresolved = generated.saturating_sub(finished.recorder.resolved());
        if lifetime == ObjectLifetime::Static {
            tracing::info!("objects stay for ever: {generated} at {connector}, from {}", self.generators.starts());
            return unresolved;
        }
        let expected = if lifetime == ObjectLifetime::Owned { finished.recorder.evicted() } else { 0 };
        let left = generated.saturating_sub(expected);
        let known = self.problems.is_empty();
        let elsewhere = if !connector.outlives_process() || (left == 0 && known) {
            0
        } else {
            let most = self.generators.most(self.bench.settings.task_count);
            let stored = if known { &finished.generated } else { &most };
            self.generators.delete_objects(connector, stored).unwrap_or_else(|error| {
                self.problems.push(format!("objects may be left behind: {error}"));
                left
            })
        };
        if lifetime != ObjectLifetime::Owned {
            return unresolved;
        }
        // Where a generator did not tell what it held at its end, only what is missing can be told.
        elsewhere + held.unwrap_or(if connector.outlives_process() { 0 } else { left })
    }
}

/// Looks after a trial while somebody waits for something.
struct Watch<'a> {
    bench: &'a Bench<'a>,
    dispatcher: &'a Dispatcher,
    executor: &'a dyn Executor,
    generators: &'a Generators,
    told: Nanos,
}

impl<'a> Watch<'a> {
    fn new(
        bench: &'a Bench<'a>,
        dispatcher: &'a Dispatcher,
        executor: &'a dyn Executor,
        generators: &'a Generators,
    ) -> Self {
        Self { bench, dispatcher, executor, generators, told: 0 }
    }

    /// Lets only running tasks go on when the user wants an end, and tells of progress now and then. Returns the time.
    fn look(&mut self, events: &mut TrialEvents<'_>) -> Nanos {
        let now = self.bench.clock.now();
        if self.bench.interrupted.load(Ordering::Relaxed) && self.dispatcher.close("the sweep was interrupted") {
            tracing::warn!(
                "interrupted: running tasks finish, waiting ones don't start; interrupt again to leave at once"
            );
            self.generators.cancel(self.executor);
        }
        if now.saturating_sub(self.told) >= POLL.as_nanos() as u64 {
            self.told = now;
            if self.dispatcher.watches_hosts() {
                self.dispatcher.note_workers(&self.executor.workers());
            }
            let progress = self.dispatcher.progress();
            events(progress.items, progress.bytes);
        }
        now
    }
}

/// Said of an executor without whoever runs its tasks.
fn gone(reason: &str) -> String {
    format!("nothing runs any more: {reason}")
}

fn timed_out(timeout: Duration) -> String {
    format!("given up after {timeout:.0?}; raise --timeout if it only needed longer")
}
