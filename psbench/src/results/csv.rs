//! `results.csv`: a row for each trial.

use serde::Serialize;

use super::{Latency, Rates, Status, TrialRecord};
use crate::plan::{Method, SubmitMode};

/// The columns: those of ProxyStore's psbench first, under their names and in their order. What was not measured is an empty cell.
#[derive(Serialize)]
struct Row<'a> {
    executor: &'a str,
    connector: Option<&'a str>,
    stream: &'a str,
    data_size_bytes: u64,
    task_count: u64,
    task_sleep: f64,
    method: Method,
    workers: u32,
    completed_tasks: u64,
    start_submit_tasks_timestamp: f64,
    end_tasks_done_timestamp: f64,
    index: usize,
    repeat: u32,
    status: Status,
    generated: u64,
    failed: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    corrupt: u64,
    late: u64,
    orphaned: u64,
    items_per_s: Option<f64>,
    scheduled_items_per_s: Option<f64>,
    efficiency: Option<f64>,
    goodput_bytes_per_s: Option<f64>,
    end_to_end_p50_ns: Option<u64>,
    end_to_end_p99_ns: Option<u64>,
    end_to_end_max_ns: Option<u64>,
    jitter_rfc3550_ns: Option<f64>,
    jitter_interarrival_stddev_ns: Option<f64>,
    jitter_p95_p50_ns: Option<f64>,
    pdv_p99_ns: Option<f64>,
    dispatcher_bytes_received: u64,
    dispatcher_bytes_sent: u64,
    cpu_seconds: Option<f64>,
    cpu_seconds_per_gb: Option<f64>,
    dispatcher_peak_memory_bytes: Option<u64>,
    payload: Option<&'a str>,
    problem: Option<&'a str>,
    generators: u32,
    unacknowledged: u64,
    lag_max_messages: Option<u64>,
    lag_growth_per_s: Option<f64>,
    sustained: Option<bool>,
    submit: Option<SubmitMode>,
    submit_batch: Option<u32>,
    path: Option<&'a str>,
    end_to_end_p95_ns: Option<u64>,
    max_inflight_items: Option<u64>,
}

impl<'a> From<&'a TrialRecord> for Row<'a> {
    fn from(trial: &'a TrialRecord) -> Self {
        let rates = trial.rates.as_ref();
        let rate = |figure: fn(&Rates) -> Option<f64>| rates.and_then(figure);
        let end_to_end = trial.end_to_end();
        let latency = |figure: fn(&Latency) -> u64| end_to_end.map(figure);
        let jitter = trial.jitter.as_ref();
        let lag = trial.broker.as_ref().and_then(|broker| broker.lag.as_ref());
        let dispatcher = trial.processes.iter().find(|process| process.role == "dispatcher");
        Self {
            executor: &trial.executor,
            connector: trial.connector.as_deref(),
            stream: &trial.stream,
            data_size_bytes: trial.data_size_bytes,
            task_count: trial.task_count,
            task_sleep: trial.task_sleep,
            method: trial.method,
            workers: trial.workers,
            completed_tasks: trial.items.finished,
            start_submit_tasks_timestamp: trial.start_submit_tasks_timestamp,
            end_tasks_done_timestamp: trial.end_tasks_done_timestamp,
            index: trial.index,
            repeat: trial.repeat,
            status: trial.status,
            generated: trial.items.generated,
            failed: trial.items.failed,
            lost: trial.items.lost,
            duplicated: trial.items.duplicated,
            reordered: trial.items.reordered,
            corrupt: trial.items.corrupt,
            late: trial.items.late,
            orphaned: trial.items.orphaned,
            items_per_s: rate(|rates| Some(rates.items_per_s)),
            scheduled_items_per_s: rate(|rates| rates.scheduled_items_per_s),
            efficiency: rate(|rates| rates.efficiency),
            goodput_bytes_per_s: rate(|rates| rates.goodput_bytes_per_s),
            end_to_end_p50_ns: latency(|latency| latency.p50_ns),
            end_to_end_p99_ns: latency(|latency| latency.p99_ns),
            end_to_end_max_ns: latency(|latency| latency.max_ns),
            jitter_rfc3550_ns: jitter.map(|jitter| jitter.jitter_rfc3550_ns),
            jitter_interarrival_stddev_ns: jitter.map(|jitter| jitter.jitter_interarrival_stddev_ns),
            jitter_p95_p50_ns: jitter.map(|jitter| jitter.jitter_p95_p50_ns),
            pdv_p99_ns: jitter.map(|jitter| jitter.pdv_p99_ns),
            dispatcher_bytes_received: trial.dispatcher_bytes.received,
            dispatcher_bytes_sent: trial.dispatcher_bytes.sent,
            // A sum without one of its parts would be too small; `Option`'s sum is absent then.
            cpu_seconds: (!trial.processes.is_empty())
                .then(|| trial.processes.iter().map(|process| process.cpu_seconds).sum())
                .flatten(),
            cpu_seconds_per_gb: trial.cpu_seconds_per_gb,
            dispatcher_peak_memory_bytes: dispatcher.and_then(|process| process.peak_memory_bytes),
            payload: trial.payload.as_deref(),
            problem: trial.problems.first().map(String::as_str),
            generators: trial.generators,
            unacknowledged: trial.items.unacknowledged,
            lag_max_messages: lag.map(|lag| lag.max_messages),
            lag_growth_per_s: lag.and_then(|lag| lag.growth_per_s),
            sustained: lag.and_then(|lag| lag.sustained),
            submit: trial.submit,
            submit_batch: trial.submit_batch,
            path: trial.path.as_deref(),
            end_to_end_p95_ns: latency(|latency| latency.p95_ns),
            max_inflight_items: trial.max_inflight_items,
        }
    }
}

/// The whole table, header included.
pub(super) fn write(trials: &[TrialRecord], to: impl std::io::Write) -> csv::Result<()> {
    let mut table = csv::Writer::from_writer(to);
    for trial in trials {
        table.serialize(Row::from(trial))?;
    }
    table.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::sample;

    #[test]
    fn the_old_columns_come_first() {
        let mut unmeasured = sample::trial(Method::Default, 1_000_000, 10.0);
        unmeasured.rates = None;
        unmeasured.connector = None;
        let mut bytes = Vec::new();
        write(&[sample::trial(Method::Proxy, 100_000, 250.5), unmeasured], &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[0].starts_with(
            "executor,connector,stream,data_size_bytes,task_count,task_sleep,method,workers,completed_tasks,\
             start_submit_tasks_timestamp,end_tasks_done_timestamp,"
        ));
        assert!(rows[1].starts_with("process,peer,memory,100000,200,0.01,proxy,4,200,"), "{}", rows[1]);
        assert!(rows[2].starts_with("process,,memory,1000000,200,0.01,default,4,200,"), "{}", rows[2]);
        let column = rows[0].split(',').position(|name| name == "items_per_s").unwrap();
        assert_eq!(rows[1].split(',').nth(column), Some("250.5"));
        assert_eq!(rows[2].split(',').nth(column), Some(""));
    }
}
