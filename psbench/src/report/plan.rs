//! The plan of a sweep, for `--dry-run`.

use std::time::Duration;

use comfy_table::Cell;
use psbench_connectors::ConnectorConfig;

use super::grid::grid;
use crate::options::Planned;
use crate::plan::Pacing;
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
            Cell::new(pacing(trial.pacing(settings))),
            Cell::new(human::bytes(trial.data_size as f64 * settings.task_count as f64)),
            Cell::new(time(ideal)),
            Cell::new(time(trial.timeout(settings))),
        ]);
    }
    let outputs = &planned.outputs;
    format!(
        "executor {}, broker {}, connector {}\n{} items in each trial, {} each\n{}\n\
         {} trials, at least {}; results in {}/stream-scaling-…/ ({}, results.json, {})",
        settings.executor.name(),
        settings.broker,
        place(&settings.connector),
        settings.task_count,
        time(settings.task_sleep),
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

fn place(connector: &ConnectorConfig) -> String {
    let name = connector.name();
    match connector {
        ConnectorConfig::Endpoint { host, port, id } => format!("{name} {id} at {host}:{port}"),
        ConnectorConfig::Memory { .. } => name.to_owned(),
        ConnectorConfig::File { dir } => format!("{name} in {}", dir.display()),
        ConnectorConfig::Redis { host, port } => format!("{name} at {host}:{port}"),
        ConnectorConfig::S3 { bucket, prefix, endpoint, .. } => {
            format!("{name} at {}, {bucket}/{prefix}", endpoint.as_deref().unwrap_or("AWS"))
        }
        ConnectorConfig::Multi { parts, .. } => {
            let parts: Vec<_> = parts.iter().map(|part| format!("{}{}", place(&part.config), part.policy)).collect();
            format!("{name} of {}", parts.join("; "))
        }
        ConnectorConfig::Peer { address, .. } => format!("{name} at {address}"),
    }
}

fn time(time: Duration) -> String {
    if time.is_zero() {
        return "0 s".to_owned();
    }
    human::nanoseconds(time.as_nanos() as f64)
}
