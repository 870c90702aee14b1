//! The most memory that a trial takes on this host, worked out ahead of it, and what there is.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::brokers::BrokerChoice;
use crate::control_group;
use crate::generator::payloads_at_once;
use crate::plan::{EnginePlan, ExecutorKind, GeneratorKind, Method, SubmitMode, SweepPlan, TrialPlan};
use crate::units::human;

/// Item bytes that a trial holds on this host. What processes take without any items, and what servers do, comes on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Without which not one item gets through.
    pub(crate) least: u64,
    /// With as many items under way as there may be.
    pub(crate) most: u64,
}

/// A trial that can't have the memory it needs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--data-size-bytes {}: one item at a time takes {} of memory on this host, and there are {}; write smaller items, or {remedy}",
    human::bytes(*size as f64), human::bytes(*least as f64), human::bytes(*there as f64)
)]
pub struct TooLarge {
    size: u64,
    least: u64,
    there: u64,
    remedy: &'static str,
}

/// Bytes that this process and those it starts can have; absent where the system does not tell.
pub(crate) fn available() -> Option<u64> {
    let memory = fs::read_to_string("/proc/meminfo").ok();
    let available = memory.and_then(|memory| {
        let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
    });
    let limits = [available, control_group::memory_limit(), getrlimit(Resource::As).current];
    limits.into_iter().flatten().min()
}

/// The largest demand of all trials, and the first trial that can't be met.
pub(crate) fn check(plan: &SweepPlan, there: Option<u64>) -> Result<Demand, TooLarge> {
    let mut largest = Demand::default();
    for trial in plan.trials.iter().filter(|trial| trial.repeat == 0) {
        let demand = demand(trial);
        if let Some(there) = there.filter(|there| demand.least > *there) {
            let remedy = match trial.method {
                Method::Default => "use --stream-method proxy",
                Method::Proxy => "a --ps-connector that holds them elsewhere",
            };
            return Err(TooLarge { size: trial.data_size, least: demand.least, there, remedy });
        }
        if demand.most > largest.most {
            largest = demand;
        }
    }
    Ok(largest)
}

/// Said where the memory there is may not do.
pub(crate) fn note(demand: Demand, there: Option<u64>) -> Option<String> {
    let there = there.filter(|there| demand.most > there / 10 * 9)?;
    Some(format!(
        "items may take {} of memory on this host, and there are {}: fewer at a time do with --max-inflight-items, --max-inflight-bytes \
         or fewer workers",
        human::bytes(demand.most as f64),
        human::bytes(there as f64)
    ))
}

/// What a trial's items take on this host.
pub(crate) fn demand(trial: &TrialPlan) -> Demand {
    let settings = &trial.settings;
    let size = u128::from(trial.data_size);
    let count = u128::from(settings.task_count);
    let elsewhere = settings.engine.as_ref().is_some_and(EnginePlan::is_elsewhere);
    let in_threads = matches!(settings.executor, ExecutorKind::Thread | ExecutorKind::Own(_));
    // Those of another program are its own.
    let generators = match settings.generator {
        GeneratorKind::External => 0,
        GeneratorKind::Internal if elsewhere => 0,
        GeneratorKind::Internal | GeneratorKind::Local => settings.generators.into(),
    };
    let under_way = trial.inflight_items().map_or(count, u128::from).min(count);
    let (payloads, reused) = payloads_at_once(trial);
    let payloads = u128::from(payloads);
    // One is made while another is at work, unless there is but one.
    let made = Span { least: generators * payloads.min(2).min(count), most: generators * payloads };
    let workers = if elsewhere { 0 } else { u128::from(trial.compute_workers()).min(count) };
    let task_mode = settings.engine.as_ref().is_some_and(|engine| engine.submit == SubmitMode::Task);
    let items = match trial.method {
        // A worker of a process has a copy of its own, an engine on the way there another one.
        Method::Default => {
            let copied = !(in_threads && settings.broker == BrokerChoice::Memory);
            let held = (u128::from(trial.inflight_bytes()) / size.max(1)).max(1).min(under_way);
            let at_workers = if in_threads { 0 } else { workers * if task_mode { 2 } else { 1 } };
            let dispatched = if copied { Span { least: 1, most: held } } else { Span::default() };
            made + dispatched + Span { least: at_workers.min(1), most: at_workers }
        }
        Method::Proxy => {
            let (limit, copied) = settings.connector.held();
            let held = under_way.min(u128::from(limit) / size.max(1)).max(1) * generators.min(1);
            let held = if limit > 0 && (copied || !reused) { held } else { 0 };
            let fetched = if settings.connector.is_shared() { 0 } else { workers };
            made + Span { least: u128::from(copied && held > 0), most: held }
                + Span { least: fetched.min(1), most: fetched }
        }
    };
    let bytes = |items: u128| u64::try_from(items.saturating_mul(size)).unwrap_or(u64::MAX);
    Demand { least: bytes(items.least), most: bytes(items.most) }
}

/// A number of items, from and to.
#[derive(Clone, Copy, Default)]
struct Span {
    least: u128,
    most: u128,
}

impl std::ops::Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { least: self.least + other.least, most: self.most + other.most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::StreamScalingOptions;
    use crate::plan::Pregenerate;

    fn demand_of(options: &StreamScalingOptions) -> Vec<Demand> {
        options.plan().unwrap().plan.trials.iter().map(demand).collect()
    }

    fn options(size: &str) -> StreamScalingOptions {
        StreamScalingOptions {
            data_size_bytes: vec![size.parse().unwrap()],
            max_workers: vec![3],
            task_count: Some(100),
            ..StreamScalingOptions::default()
        }
    }

    #[test]
    fn copies_are_counted_by_method_and_executor() {
        const GB: u64 = 1_000_000_000;
        // Two payloads are made ahead. In full: one at the dispatcher, as it holds four at most, and one at each of two workers.
        let [default, proxy] = demand_of(&options("1GB"))[..] else { panic!() };
        assert_eq!(default, Demand { least: 4 * GB, most: 8 * GB });
        // By proxy they are served from where they were made.
        assert_eq!(proxy, Demand { least: 3 * GB, most: 4 * GB });
        let fresh = StreamScalingOptions { pregenerate: Some(Pregenerate::Never), ..options("1GB") };
        assert_eq!(demand_of(&fresh)[1], Demand { least: 3 * GB, most: 6 * GB }, "the store holds two");
        let threads = StreamScalingOptions {
            executor: Some("thread".into()),
            ps_connector: Some("memory".into()),
            ..options("1GB")
        };
        assert!(demand_of(&threads).iter().all(|demand| demand.least == 2 * GB));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_may_not_is_noted() {
        let plan = options("1GB").plan().unwrap().plan;
        let refused = check(&plan, Some(3_999_999_999)).unwrap_err().to_string();
        assert!(refused.starts_with("--data-size-bytes 1.00 GB: one item at a time takes 4.00 GB"), "{refused}");
        let largest = check(&plan, Some(4_000_000_000)).unwrap();
        assert!(note(largest, Some(4_000_000_000)).is_some() && note(largest, Some(1 << 50)).is_none());
        assert_eq!(check(&plan, None), Ok(largest));
    }

    #[test]
    fn this_host_tells() {
        assert!(available().is_some_and(|there| there > 1 << 20));
    }
}
