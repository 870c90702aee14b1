//! Results to test with.

use std::collections::BTreeMap;

use super::*;
use crate::environment::BrokerInfo;
use crate::plan::Method;
use psbench_connectors::StoreMetrics;

/// A sweep of the default options without trials yet.
pub(crate) fn empty() -> Results {
    let options = StreamScalingOptions::default().plan().unwrap().options;
    let mut environment = Environment::of_this_host();
    environment.broker = Some(BrokerInfo {
        name: "memory".into(),
        version: "0.1.0".into(),
        address: None,
        via: None,
        configuration: BTreeMap::from([("limit".into(), "64MiB".into())]),
    });
    Results::new(vec!["psbench".into(), "stream-scaling".into()], options, environment)
}

/// A complete, unpaced trial with four workers.
pub(crate) fn trial(method: Method, data_size_bytes: u64, items_per_s: f64) -> TrialRecord {
    let connector = (method == Method::Proxy).then(|| "peer".to_owned());
    let latency = Latency {
        count: 200,
        negative_count: 0,
        negative_max_ns: None,
        min_ns: 10_100_000,
        mean_ns: 12_000_000.0,
        stddev_ns: 1_000_000.0,
        p50_ns: 11_900_000,
        p90_ns: 13_000_000,
        p95_ns: 14_000_000,
        p99_ns: 15_000_000,
        p999_ns: 16_000_000,
        max_ns: 16_000_000,
        hdr_base64: "HISTFAAAAA==".into(),
        clock_error_ns: None,
        negative_hdr_base64: None,
    };
    TrialRecord {
        index: 0,
        repeat: 0,
        executor: "process".into(),
        submit: None,
        submit_batch: None,
        connector,
        stream: "memory".into(),
        stream_via: None,
        topic: "stream-benchmark-data-1".into(),
        data_size_bytes,
        task_count: 200,
        task_sleep: 0.01,
        method,
        path: None,
        workers: 4,
        generators: 1,
        max_inflight_items: Some(32),
        status: Status::Complete,
        problems: Vec::new(),
        start_submit_tasks_timestamp: 1_800_000_000.25,
        end_tasks_done_timestamp: 1_800_000_001.5,
        items: Balance { planned: 200, generated: 200, finished: 200, ..Balance::default() },
        rates: Some(Rates {
            items_per_s,
            goodput_bytes_per_s: Some(items_per_s * data_size_bytes as f64),
            scheduled_items_per_s: None,
            ideal_items_per_s: Some(300.0),
            efficiency: Some(items_per_s / 300.0),
        }),
        latency: BTreeMap::from([("end_to_end".into(), latency)]),
        jitter: Some(Jitter {
            jitter_rfc3550_ns: 1e5,
            jitter_interarrival_stddev_ns: 2e5,
            jitter_p95_p50_ns: 3e5,
            pdv_p99_ns: 4e5,
        }),
        dispatcher_bytes: DispatcherBytes { received: 200 * 150, sent: 200 * 170 },
        store: Some(StoreMetrics { puts: 200, gets: 200, evictions: 200, ..StoreMetrics::default() }),
        broker: None,
        processes: vec![ProcessUsage {
            role: "dispatcher".into(),
            label: "dispatcher (pid 1)".into(),
            pid: Some(1),
            tasks: 0,
            cpu_seconds: Some(0.25),
            peak_memory_bytes: Some(20_000_000),
            host: None,
            clock: None,
            end: None,
            sessions_of_others: None,
        }],
        cpu_seconds_per_gb: Some(1.25),
        payload: Some("fresh".into()),
    }
}

/// A complete trial of a path, in a round.
pub(crate) fn of_path(path: &str, data_size_bytes: u64, round: u32, items_per_s: f64) -> TrialRecord {
    let method = if path.starts_with("broker") { Method::Default } else { Method::Proxy };
    TrialRecord { path: Some(path.into()), repeat: round, ..trial(method, data_size_bytes, items_per_s) }
}
