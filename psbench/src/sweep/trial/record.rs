//! The record of a trial: its figures, and what went wrong in words.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use psbench_executors::{WorkerEnd, WorkerReport};

use super::super::generators::store_metrics;
use super::{Bench, Run, StartError};
use crate::brokers::ClientStatistics;
use crate::clock::{Nanos, unix_seconds};
use crate::dispatcher::Finished;
use crate::item::{self, GeneratorReport};
use crate::logging;
use crate::plan::{Method, Pacing, TrialPlan};
use crate::recorder::{ClockErrors, Recorder};
use crate::results::record::{Balance, BrokerUse, Clocks, DispatcherBytes, Lag, ProcessUsage, Status, TrialRecord};
use crate::trace::TraceFile;
use crate::worker::{Usage, WorkerFinish, chain};

impl Bench<'_> {
    pub(super) fn not_started(&self, trial: &TrialPlan, topic: String, error: &StartError) -> TrialRecord {
        let now = unix_seconds(self.clock.now());
        TrialRecord {
            status: Status::Failed,
            problems: vec![chain(error)],
            items: Balance { planned: self.settings.task_count, ..Balance::default() },
            ..self.blank(trial, topic, now)
        }
    }

    /// A record of what was planned.
    fn blank(&self, trial: &TrialPlan, topic: String, start: f64) -> TrialRecord {
        let settings = self.settings;
        TrialRecord {
            index: trial.index,
            repeat: trial.repeat,
            executor: settings.executor.name().into(),
            submit: settings.engine.as_ref().map(|engine| engine.submit),
            submit_batch: settings.engine.as_ref().map(|engine| engine.batch),
            connector: (trial.method == Method::Proxy).then(|| settings.connector.name().into()),
            stream: settings.broker.name().into(),
            stream_via: settings.broker.via().map(str::to_owned),
            topic,
            data_size_bytes: trial.data_size,
            task_count: settings.task_count,
            task_sleep: settings.task_sleep.as_secs_f64(),
            method: trial.method,
            path: trial.path.clone(),
            workers: trial.workers,
            generators: settings.generators,
            max_inflight_items: trial.inflight_items(),
            status: Status::Complete,
            problems: Vec::new(),
            start_submit_tasks_timestamp: start,
            end_tasks_done_timestamp: start,
            items: Balance::default(),
            rates: None,
            latency: BTreeMap::new(),
            jitter: None,
            dispatcher_bytes: Default::default(),
            store: None,
            broker: None,
            processes: Vec::new(),
            cpu_seconds_per_gb: None,
            payload: None,
        }
    }
}

impl Run<'_> {
    pub(super) fn record(mut self, finished: Finished, orphaned: u64, told: Told<'_>, before: Usage) -> TrialRecord {
        let Told { generators, workers: reports, subscriber, received } = told;
        let generated = finished.all_generated();
        let Finished { ended, bytes, mut recorder, generated: generated_each } = finished;
        recorder.end_trace();
        if let Some(Err(error)) = self.trace.take().map(TraceFile::finish) {
            self.problems.push(error.to_string());
        }
        let (settings, trial) = (self.bench.settings, self.trial);
        let planned = if settings.is_external() && ended { generated } else { settings.task_count };
        let unacknowledged = generators.iter().map(|report| report.publisher.unacknowledged).sum();
        let items = Balance { unacknowledged, ..recorder.balance(planned, generated, orphaned) };
        // Not from the generators' start: making payloads beforehand is no part of the stream.
        let start = recorder.first_due().unwrap_or(self.start);
        let end = recorder.last_recorded().unwrap_or_else(|| self.bench.clock.now());
        let scheduled = match trial.pacing() {
            Pacing::Interval(interval) if !settings.is_external() => Some(1.0 / interval.as_secs_f64()),
            _ => None,
        };
        let size = recorder.mean_size().filter(|_| settings.is_external()).unwrap_or(trial.data_size);
        let ideal = (!settings.task_sleep.is_zero())
            .then(|| f64::from(trial.compute_workers()) / settings.task_sleep.as_secs_f64());
        let mut processes = self.processes(&recorder, reports, before);
        processes.extend(self.bench.gateways.end(std::mem::take(&mut self.gateways)));
        let broker = self.broker_use(generators, subscriber, start);
        self.problems.extend(reports.iter().filter_map(|report| match &report.worker.end {
            Some(WorkerEnd::Lost(end)) => Some(format!("{} was lost ({end})", report.worker.label)),
            Some(WorkerEnd::Retired(_)) | None => None,
        }));
        self.problems.extend(item_problems(&items, recorder.failures(), || recorder.missing(&generated_each)));
        self.problems.extend(broker.as_ref().and_then(|broker| lag_problem(broker.lag.as_ref()?)));
        self.problems.extend(method_problem(trial.method, recorder.finished(), recorder.resolved()));
        let cpu: Option<f64> = processes.iter().map(|process| process.cpu_seconds).sum();
        let gigabytes = recorder.payload_bytes() as f64 / 1e9;
        tracing::info!(target: logging::TEST, ?items, "balance of items");
        TrialRecord {
            data_size_bytes: size,
            status: self.status(&items, recorder.arrived()),
            problems: self.problems,
            end_tasks_done_timestamp: unix_seconds(end),
            items,
            rates: recorder.rates(start, end, scheduled, ideal),
            latency: recorder.latency(clock_errors(reports)),
            jitter: recorder.jitter(),
            dispatcher_bytes: DispatcherBytes { received: received.unwrap_or(bytes.received), ..bytes },
            broker,
            cpu_seconds_per_gb: cpu.filter(|_| gigabytes > 0.0).map(|cpu| cpu / gigabytes),
            processes,
            store: (trial.method == Method::Proxy).then(|| store_metrics(generators, reports)),
            payload: generators.first().map(|report| report.payload.clone()),
            ..self.bench.blank(trial, self.topic, unix_seconds(start))
        }
    }

    /// What the broker and its clients told, where they tell.
    fn broker_use(
        &self,
        generators: &[GeneratorReport],
        subscriber: Option<ClientStatistics>,
        start: Nanos,
    ) -> Option<BrokerUse> {
        let publishers: Vec<_> = generators.iter().filter_map(|report| report.publisher.client).collect();
        let lag = self.backlog.summary(start);
        let told = !publishers.is_empty() || subscriber.is_some() || lag.is_some();
        told.then_some(BrokerUse { publishers, subscriber, lag })
    }

    fn status(&self, items: &Balance, arrived: u64) -> Status {
        if arrived != items.finished + items.failed || items.generated != arrived + items.lost {
            tracing::error!(?items, "the balance of items does not hold");
            Status::Failed
        } else if items.finished == items.planned {
            Status::Complete
        } else if self.bench.interrupted.load(Ordering::Relaxed) {
            Status::Interrupted
        } else if items.finished == 0 {
            Status::Failed
        } else {
            Status::Incomplete
        }
    }

    /// What the dispatcher's and the workers' processes used.
    fn processes(&self, recorder: &Recorder, reports: &[WorkerReport], before: Usage) -> Vec<ProcessUsage> {
        let usage = Usage::of_this_process().since(before);
        let here = std::process::id();
        let dispatcher = ProcessUsage {
            role: "dispatcher".into(),
            label: format!("psbench (pid {here})"),
            pid: Some(here),
            tasks: reports.iter().filter(|report| report.worker.pid.is_none()).map(|_| recorder.done()).sum(),
            cpu_seconds: Some(usage.cpu.as_secs_f64()),
            peak_memory_bytes: usage.peak_memory,
            host: None,
            clock: None,
            end: None,
            sessions_of_others: None,
        };
        let workers = reports.iter().filter(|report| report.worker.pid.is_some()).map(|report| {
            let finish = finish(report);
            ProcessUsage {
                role: if finish.as_ref().is_some_and(|finish| finish.generators > 0) { "generator" } else { "worker" }
                    .into(),
                label: report.worker.label.clone(),
                pid: report.worker.pid,
                tasks: recorder.tasks(report.worker.id),
                cpu_seconds: finish.as_ref().map(|finish| finish.usage.cpu.as_secs_f64()),
                peak_memory_bytes: finish.and_then(|finish| finish.usage.peak_memory),
                host: report.worker.host.clone(),
                clock: report.worker.clock.map(|clock| Clocks { ahead_ns: clock.ahead_ns, error_ns: clock.error_ns }),
                end: report.worker.end.as_ref().map(ToString::to_string),
                sessions_of_others: None,
            }
        });
        let overhead = self.executor.overhead();
        let engine = overhead.into_iter().map(|process| ProcessUsage {
            role: "engine".into(),
            label: process.label,
            pid: Some(process.pid),
            tasks: 0,
            cpu_seconds: process.cpu.map(|cpu| cpu.as_secs_f64()),
            peak_memory_bytes: process.peak_memory,
            host: process.host,
            clock: None,
            end: None,
            sessions_of_others: None,
        });
        std::iter::once(dispatcher).chain(workers).chain(engine).collect()
    }
}

/// What those that took part told at their end.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) generators: &'a [GeneratorReport],
    pub(super) workers: &'a [WorkerReport],
    pub(super) subscriber: Option<ClientStatistics>,
    /// What came from the broker, bytes, where it is more than its messages.
    pub(super) received: Option<u64>,
}

/// By how much clocks may be off that are not the dispatcher's.
fn clock_errors(reports: &[WorkerReport]) -> ClockErrors {
    let mut errors = ClockErrors::default();
    for report in reports {
        let generates = finish(report).is_some_and(|finish| finish.generators > 0);
        let most = if generates { &mut errors.generators } else { &mut errors.workers };
        *most = (*most).max(report.worker.clock.map(|clock| clock.error_ns));
    }
    errors
}

/// What a worker said at its end.
pub(in super::super) fn finish(report: &WorkerReport) -> Option<WorkerFinish> {
    report.finish.as_deref().and_then(item::decode)
}

/// Said of workers that did not keep up.
fn lag_problem(lag: &Lag) -> Option<String> {
    let growth = lag.growth_per_s.filter(|_| lag.sustained == Some(false))?;
    Some(format!(
        "not sustained: workers fell behind by {growth:.0} messages a second, up to {}; lower --rate, or add workers",
        lag.max_messages
    ))
}

/// Said of a stream that came by another method than its options tell: its figures stand under the wrong name.
fn method_problem(told: Method, finished: u64, resolved: u64) -> Option<String> {
    let otherwise = match told {
        Method::Default => resolved,
        Method::Proxy => finished.saturating_sub(resolved),
    };
    let told = told.name();
    (otherwise > 0)
        .then(|| format!("{otherwise} of {finished} items did not come by the method {told}; correct --stream-method"))
}

/// What is wrong with the items, in words.
fn item_problems(items: &Balance, failures: &[String], missing: impl FnOnce() -> String) -> Vec<String> {
    let mut problems = Vec::new();
    if items.failed > 0 {
        problems.push(format!("{} of {} items failed: {}", items.failed, items.generated, failures.join("; ")));
    }
    if items.lost > 0 {
        problems.push(format!(
            "{} of {} items were lost between generator and dispatcher: numbers {}",
            items.lost,
            items.generated,
            missing()
        ));
    }
    if items.duplicated > 0 {
        problems.push(format!("{} items came more than once", items.duplicated));
    }
    problems
}
