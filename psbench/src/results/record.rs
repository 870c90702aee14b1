//! What is written of a trial: the types of `results.json`, whose schema is made from them.
//!
//! Times are nanoseconds and sizes bytes unless a name says otherwise. What was not measured is absent, never 0.

use std::collections::BTreeMap;

use psbench_connectors::StoreMetrics;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::brokers::ClientStatistics;
use crate::plan::{Method, SubmitMode};

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every planned item finished.
    Complete,
    /// It ran to an end, with items lost or failed.
    Incomplete,
    /// The user ended it; what was generated until then was finished.
    Interrupted,
    /// It could not run, or could not go on.
    Failed,
}

/// One trial.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialRecord {
    /// Position in the order of running, from 0.
    pub index: usize,
    /// Which repetition of its point of the matrix, from 0.
    pub repeat: u32,
    /// The executor.
    pub executor: String,
    /// What travelled through the executor's engine; absent where it has none.
    pub submit: Option<SubmitMode>,
    /// Items that were one task of the engine, at most; absent where there is none.
    pub submit_batch: Option<u32>,
    /// The connector; absent under the default method, which uses none.
    pub connector: Option<String>,
    /// The broker.
    pub stream: String,
    /// `scistream` where the dispatcher reached the broker through its gateways; absent where it did so directly, as generators do.
    pub stream_via: Option<String>,
    /// The trial's own topic; of an external generator, that of the options.
    pub topic: String,
    /// Item size, bytes; of an external generator, the mean of the items that finished.
    pub data_size_bytes: u64,
    /// Items planned; of an external generator, the most that are taken.
    pub task_count: u64,
    /// Time of a task, seconds.
    pub task_sleep: f64,
    /// The stream method; of an external generator, what the options expect.
    pub method: Method,
    /// The path that was measured, as `psbench compare-paths` has them; absent where none are compared.
    pub path: Option<String>,
    /// Workers, the generators included.
    pub workers: u32,
    /// Workers that generate; the others compute. 1 where another program generates: that worker is idle.
    pub generators: u32,
    /// The most items that were let be under way at a time, made and not yet done with: latencies are those of a queue of that length.
    /// Absent where items were due one by one, and where another program generates.
    pub max_inflight_items: Option<u64>,
    /// How it ended.
    pub status: Status,
    /// What went wrong, each with its remedy; the first is the cause.
    pub problems: Vec<String>,
    /// Seconds since the Unix epoch when the first item was due, or where its generator did not tell, when it came; of the trial's start when none was recorded.
    pub start_submit_tasks_timestamp: f64,
    /// Seconds since the Unix epoch when the last task had ended.
    pub end_tasks_done_timestamp: f64,
    /// Where the items went.
    pub items: Balance,
    /// How fast they went; absent when nothing finished.
    pub rates: Option<Rates>,
    /// Time between stages, by name; each absent when no item passed both stages.
    pub latency: BTreeMap<String, Latency>,
    /// Unevenness of arrival at the workers; absent below two items.
    pub jitter: Option<Jitter>,
    /// Bytes that passed through the dispatcher: messages received and tasks sent, without transport framing.
    pub dispatcher_bytes: DispatcherBytes,
    /// What the generators' stores and the workers' resolves came to, added up over those that told; absent under the default
    /// method.
    pub store: Option<StoreMetrics>,
    /// What the broker and its clients told; absent where they tell nothing.
    pub broker: Option<BrokerUse>,
    /// CPU and memory of each process that took part.
    pub processes: Vec<ProcessUsage>,
    /// CPU seconds of all processes per 10⁹ payload bytes that reached a worker; absent when none did.
    pub cpu_seconds_per_gb: Option<f64>,
    /// How payloads were made: `fresh`, `pregenerated (N variants)` or `file`; absent when no generator told.
    pub payload: Option<String>,
}

impl TrialRecord {
    /// What people know it by: its path, or its method where no paths are compared.
    pub fn way(&self) -> &str {
        self.path.as_deref().unwrap_or(self.method.name())
    }

    /// The time from when an item was due to the end of its task; absent when no item finished.
    pub fn end_to_end(&self) -> Option<&Latency> {
        self.latency.get("end_to_end")
    }
}

/// Where the items of a trial went. `generated = finished + failed + lost`, or the trial is in error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Balance {
    /// Items the generators were asked for; of an external one, those it made until its end.
    pub planned: u64,
    /// Items they made; of a generator that was lost or is external, those that came and those of its missing between them.
    pub generated: u64,
    /// Items whose task ended well.
    pub finished: u64,
    /// Items whose task ended in an error (`corrupt` included), or with its worker.
    pub failed: u64,
    /// Items that were made and never came to the dispatcher.
    pub lost: u64,
    /// Messages of which the broker did not tell the generator that it has them: their items are lost, where they did not come all the
    /// same. 0 for brokers that tell at once.
    pub unacknowledged: u64,
    /// Further receptions of an item that had come before.
    pub duplicated: u64,
    /// Items received after one that their generator made later and sent to the same partition of the broker.
    pub reordered: u64,
    /// Items that failed for their length or checksum.
    pub corrupt: u64,
    /// Items that finished past their deadline.
    pub late: u64,
    /// Stored objects that no worker evicted, which were deleted after the trial; under other lifetimes than `owned`, those that no
    /// worker resolved. Those of an external generator are its own, and not counted.
    pub orphaned: u64,
}

/// What a broker and its clients told of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerUse {
    /// The generators' clients, in the order of the generators; a round trip is of one request to publish.
    pub publishers: Vec<ClientStatistics>,
    /// The dispatcher's client; its round trips include the broker's waiting for messages to come.
    pub subscriber: Option<ClientStatistics>,
    /// How far the workers were behind; absent where nobody looked.
    pub lag: Option<Lag>,
}

/// Messages that had been published and that no worker had been given, at the broker or at the dispatcher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lag {
    /// The most.
    pub max_messages: u64,
    /// Growth while messages were published, messages per second: the median of the slopes between all looks (Sen 1968); absent below
    /// five looks.
    pub growth_per_s: Option<f64>,
    /// Whether the workers kept up: it did not grow by more than a hundredth of the rate of publishing, or not significantly (Mann and
    /// Kendall's test for a trend, 5 %). Absent below five looks.
    pub sustained: Option<bool>,
    /// Over time; of long trials some looks are left out.
    pub samples: Vec<LagPoint>,
}

/// One look at the lag.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LagPoint {
    /// When: seconds after the instant from which rates count.
    pub at_s: f64,
    /// How many messages waited.
    pub messages: u64,
}

/// Rates of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Finished items per second, from the instant the first one was due to the last outcome at the dispatcher.
    pub items_per_s: f64,
    /// `n·size / (t_stop − t_first)`, bytes per second: from the instant the first item was made to the last item's arrival at a worker
    /// (“Evaluating SciStream on FABRIC”, 2022). Absent below two items.
    pub goodput_bytes_per_s: Option<f64>,
    /// The rate at which items were due, per second; absent when they were due at once.
    pub scheduled_items_per_s: Option<f64>,
    /// `compute workers / task time`, items per second; absent for a task time of 0.
    pub ideal_items_per_s: Option<f64>,
    /// `items_per_s / ideal_items_per_s`.
    pub efficiency: Option<f64>,
}

/// A distribution of times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Times of zero or more.
    pub count: u64,
    /// Times below zero: the clocks of the two stages disagree. Not in the other figures.
    pub negative_count: u64,
    /// The largest amount below zero; absent when there is none.
    pub negative_max_ns: Option<u64>,
    /// Smallest, ns.
    pub min_ns: u64,
    /// Arithmetic mean, ns.
    pub mean_ns: f64,
    /// Standard deviation, ns.
    pub stddev_ns: f64,
    /// Median, ns.
    pub p50_ns: u64,
    /// 90th percentile, ns.
    pub p90_ns: u64,
    /// 95th percentile, ns.
    pub p95_ns: u64,
    /// 99th percentile, ns.
    pub p99_ns: u64,
    /// 99.9th percentile, ns.
    pub p999_ns: u64,
    /// Largest, ns.
    pub max_ns: u64,
    /// By how much each of these times may be off, since its two stages are stamped by clocks of different hosts, ns; absent where they are
    /// stamped by one. The largest over all workers and generators, see [`Clocks`].
    pub clock_error_ns: Option<u64>,
    /// The whole HDR histogram (three significant digits, V2 deflate-free serialisation, base64), to be merged with others.
    pub hdr_base64: String,
    /// The histogram of the amounts below zero, likewise; absent when there are none.
    pub negative_hdr_base64: Option<String>,
}

/// Unevenness of arrival, ns. Transit time is from the instant the generator had an item to its arrival at a worker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jitter {
    /// Smoothed variation of transit time at the last item (RFC 3550 §6.4.1).
    pub jitter_rfc3550_ns: f64,
    /// Standard deviation of the time between arrivals (“Evaluating SciStream on FABRIC”, 2022).
    pub jitter_interarrival_stddev_ns: f64,
    /// 95th minus 50th percentile of transit time (OWAMP).
    pub jitter_p95_p50_ns: f64,
    /// 99th percentile of packet delay variation: transit time above the smallest (RFC 5481 §4.2).
    pub pdv_p99_ns: f64,
}

/// What went through the dispatcher, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DispatcherBytes {
    /// From the broker: messages in the form in which it carries them, without its protocol's framing.
    pub received: u64,
    /// To the executor: tasks with their items, without framing.
    pub sent: u64,
}

/// What one process used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessUsage {
    /// `dispatcher` (with all threads of a `thread` executor), `generator`, `worker`, `engine` (a process of the engine's own, which
    /// may hold workers), or `gateway`: a control server of SciStream, with the programs that forward for it.
    pub role: String,
    /// For people: for example `worker 2 (pid 4711)`.
    pub label: String,
    /// Its number in the system; absent where it has none here.
    pub pid: Option<u32>,
    /// Tasks it ran, those of generators not counted.
    pub tasks: u64,
    /// User and system time in the trial, seconds; absent when it ended without telling.
    pub cpu_seconds: Option<f64>,
    /// Largest resident memory in the trial, bytes; of an `engine`'s processes, since they began, as they outlast trials; of a `gateway`, since
    /// a trial last began there, whoever's. Absent when it ended without telling.
    pub peak_memory_bytes: Option<u64>,
    /// Its host, where that is another than the dispatcher's.
    pub host: Option<String>,
    /// How its clock compares with the dispatcher's; absent where it is the same. Its times are told by the dispatcher's, so that each
    /// may be off by the error.
    pub clock: Option<Clocks>,
    /// How it ended, when that was before the trial's end.
    pub end: Option<String>,
    /// Of a `gateway`: sessions that it had beside the trial's, at its beginning or its end, whichever was more. What it used counts them,
    /// too. Absent for others.
    pub sessions_of_others: Option<u64>,
}

/// How the clock of a worker's host compares with the dispatcher's, by what had to happen before and after each of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clocks {
    /// How far it is ahead, ns; below zero where it is behind.
    pub ahead_ns: i64,
    /// That is off by at most this, ns; drift in the course of the trial left out.
    pub error_ns: u64,
}
