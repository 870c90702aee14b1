//! What the gateways of trials use, as they tell it themselves.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use psbench_connectors::is_loopback;
use scistream::client::{ClientError, GatewayAccess, Gateways, held_at};
use scistream::dataserver::Target;
use scistream::proto::gateway::{StatusReply, Usage};

use super::PrivateGateways;
use crate::plan::{Method, Settings, TrialPlan};
use crate::results::record::ProcessUsage;
use crate::threads;

/// Asks the gateways of a sweep what its trials make them use. psbench's tell, with the programs that forward for them; the reference's don't.
#[derive(Debug)]
pub(crate) struct GatewayMeter {
    private: Option<PrivateGateways>,
    /// What was said of gateways, so that it is said once.
    said: Mutex<BTreeSet<String>>,
}

/// A gateway of a trial.
struct Gateway {
    name: String,
    access: GatewayAccess,
}

/// A gateway, by what it had used when the trial began.
pub(crate) struct Reading {
    gateway: Gateway,
    usage: Usage,
    others: u64,
}

impl GatewayMeter {
    /// Of a sweep with these private gateways, which end with it.
    pub(crate) fn new(private: Option<PrivateGateways>) -> Self {
        Self { private, said: Mutex::default() }
    }

    /// Has the gateways of a trial count from now on, before its generators make paths.
    pub(crate) fn begin(&self, trial: &TrialPlan) -> Vec<Reading> {
        let gateways = gateways_of(trial);
        if let Some(private) = self.private.as_ref().filter(|_| !gateways.is_empty()) {
            private.settle();
        }
        let told = ask_all(&gateways, GatewayAccess::status_anew);
        let readings = gateways.into_iter().zip(told).filter_map(|(gateway, told)| self.read(gateway, told));
        readings.collect()
    }

    fn read(&self, gateway: Gateway, told: Result<StatusReply, ClientError>) -> Option<Reading> {
        let not_counted = |why: &dyn fmt::Display| {
            self.say_once(format!("the results leave out what a gateway uses, its CPU time and memory: {why}"));
            None
        };
        match told {
            Ok(StatusReply { usage: Some(usage), sessions_total, .. }) => {
                let others = others(&gateway, sessions_total);
                Some(Reading { gateway, usage, others })
            }
            Ok(_) => not_counted(&format_args!("the control server at {} does not tell it", gateway.access.address)),
            Err(error) => not_counted(&error),
        }
    }

    /// What they used until now, when the trial's generators have given back their paths.
    pub(crate) fn end(&self, readings: Vec<Reading>) -> Vec<ProcessUsage> {
        let told = ask_all(readings.iter().map(|reading| &reading.gateway), GatewayAccess::status);
        readings.into_iter().zip(told).map(|(reading, told)| self.usage(&reading, told)).collect()
    }

    fn usage(&self, reading: &Reading, told: Result<StatusReply, ClientError>) -> ProcessUsage {
        let Reading { gateway: Gateway { name, access }, usage: before, others: others_before } = reading;
        let pid = self.private.as_ref().and_then(|private| private.pid(&access.address));
        let (used, others, end) = match told {
            Ok(StatusReply { usage: Some(now), sessions_total, .. }) if now.began_us == before.began_us => {
                (Some(now), others(&reading.gateway, sessions_total), None)
            }
            Ok(_) => (None, 0, Some("started again in the course of the trial".to_owned())),
            Err(error) => (None, 0, Some(format!("can't be asked any more: {error}"))),
        };
        let others = others.max(*others_before);
        if others > 0 {
            self.say_once(format!(
                "the control server at {} has sessions of others, and what these make it use counts in the results, too",
                access.address
            ));
        }
        let host = access.address.host();
        ProcessUsage {
            role: "gateway".into(),
            label: pid.map_or_else(|| name.clone(), |pid| format!("{name} (pid {pid})")),
            pid,
            tasks: 0,
            cpu_seconds: used.map(|now| now.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e9),
            peak_memory_bytes: used.map(|now| now.peak_memory_bytes),
            host: (!is_loopback(host)).then(|| host.to_owned()),
            clock: None,
            end,
            sessions_of_others: Some(others),
        }
    }

    fn say_once(&self, what: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.contains(&what) {
            tracing::warn!("{what}");
            said.insert(what);
        }
    }
}

/// Sessions that are not this process's.
fn others(gateway: &Gateway, sessions: u64) -> u64 {
    sessions.saturating_sub(held_at(&gateway.access.address))
}

/// Asks all at once: each may be far away.
fn ask_all<'a>(
    gateways: impl IntoIterator<Item = &'a Gateway>,
    ask: impl Fn(&GatewayAccess) -> Result<StatusReply, ClientError> + Sync,
) -> Vec<Result<StatusReply, ClientError>> {
    threads::all(gateways, |gateway| ask(&gateway.access))
}

/// The gateways that a trial goes through, each once.
fn gateways_of(trial: &TrialPlan) -> Vec<Gateway> {
    let Settings { broker, connector, engine, .. } = &*trial.settings;
    let mut found = Vec::new();
    let workers = engine.as_ref().and_then(|engine| engine.through.as_ref());
    for plan in broker.path().into_iter().chain(workers) {
        if let Some(Gateways { producer, consumer }) = &plan.gateways {
            add(&mut found, "the producer", producer);
            add(&mut found, "the consumer", consumer);
        }
    }
    if trial.method == Method::Proxy {
        for crossing in connector.crossings() {
            add(&mut found, "the producer", &crossing.producer);
            for consumer in &crossing.consumers {
                let site = if consumer.site.is_empty() {
                    "the consumer".to_owned()
                } else {
                    format!("site {}", consumer.site)
                };
                add(&mut found, &site, &consumer.gateway);
            }
        }
    }
    found
}

fn add(found: &mut Vec<Gateway>, whose: &str, access: &GatewayAccess) {
    let known = |address: &Target| found.iter().any(|gateway| gateway.access.address == *address);
    if !known(&access.address) {
        let name = format!("S2CS of {whose} at {}", access.address);
        found.push(Gateway { name, access: access.clone() });
    }
}
