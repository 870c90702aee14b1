//! A generator: makes items by plan, stores them where they travel by proxy, and publishes them.

mod pacing;
mod payload;

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::{BadProxy, ConnectorError, ConnectorSpec, KeySource, Lifetime, Store, StoreOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::pacing::Schedule;
pub(crate) use self::payload::at_once as payloads_at_once;
use self::payload::{Payload, PayloadError, Payloads};
use crate::brokers::{BrokerConfig, BrokerError, Message, Publisher};
use crate::clock::{Clock, Nanos};
use crate::item::{self, Body, GeneratorReport, Head, ItemHead};
use crate::plan::{Method, ObjectLifetime, Pacing, PayloadSource, Settings, Share, TrialPlan};

/// All that a generator needs to know, wherever it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GeneratorPlan {
    /// Where to publish.
    pub broker: BrokerConfig,
    /// The trial's topic.
    pub topic: String,
    /// Where to store items that travel by proxy; absent when they travel in full.
    pub store: Option<StorePlan>,
    /// Items of the stream.
    pub count: u64,
    /// Which of them to make.
    pub share: Share,
    /// Size of each, bytes.
    pub size: u64,
    /// When those of the stream are due.
    pub pacing: Pacing,
    /// How many of its own it may make before it is told of more, see [`Control::allowed`]; absent for all.
    pub allowance: Option<u64>,
    /// When the first one is; absent, or past, for as soon as this generator is ready.
    pub start: Option<Nanos>,
    /// Of what.
    pub payload: PayloadSource,
    /// Seed of random payloads.
    pub seed: u64,
    /// Whether to give each item a checksum.
    pub verify: bool,
}

impl GeneratorPlan {
    /// One generator's part of a trial. `keys`: where the names of its objects start.
    pub fn new(
        settings: &Settings,
        trial: &TrialPlan,
        share: Share,
        broker: BrokerConfig,
        topic: &str,
        keys: &KeySource,
    ) -> Self {
        let store = (trial.method == Method::Proxy).then(|| StorePlan {
            connector: if share.generator == 0 { settings.connector.clone() } else { settings.connector.apart() },
            keys: keys.start(),
            lifetime: settings.lifetime,
        });
        Self {
            broker,
            topic: topic.into(),
            store,
            count: settings.task_count,
            share,
            size: trial.data_size,
            pacing: trial.pacing(),
            allowance: None,
            start: None,
            payload: settings.payload.clone(),
            // Each repetition and each generator has payloads of its own; the methods have the same.
            seed: settings
                .seed
                .unwrap_or_else(rand::random)
                .wrapping_add(u64::from(share.generator) << 32)
                .wrapping_add(u64::from(trial.repeat)),
            verify: settings.verify,
        }
    }
}

/// Where a generator stores items.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StorePlan {
    /// The connector.
    pub connector: ConnectorSpec,
    /// Where the names of the objects start.
    pub keys: Uuid,
    /// How long the objects stay.
    pub lifetime: ObjectLifetime,
}

/// Why a generator ended ahead of its plan.
#[derive(Debug, thiserror::Error)]
enum GeneratorError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    #[error(transparent)]
    Proxy(#[from] BadProxy),
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error("cannot start the thread that watches over its store: {0}")]
    Thread(io::Error),
    #[error("an item of {0} bytes is more than this machine can address")]
    Size(u64),
}

/// Items that are stored and published together when all are due.
const BATCH_ITEMS: u64 = 64;
pub(crate) const BATCH_BYTES: u64 = 1 << 20;

/// The store of a generator, which has to outlive it: workers resolve from it, and it keeps leases.
pub type OpenStore = Arc<Store>;

/// Whether the generator is to end early.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// What a generator is told while it runs.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Whether it is to end early.
    pub stop: Stop<'a>,
    /// How many items it may have made by then: as soon as it is more than the number given, or after the time given. Of no account to
    /// plans without an [allowance](GeneratorPlan::allowance).
    pub allowed: &'a (dyn Fn(u64, Duration) -> u64 + Sync),
}

impl Control<'_> {
    /// Waits until a generator that has made so many items may make more, and returns how many; 0 when it is to end.
    fn room(&self, made: u64, allowance: Option<u64>) -> u64 {
        let Some(allowance) = allowance else { return u64::MAX };
        let mut allowed = allowance.max((self.allowed)(made, Duration::ZERO));
        while allowed <= made && !(self.stop)() {
            allowed = allowance.max((self.allowed)(made, LOOK));
        }
        allowed.saturating_sub(made)
    }
}

/// Between two looks at whether to end.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a plan to its end, or until `control` says so; the stream has its end then, whatever happened, if the broker is still there.
///
/// `opened` is given the store as soon as there is one.
pub fn generate(
    plan: &GeneratorPlan,
    clock: &dyn Clock,
    control: Control<'_>,
    opened: &dyn Fn(OpenStore, KeySource),
) -> GeneratorReport {
    let mut progress = GeneratorReport::default();
    if let Err(error) = run(plan, clock, control, opened, &mut progress) {
        progress.failure = Some(error.to_string());
    }
    progress
}

fn run(
    plan: &GeneratorPlan,
    clock: &dyn Clock,
    control: Control<'_>,
    opened: &dyn Fn(OpenStore, KeySource),
    progress: &mut GeneratorReport,
) -> Result<(), GeneratorError> {
    // A sleeping generator wakes when its item is due, not some 50 µs later.
    let _ = rustix::thread::set_current_timer_slack(Some(NonZero::<u64>::MIN));
    let mut publisher = plan.broker.publisher(&plan.topic)?;
    let made = publish_stream(plan, clock, control, opened, &mut *publisher, progress);
    progress.publisher = publisher.report();
    made
}

/// Publishes the items and, if the broker is still there, the stream's end.
fn publish_stream(
    plan: &GeneratorPlan,
    clock: &dyn Clock,
    control: Control<'_>,
    opened: &dyn Fn(OpenStore, KeySource),
    publisher: &mut dyn Publisher,
    progress: &mut GeneratorReport,
) -> Result<(), GeneratorError> {
    let made = make_items(plan, clock, control, opened, publisher, progress);
    if matches!(made, Err(GeneratorError::Broker(_))) {
        return made;
    }
    let head = Head::End { generator: plan.share.generator, generated: progress.generated };
    let end = Message { head: item::encode(&head), payload: Bytes::new() };
    made.and(persist(control, &mut || publisher.end(&end)).map_err(GeneratorError::from))
}

/// Publishes messages, if need be when a subscriber that was cut off has come back.
fn publish(publisher: &mut dyn Publisher, messages: &[Message], control: Control<'_>) -> Result<(), BrokerError> {
    let mut heard = 0;
    persist(control, &mut || match publisher.publish(&messages[heard..]) {
        Err(BrokerError::Unheard { broker, topic, heard: more }) => {
            heard += more;
            Err(BrokerError::Unheard { broker, topic, heard: more })
        }
        published => published,
    })
}

/// Does `publish` again as long as nobody hears it who may come back, and the generator is not to end.
fn persist(control: Control<'_>, publish: &mut dyn FnMut() -> Result<(), BrokerError>) -> Result<(), BrokerError> {
    /// Longer than a subscriber tries to, each try included: then it tells why.
    const PATIENCE: Duration = Duration::from_secs(60);
    let until = Instant::now() + PATIENCE;
    loop {
        match publish() {
            Err(BrokerError::Unheard { .. }) if !(control.stop)() && Instant::now() < until => {}
            published => return published,
        }
    }
}

fn make_items(
    plan: &GeneratorPlan,
    clock: &dyn Clock,
    control: Control<'_>,
    opened: &dyn Fn(OpenStore, KeySource),
    publisher: &mut dyn Publisher,
    progress: &mut GeneratorReport,
) -> Result<(), GeneratorError> {
    let size = usize::try_from(plan.size).map_err(|_| GeneratorError::Size(plan.size))?;
    let mut payloads = Payloads::new(plan, size)?;
    progress.payload = payloads.describe();
    let store = plan.store.as_ref().map(|store| open(store, plan.verify, opened)).transpose()?;
    watched(store.as_ref().map(|(store, _)| store), control.stop, || {
        publish_items(plan, clock, control, &mut payloads, store.as_ref(), publisher, progress)
    })
    .map_err(GeneratorError::Thread)?
}

/// Does `work`; ends its waiting for room in the store when `stop` says so.
fn watched<T>(store: Option<&OpenStore>, stop: Stop<'_>, work: impl FnOnce() -> T) -> io::Result<T> {
    /// Ends the watch, also when the work panics.
    struct Watch<'a>(&'a AtomicBool, Thread);
    impl Drop for Watch<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            self.1.unpark();
        }
    }
    let Some(store) = store else { return Ok(work()) };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = || {
            while !done.load(Ordering::Relaxed) {
                if stop() {
                    return store.connector().stop_waiting();
                }
                thread::park_timeout(LOOK);
            }
        };
        let watching = thread::Builder::new().name("psbench-store".into()).spawn_scoped(scope, watch)?;
        let _watch = Watch(&done, watching.thread().clone());
        Ok(work())
    })
}

fn publish_items(
    plan: &GeneratorPlan,
    clock: &dyn Clock,
    control: Control<'_>,
    payloads: &mut Payloads,
    store: Option<&(OpenStore, Lifetime)>,
    publisher: &mut dyn Publisher,
    progress: &mut GeneratorReport,
) -> Result<(), GeneratorError> {
    payloads.prepare()?;
    let most = (BATCH_BYTES / plan.size.max(1)).clamp(1, BATCH_ITEMS);
    let count = plan.share.of(plan.count);
    let mut schedule = Schedule::new(clock, plan.pacing, plan.share, plan.count, plan.start);
    progress.began = Some(schedule.start());
    loop {
        let room = if progress.generated < count { control.room(progress.generated, plan.allowance) } else { 0 };
        let due = schedule.due(most.min(room), control.stop);
        if due.is_empty() {
            return Ok(());
        }
        let mut heads = Vec::with_capacity(due.clone().count());
        let mut items = Vec::with_capacity(heads.capacity());
        for own in due.clone() {
            let sequence = plan.share.number(own);
            let payload = payloads.next()?;
            let body = Body::Full { size: plan.size, checksum: payload.checksum };
            let (scheduled, created) = (Some(schedule.scheduled(own)), Some(clock.now()));
            heads.push(ItemHead { sequence, scheduled, created, stored: None, published: None, body });
            items.push(payload);
        }
        // Made, whatever becomes of it from here on.
        progress.generated = due.end;
        let bodies = match store {
            None => items.into_iter().map(|payload| payload.bytes).collect(),
            Some((store, lifetime)) => {
                let proxies = stored(store, *lifetime, items, &mut heads, clock);
                progress.store = store.metrics();
                match proxies {
                    // These never left.
                    Err(GeneratorError::Connector(ConnectorError::Full { .. })) if (control.stop)() => {
                        progress.generated = due.start;
                        return Ok(());
                    }
                    proxies => proxies?,
                }
            }
        };
        let published = Some(clock.now());
        let messages: Vec<Message> = heads
            .into_iter()
            .zip(bodies)
            .map(|(head, payload)| Message { head: item::encode(&Head::Item(ItemHead { published, ..head })), payload })
            .collect();
        publish(publisher, &messages, control)?;
        drop(messages);
        if due.end < count {
            payloads.prepare()?;
        }
    }
}

fn open(
    plan: &StorePlan,
    verify: bool,
    opened: &dyn Fn(OpenStore, KeySource),
) -> Result<(OpenStore, Lifetime), GeneratorError> {
    let keys = KeySource::starting_at(plan.keys);
    let options = StoreOptions { checksum: verify, ..StoreOptions::default() };
    let store = Arc::new(Store::new(plan.connector.open(keys.clone())?, options));
    opened(Arc::clone(&store), keys);
    Ok((store, plan.lifetime.of_proxies()))
}

/// Stores items and returns their proxies, as they go on the wire.
fn stored(
    store: &Store,
    lifetime: Lifetime,
    items: Vec<Payload>,
    heads: &mut [ItemHead],
    clock: &dyn Clock,
) -> Result<Vec<Bytes>, GeneratorError> {
    let objects = items.into_iter().map(|payload| (payload.bytes, payload.checksum)).collect();
    let proxies = store.proxy_batch(objects, lifetime)?;
    let stored = clock.now();
    for head in heads {
        head.stored = Some(stored);
        head.body = Body::Proxy;
    }
    Ok(proxies.iter().map(|proxy| proxy.encode().map(Bytes::from)).collect::<Result<_, _>>()?)
}
