//! `psbench generate`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use psbench_connectors::KeySource;

use super::{CliError, Ending, print};
use crate::brokers::Broker;
use crate::clock::{Clock, Nanos, SystemClock};
use crate::generator::{self, Control, GeneratorPlan};
use crate::item::GeneratorReport;
use crate::options::{OF_GENERATE, OptionError, StreamScalingOptions};
use crate::plan::{Method, Share};
use crate::terminal;
use crate::units::{Seconds, Size, human};

/// The options of one generator.
#[derive(Debug, clap::Args)]
#[command(mut_args = as_here)]
pub struct Generate {
    #[command(flatten)]
    options: StreamScalingOptions,

    /// How long to wait for a subscriber before the first item, without which it would be lost; a queue keeps its items
    /// [default: 30s]
    #[arg(long, help_heading = "Stream", value_name = "SECONDS", allow_negative_numbers = true)]
    wait_subscriber: Option<Seconds>,
}

const WAIT_SUBSCRIBER: Duration = Duration::from_secs(30);

/// Between two looks for a subscriber.
const LOOK: Duration = Duration::from_millis(50);

/// What options of a sweep mean here, where that is less.
const HELP: [(&str, &str); 11] = [
    ("data-size-bytes", "Size of an item [default: 1MB]"),
    ("stream-method", "How items travel [default: proxy]"),
    ("task-count", "Items [default: 500]"),
    ("rate", "Items due each second, or `max` [default: max]"),
    ("verify", "Give each item a checksum [default: false]"),
    ("ps-connector", "Where bulk data lives under the proxy method: file or redis"),
    ("ps-port", "Port of the redis connector [default: 6379]"),
    ("ps-lifetime", "How long stored objects stay: owned (until their resolve) or static (for ever) [default: owned]"),
    ("stream", "The broker: kafka, redis or redis-queue"),
    ("stream-topic", "The topic [default: stream-benchmark-data]"),
    ("interop", "Whose streams to speak; required"),
];

/// Options of a sweep alone are parsed, so that they get an answer, but not offered.
fn as_here(argument: clap::Arg) -> clap::Arg {
    let Some(name) = argument.get_long() else { return argument };
    let offered = OF_GENERATE.contains(&name) || name == "wait-subscriber";
    let help = HELP.iter().find(|(option, _)| *option == name).map(|(_, help)| *help);
    let argument = argument.hide(!offered);
    match help {
        Some(help) => argument.help(help).hide_possible_values(true),
        None => argument,
    }
}

impl Generate {
    /// Publishes the items, then the stream's end. `interrupted` may be set at any time: the stream then ends early and in order.
    ///
    /// # Errors
    /// Nothing was published.
    pub fn run(&self, interrupted: &AtomicBool) -> Result<Ending, CliError> {
        let planned = self.options.plan_generate()?;
        for note in &planned.notes {
            terminal::tell(format_args!("WARNING {note}"));
        }
        let settings = &planned.plan.settings;
        let Some(trial) = planned.plan.trials.first() else { return Ok(Ending::Success) };
        let broker = settings.broker.open()?;
        if trial.method == Method::Proxy {
            settings.connector.open(KeySource::random())?;
        }
        if !self.await_subscriber(&*broker, &settings.topic, interrupted)? {
            return Ok(Ending::Interrupted);
        }
        let (topic, keys) = (&settings.topic, KeySource::random());
        let plan = GeneratorPlan::new(settings, trial, Share::ALL, broker.config(), topic, &keys);
        let started = SystemClock.now();
        let stop = || interrupted.load(Ordering::Relaxed);
        let control = Control { stop: &stop, allowed: &|_, _| u64::MAX };
        let report = generator::generate(&plan, &SystemClock, control, &|_, _| {});
        let took = Duration::from_nanos(SystemClock.now() - started);
        print(Summary { plan: &plan, method: trial.method, report: &report, took })?;
        Ok(match report.failure {
            Some(failure) => {
                terminal::tell(format_args!("error: {failure}"));
                if trial.method == Method::Proxy {
                    terminal::tell(format_args!("WARNING items that nobody consumed stay in {}", settings.connector));
                }
                Ending::TrialFailed
            }
            None if stop() => Ending::Interrupted,
            None => Ending::Success,
        })
    }

    /// Waits until somebody is subscribed, where what is published before would be lost; `false` when interrupted.
    fn await_subscriber(&self, broker: &dyn Broker, topic: &str, interrupted: &AtomicBool) -> Result<bool, CliError> {
        let wait = self.wait_subscriber.map_or(WAIT_SUBSCRIBER, Seconds::duration);
        let until: Nanos = SystemClock.now().saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        let mut told = false;
        while broker.subscribers(topic)? == Some(0) {
            if !std::mem::replace(&mut told, true) {
                terminal::tell(format_args!("waiting for a subscriber to topic {topic}"));
            }
            if interrupted.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if SystemClock.now() >= until {
                let problem = format!(
                    "nobody subscribed to topic {topic} in that time; start the consumer first, wait longer, or use --stream redis-queue"
                );
                return Err(
                    OptionError::invalid("--wait-subscriber", &humantime::format_duration(wait), problem).into()
                );
            }
            thread::sleep(LOOK);
        }
        Ok(true)
    }
}

/// What was published, in one line.
struct Summary<'a> {
    plan: &'a GeneratorPlan,
    method: Method,
    report: &'a GeneratorReport,
    took: Duration,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (GeneratorPlan { topic, size, .. }, items) = (self.plan, self.report.generated);
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "generated {items} items of {:#} by {} to topic {topic} in {}: {} items/s, {}/s",
            Size::from_bytes(*size),
            self.method.name(),
            human::nanoseconds(self.took.as_nanos() as f64),
            human::number(items as f64 / seconds),
            human::bytes(items as f64 * *size as f64 / seconds),
        )
    }
}
