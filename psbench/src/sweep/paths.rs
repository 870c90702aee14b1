//! The paths of a sweep: which of them can be used, and their brokers.

use std::sync::Arc;

use psbench_connectors::KeySource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SweepError;
use crate::brokers::{Broker, BrokerChoice};
use crate::gateways::{PrivateError, wishes};
use crate::plan::{Method, SweepPlan, TrialPlan};

/// With fewer paths there is nothing to compare.
const LEAST: usize = 2;

/// A path that was left out of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnusablePath {
    /// The path.
    pub path: String,
    /// What it lacks, in a line.
    pub problem: String,
}

/// What is there for the trials of a plan.
pub(super) struct Prepared {
    /// Each trial's broker.
    pub(super) brokers: Vec<Arc<dyn Broker>>,
    /// The paths whose trials were taken out of the plan.
    pub(super) unusable: Vec<UnusablePath>,
    /// What users should know of servers.
    pub(super) warnings: Vec<String>,
}

/// Opens the brokers, and makes sure that the connectors can be used. The trials of paths that can't are taken out of the plan.
/// `ungated`: why there are no private gateways.
pub(super) fn prepare(plan: &mut SweepPlan, ungated: Option<&PrivateError>) -> Result<Prepared, SweepError> {
    let mut open = Vec::new();
    let mut warnings = Vec::new();
    let mut unusable: Vec<(String, SweepError)> = Vec::new();
    let mut ways: Vec<&TrialPlan> = Vec::new();
    for trial in &plan.trials {
        if ways.iter().any(|known| (&known.path, known.method) == (&trial.path, trial.method)) {
            continue;
        }
        ways.push(trial);
        let largest = |like: &TrialPlan| {
            let whole = plan.trials.iter().filter(|trial| trial.path == like.path && trial.method != Method::Proxy);
            whole.map(|trial| trial.data_size).max().unwrap_or(0)
        };
        match (reach(trial, largest(trial), ungated, &mut open), &trial.path) {
            (Ok(told), _) => warnings.extend(told),
            (Err(error), None) => return Err(error),
            (Err(error), Some(path)) => unusable.push((path.clone(), error)),
        }
    }
    let usable = ways.len() - unusable.len();
    if usable < LEAST && !unusable.is_empty() {
        let (path, source) = unusable.swap_remove(0);
        return Err(SweepError::Path { path, source: Box::new(source) });
    }
    plan.trials.retain(|trial| unusable.iter().all(|(path, _)| trial.path.as_ref() != Some(path)));
    let mut brokers = Vec::new();
    for (index, trial) in plan.trials.iter_mut().enumerate() {
        trial.index = index;
        brokers.push(broker_of(trial, &mut open)?);
    }
    let unusable = unusable.into_iter().map(|(path, error)| UnusablePath { path, problem: error.to_string() });
    warnings.sort_unstable();
    warnings.dedup();
    Ok(Prepared { brokers, unusable: unusable.collect(), warnings })
}

/// Brokers that are open.
type Open = Vec<(BrokerChoice, Arc<dyn Broker>)>;

/// `largest`: item that passes the broker whole, bytes. Returns warnings.
fn reach(
    trial: &TrialPlan,
    largest: u64,
    ungated: Option<&PrivateError>,
    open: &mut Open,
) -> Result<Vec<String>, SweepError> {
    if let (Some(error), false) = (ungated, wishes(trial).is_empty()) {
        return Err(error.clone().into());
    }
    let broker = broker_of(trial, open)?;
    // What another program publishes and stores, that program has the rights for.
    let all_is_ours = !trial.settings.is_external();
    let mut warnings = Vec::new();
    if all_is_ours {
        warnings.extend(broker.check(&trial.settings.topic, largest)?);
    }
    if trial.method == Method::Proxy {
        trial.settings.connector.open(KeySource::random())?;
        if all_is_ours {
            warnings.extend(trial.settings.connector.check()?);
        }
    }
    Ok(warnings)
}

/// The trial's broker, which trials of the same choice share.
fn broker_of(trial: &TrialPlan, open: &mut Open) -> Result<Arc<dyn Broker>, SweepError> {
    let choice = &trial.settings.broker;
    if let Some((_, broker)) = open.iter().find(|(known, _)| known == choice) {
        return Ok(Arc::clone(broker));
    }
    let broker: Arc<dyn Broker> = choice.open()?.into();
    open.push((choice.clone(), Arc::clone(&broker)));
    Ok(broker)
}
