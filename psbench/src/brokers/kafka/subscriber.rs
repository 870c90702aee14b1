//! The dispatcher's side: a thread that reads into a bounded queue, and one that looks how far behind it is.
//!
//! Partitions are assigned with their offsets, not subscribed to, so that no message is sent before its place is known and no other
//! member of a group takes a share.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::super::format::MessageReader;
use super::super::queue::Queue;
use super::super::{BrokerError, ClientStatistics, LagSample, Message, MessageFormat, Subscriber};
use super::KafkaSettings;
use super::cluster::Cluster;
use super::context::{Context, code_of, is_refusal};
use super::message::{Consumer, Received, poll};
use super::refusals::Step;
use super::resolve::create;
use crate::clock::{Clock, Nanos, SystemClock};

/// Receives from one topic.
pub(super) struct KafkaSubscriber {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the subscriber has in common with its threads.
struct Shared {
    cluster: Arc<Cluster>,
    topic: String,
    consumer: Arc<Consumer>,
    queue: Queue,
    /// Messages read from the broker.
    read: AtomicU64,
    lag: Mutex<Option<LagSample>>,
}

/// Time for every partition to be read for the first time.
const BEGIN_TIME: Duration = Duration::from_secs(15);

/// Between two looks whether the subscriber is still there.
const LOOK: Duration = Duration::from_millis(100);

/// Between two looks at the lag, at least.
const LAG_INTERVAL: Duration = Duration::from_millis(100);

/// How long the cluster lists a topic no more before it is taken for gone.
const GONE_TIME: Duration = Duration::from_secs(1);

/// Messages that are passed on together, and their bytes: enough to amortise the queue's lock.
const TOGETHER: usize = 256;
const TOGETHER_BYTES: usize = 1 << 20;

pub(super) fn subscribe(cluster: &Arc<Cluster>, topic: &str) -> Result<KafkaSubscriber, BrokerError> {
    let settings = &cluster.settings;
    let failed = |error| settings.failed("subscribe", error);
    let offsets = cluster.topic(topic)?;
    let consumer: BaseConsumer<Context> = create(settings.consumer(topic), &cluster.route).map_err(failed)?;
    let starts: Vec<i64> =
        offsets.iter().map(|(low, high)| if settings.begins_with_what_is_there() { *low } else { *high }).collect();
    let mut assignment = TopicPartitionList::new();
    for (partition, start) in (0..).zip(&starts) {
        assignment.add_partition_offset(topic, partition, Offset::Offset(*start)).map_err(failed)?;
    }
    consumer.assign(&assignment).map_err(failed)?;
    let shared = Arc::new(Shared {
        cluster: Arc::clone(cluster),
        topic: topic.into(),
        consumer: Consumer::new(consumer),
        queue: Queue::default(),
        read: AtomicU64::new(0),
        lag: Mutex::default(),
    });
    let mut reader = Reader::new(&shared, &starts);
    reader.begin()?;
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name.into()).spawn(work).map_err(|source| BrokerError::Io {
            broker: settings.label(),
            action: "start a receiving thread".into(),
            source,
        })
    };
    let watched = Arc::clone(&shared);
    let reading = start("kafka-receive", Box::new(move || reader.run()))?;
    let mut subscriber = KafkaSubscriber { shared, threads: vec![reading] };
    subscriber.threads.push(start("kafka-lag", Box::new(move || watched.watch(&starts)))?);
    Ok(subscriber)
}

impl Subscriber for KafkaSubscriber {
    fn receive(&mut self, messages: &mut Vec<Message>, wait: Duration) -> Result<(), BrokerError> {
        self.shared.queue.pop(messages, wait)
    }

    fn received_bytes(&self) -> Option<u64> {
        Some(self.shared.queue.received())
    }

    fn lag(&self) -> Option<LagSample> {
        *self.shared.lag()
    }

    fn may_come(&self, sent_by: Nanos) -> Option<bool> {
        let read = |lag: LagSample| lag.at > sent_by && lag.published <= lag.taken;
        Some(self.shared.queue.len() > 0 || !self.lag().is_some_and(read))
    }

    fn statistics(&self) -> Option<ClientStatistics> {
        self.shared.consumer.get().and_then(|consumer| consumer.context().statistics())
    }
}

impl Drop for KafkaSubscriber {
    fn drop(&mut self) {
        self.shared.queue.abandon();
        self.threads.iter().map(JoinHandle::thread).for_each(Thread::unpark);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn settings(&self) -> &KafkaSettings {
        &self.cluster.settings
    }

    fn lag(&self) -> MutexGuard<'_, Option<LagSample>> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the lag until the subscriber is gone; ends it when the topic, or the cluster for too long, is gone.
    fn watch(&self, starts: &[i64]) {
        let (mut answered, mut missed) = (Instant::now(), None);
        while !self.queue.is_abandoned() {
            let asked = Instant::now();
            // Not those that were there before.
            let published = (0..).zip(starts).try_fold(0, |sum: u64, (partition, start)| {
                let (_, next) = self.cluster.watermarks(&self.topic, partition)?;
                Ok::<_, KafkaError>(sum + u64::try_from(next - start).unwrap_or(0))
            });
            match published {
                Ok(published) => {
                    (answered, missed) = (Instant::now(), None);
                    let taken = self.read.load(Ordering::Relaxed).saturating_sub(self.queue.len() as u64);
                    *self.lag() = Some(LagSample { at: SystemClock.now(), published, taken });
                }
                Err(error) if is_said_gone(&error) && self.cluster.lists(&self.topic) == Ok(false) => {
                    if missed.get_or_insert(asked).elapsed() >= GONE_TIME {
                        return self.queue.end(self.gone(error));
                    }
                }
                Err(error) if answered.elapsed() > self.settings().outage() => {
                    let action = format!("the cluster has not answered for {:.0?}", answered.elapsed());
                    return self.queue.end(self.settings().failed(&action, error));
                }
                Err(_) => {}
            }
            // Many partitions take their time, and are not to be kept busy by this.
            thread::park_timeout(LAG_INTERVAL.max(asked.elapsed() * 10));
        }
    }

    fn refused(&self, action: &str, error: KafkaError) -> BrokerError {
        self.settings().failed_at(Step::Read, action, &self.topic, error)
    }

    fn gone(&self, error: KafkaError) -> BrokerError {
        self.settings().failed(&format!("topic {} is gone", self.topic), error)
    }
}

/// Whether it says that the topic is no more. So does a broker that goes down in order, of topics that will be there again.
fn is_said_gone(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code_of(error),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId)
    )
}

/// Reads all partitions of a topic.
struct Reader {
    shared: Arc<Shared>,
    format: MessageReader,
    /// The offset that comes next in each partition.
    next: Vec<i64>,
    /// Ends of streams that did not come from every partition yet: by their bytes, from which they came.
    ends: HashMap<Bytes, BTreeSet<i32>>,
    /// The stream's end in another program's form, held back until every partition was read up to these offsets.
    held: Option<(Message, Vec<i64>)>,
    messages: VecDeque<Message>,
}

impl Reader {
    fn new(shared: &Arc<Shared>, starts: &[i64]) -> Self {
        Self {
            shared: Arc::clone(shared),
            format: MessageReader::new(shared.settings().format),
            next: starts.to_vec(),
            ends: HashMap::new(),
            held: None,
            messages: VecDeque::new(),
        }
    }

    /// Waits until each partition was read up to its end: from then on whatever comes is seen at once.
    fn begin(&mut self) -> Result<(), BrokerError> {
        let until = Instant::now() + BEGIN_TIME;
        let mut waiting: BTreeSet<i32> = (0..).take(self.next.len()).collect();
        while !waiting.is_empty() {
            match poll(&self.shared.consumer, LOOK) {
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    waiting.remove(&partition);
                }
                // One that holds messages can be read.
                Some(Ok(received)) => {
                    waiting.remove(&received.partition);
                    self.take(received)?;
                }
                Some(Err(error)) if is_final(&error) => return Err(self.shared.refused("subscribe", error)),
                Some(Err(_)) | None => {}
            }
            if Instant::now() >= until {
                let trouble = self.shared.consumer.get().and_then(|consumer| consumer.context().trouble());
                let trouble = trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
                let action = format!("subscribe: {} partitions could not be read{trouble}", waiting.len());
                return Err(self.shared.settings().failed(&action, KafkaError::NoMessageReceived));
            }
        }
        Ok(())
    }

    fn run(mut self) {
        loop {
            if self.shared.queue.push(&mut self.messages, || true).is_err() {
                return;
            }
            let read = self.read_some();
            // What came ahead of a failure came whole.
            if self.shared.queue.push(&mut self.messages, || true).is_err() {
                return;
            }
            if let Err(reason) = read {
                return self.shared.queue.end(reason);
            }
        }
    }

    /// Reads what has come, waiting for the first message for a moment.
    fn read_some(&mut self) -> Result<(), BrokerError> {
        let (mut wait, mut count, mut bytes) = (LOOK, 0, 0);
        while count < TOGETHER && bytes < TOGETHER_BYTES {
            match poll(&self.shared.consumer, wait) {
                Some(Ok(received)) => {
                    count += 1;
                    bytes += received.value.as_ref().map_or(0, Bytes::len);
                    self.take(received)?;
                }
                Some(Err(error)) if is_final(&error) => return Err(self.shared.refused("receive", error)),
                // librdkafka goes on trying; for how long, and whether the topic is still there, the other thread knows.
                Some(Err(_)) => {}
                None => break,
            }
            wait = Duration::ZERO;
        }
        self.release();
        Ok(())
    }

    fn take(&mut self, received: Received) -> Result<(), BrokerError> {
        let Received { partition, offset, key, value } = received;
        let shared = &self.shared;
        shared.read.fetch_add(1, Ordering::Relaxed);
        shared.queue.count((key.len() + value.as_ref().map_or(0, Bytes::len)) as u64);
        let protocol = |reason| BrokerError::Protocol { broker: shared.settings().label(), reason };
        let next = usize::try_from(partition).ok().and_then(|partition| self.next.get_mut(partition));
        let next = next.ok_or_else(|| protocol(format!("a message of partition {partition}, which was not there")))?;
        // In psbench's own topics nothing but messages takes offsets.
        let skipped = offset - std::mem::replace(next, offset + 1);
        if shared.settings().format == MessageFormat::ProxyStore {
            self.format.read(value.unwrap_or_default(), &mut self.messages).map_err(protocol)?;
            self.hold_back_end();
            return Ok(());
        }
        if skipped != 0 {
            let reason = format!("{skipped} messages of partition {partition} before offset {offset} are missing");
            return Err(protocol(reason + "; does the broker delete them (--stream-retention)?"));
        }
        match value {
            Some(payload) => self.messages.push_back(Message { head: key, payload }),
            // A publisher's greeting.
            None if key.is_empty() => {}
            None => {
                let from = self.ends.entry(key.clone()).or_default();
                from.insert(partition);
                if from.len() == self.next.len() {
                    self.ends.remove(&key);
                    self.messages.push_back(Message { head: key, payload: Bytes::new() });
                }
            }
        }
        Ok(())
    }

    /// Keeps the end of another program's stream, which came from one partition, while others may have messages of it.
    fn hold_back_end(&mut self) {
        if !self.format.has_ended() || self.held.is_some() || self.next.len() == 1 {
            return;
        }
        let offsets = self.shared.cluster.offsets(&self.shared.topic);
        if let (Ok(offsets), Some(end)) = (offsets, self.messages.pop_back()) {
            self.held = Some((end, offsets.into_iter().map(|(_, next)| next).collect()));
        }
    }

    /// Passes the end of another program's stream on, once all that was ahead of it has come.
    fn release(&mut self) {
        let is_read = |upto: &[i64]| self.next.iter().zip(upto).all(|(next, upto)| next >= upto);
        if self.held.as_ref().is_some_and(|(_, upto)| is_read(upto)) {
            self.messages.extend(self.held.take().map(|(end, _)| end));
        }
    }
}

/// Whether waiting does not help.
fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = code_of(error);
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || code.is_some_and(is_refusal)
        || matches!(code, Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::MessageSizeTooLarge))
}
