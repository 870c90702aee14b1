//! The plan of a sweep, for `--dry-run`.

use std::time::Duration;

use comfy_table::Cell;
use psbench_connectors::ConnectorSpec;

use super::grid::grid;
use crate::memory::Demand;
use crate::options::Planned;
use crate::plan::{EnginePlan, GeneratorKind, Method, Pacing, SubmitMode, SweepPlan, TrialPlan};
use crate::results::CHART;
use crate::units::{Size, human};

const TITLES: [&str; 9] = ["trial", "size", METHOD, "workers", "repeat", "items due", "data", "ideal", "timeout"];
const METHOD: &str = "method";

/// Beyond so many trials all repetitions of one are a row.
const MOST_ROWS: usize = 1000;

/// What would run, in its order, and where the results would go.
pub(crate) fn plan(planned: &Planned, demand: Demand) -> String {
    let settings = &planned.plan.settings;
    let ways = ways(&planned.plan);
    let way = if ways.is_empty() { METHOD } else { "path" };
    let mut table = grid(&TITLES.map(|title| if title == METHOD { way } else { title }), &[way, "items due"]);
    let trials = &planned.plan.trials;
    let total = trials.iter().fold(Duration::ZERO, |total, trial| total.saturating_add(trial.ideal()));
    let repeats = trials.last().map_or(1, |last| last.repeat + 1);
    let each = trials.len() <= MOST_ROWS;
    for trial in trials.iter().filter(|trial| each || trial.repeat == 0) {
        let ideal = trial.ideal();
        table.add_row([
            Cell::new(trial.index + 1),
            Cell::new(format!("{:#}", Size::from_bytes(trial.data_size))),
            Cell::new(trial.way()),
            Cell::new(trial.workers),
            if each { Cell::new(trial.repeat + 1) } else { Cell::new(format!("1 to {repeats}")) },
            Cell::new(match settings.generator {
                GeneratorKind::Internal | GeneratorKind::Local => pacing(trial),
                GeneratorKind::External => "as they come".into(),
            }),
            Cell::new(human::bytes(trial.data_size as f64 * settings.task_count as f64)),
            Cell::new(time(ideal)),
            Cell::new(time(trial.timeout())),
        ]);
    }
    let outputs = &planned.outputs;
    format!(
        "executor {}{}, broker {}{}\n{} items in each trial, {} each{}\n{}\n\
         items take up to {} of memory on this host\n{} trials, at least {}; results in {}/{}-…/ ({}, results.json, {}{})",
        settings.executor.name(),
        settings.engine.as_ref().map(mode).unwrap_or_default(),
        settings.broker,
        if ways.is_empty() { format!(", connector {}", place(&settings.connector)) } else { ways.concat() },
        settings.task_count,
        time(settings.task_sleep),
        if settings.generators > 1 { format!(", by {} generators", settings.generators) } else { String::new() },
        table.trim_fmt(),
        human::bytes(demand.most as f64),
        planned.plan.trials.len(),
        time(total),
        outputs.run_dir.display(),
        planned.benchmark,
        outputs.csv_file.display(),
        outputs.log_file.display(),
        if ways.is_empty() { String::new() } else { format!(", {CHART}") },
    )
}

/// A line for each path: where it leads. None where no paths are compared.
fn ways(plan: &SweepPlan) -> Vec<String> {
    let mut ways = Vec::new();
    for TrialPlan { path, method, settings, .. } in plan.trials.iter().filter(|trial| trial.repeat == 0) {
        let Some(path) = path else { continue };
        let leads = match method {
            Method::Default => settings.broker.to_string(),
            Method::Proxy => format!("proxies to {}", place(&settings.connector)),
        };
        let way = format!("\npath {path}: {leads}");
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    ways
}

fn pacing(trial: &TrialPlan) -> String {
    match trial.pacing() {
        Pacing::Interval(interval) => {
            format!("every {} ({}/s)", time(interval), human::number(1.0 / interval.as_secs_f64()))
        }
        Pacing::Max => match trial.inflight_items() {
            Some(items) => format!("at once, up to {items} under way"),
            None => "at once".to_owned(),
        },
    }
}

fn mode(engine: &EnginePlan) -> String {
    let mode = match engine.submit {
        SubmitMode::Task if engine.batch > 1 => format!("task mode, up to {} items in one", engine.batch),
        SubmitMode::Task => "task mode".to_owned(),
        SubmitMode::Pilot => "pilot mode".to_owned(),
    };
    let through = engine.through.as_ref().map(|plan| format!("; workers connect through {plan}")).unwrap_or_default();
    format!(" ({mode}{through})")
}

fn place(connector: &ConnectorSpec) -> String {
    // The name of a space in memory tells nobody anything.
    if connector.is_shared() { connector.name().to_owned() } else { connector.to_string() }
}

fn time(time: Duration) -> String {
    if time.is_zero() {
        return "0 s".to_owned();
    }
    human::nanoseconds(time.as_nanos() as f64)
}
