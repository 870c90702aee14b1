//! The plan of a sweep, for `--dry-run`.

use std::time::Duration;

use comfy_table::Cell;
use psbench_connectors::ConnectorConfig;

use super::grid::grid;
use crate::options::Planned;
use crate::plan::{EnginePlan, GeneratorKind, Pacing, SubmitMode};
use crate::units::{Size, human};

const TITLES: [&str; 9] = ["trial", "size", "method", "workers", "repeat", "items due", "data", "ideal", "timeout"];

/// What would run, in its order, and where the results would go.
pub fn plan(planned: &Planned) -> String {
    let settings = &planned.plan.settings;
    let mut table = grid(&TITLES, &["method", "items due"]);
    let mut total = Duration::ZERO;
    for trial in &planned.plan.trials {
        let ideal = trial.ideal(settings);
        total = total.saturating_add(ideal);
        table.add_row([
            Cell::new(trial.index + 1),
            Cell::new(format!("{:#}", Size::from_bytes(trial.data_size))),
            Cell::new(trial.method.name()),
            Cell::new(trial.workers),
            Cell::new(trial.repeat + 1),
            Cell::new(match settings.generator {
                GeneratorKind::Internal | GeneratorKind::Local => pacing(trial.pacing(settings)),
                GeneratorKind::External => "as they come".into(),
            }),
            Cell::new(human::bytes(trial.data_size as f64 * settings.task_count as f64)),
            Cell::new(time(ideal)),
            Cell::new(time(trial.timeout(settings))),
        ]);
    }
    let outputs = &planned.outputs;
    format!(
        "executor {}{}, broker {}, connector {}\n{} items in each trial, {} each{}\n{}\n\
         {} trials, at least {}; results in {}/stream-scaling-…/ ({}, results.json, {})",
        settings.executor.name(),
        settings.engine.as_ref().map(mode).unwrap_or_default(),
        settings.broker,
        place(&settings.connector),
        settings.task_count,
        time(settings.task_sleep),
        if settings.generators > 1 { format!(", by {} generators", settings.generators) } else { String::new() },
        table.trim_fmt(),
        planned.plan.trials.len(),
        time(total),
        outputs.run_dir.display(),
        outputs.csv_file.display(),
        outputs.log_file.display(),
    )
}

fn pacing(pacing: Pacing) -> String {
    match pacing {
        Pacing::Interval(interval) => {
            format!("every {} ({}/s)", time(interval), human::number(1.0 / interval.as_secs_f64()))
        }
        Pacing::Max => "all at once".to_owned(),
    }
}

fn mode(engine: &EnginePlan) -> String {
    match engine.submit {
        SubmitMode::Task if engine.batch > 1 => format!(" (task mode, up to {} items in one)", engine.batch),
        SubmitMode::Task => " (task mode)".to_owned(),
        SubmitMode::Pilot => " (pilot mode)".to_owned(),
    }
}

fn place(connector: &ConnectorConfig) -> String {
    match connector {
        // The name of their space tells nobody anything.
        ConnectorConfig::Memory { .. } | ConnectorConfig::Shm { .. } => connector.name().to_owned(),
        _ => connector.to_string(),
    }
}

fn time(time: Duration) -> String {
    if time.is_zero() {
        return "0 s".to_owned();
    }
    human::nanoseconds(time.as_nanos() as f64)
}
