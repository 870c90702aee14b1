//! `psbench services`.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::ValueEnum;

use super::{Ending, print};
use crate::options::utf8_path;
use crate::services::{
    self, Kafka, Property, RedisServer, Service, ServiceName, ServiceReport, Services, ServicesError,
};
use crate::terminal;

/// What to do with the services.
#[derive(Debug, clap::Args)]
pub struct ServicesCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start services, and print the options that choose them; what runs already is left as it is
    ///
    /// They go on when psbench ends, until psbench services down. What stopped or died comes back with its address and data.
    Up(Up),
    /// Stop services that up started, and remove their data
    Down(Down),
    /// Print what was started and not taken down
    List(List),
    /// Get what a service is started from, into $PSBENCH_CACHE, else psbench of $XDG_CACHE_HOME or ~/.cache
    Fetch(Fetch),
}

#[derive(Debug, clap::Args)]
struct Up {
    /// What to start
    #[arg(value_name = "NAME", required = true)]
    names: Vec<ServiceName>,

    #[command(flatten)]
    place: Place,

    /// Print a JSON array with name, condition, address, pid and directory of each
    #[arg(long)]
    json: bool,

    /// An unpacked Kafka 4 [default: $PSBENCH_KAFKA_HOME, else what psbench services fetch kafka got]
    #[arg(long, value_name = "DIR")]
    kafka_home: Option<PathBuf>,

    /// A setting of the broker, as in its server.properties, which wins over psbench's; {port} and {controller-port} stand for its
    /// ports; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    kafka_property: Vec<Property>,
}

#[derive(Debug, clap::Args)]
struct Down {
    /// What to stop [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<ServiceName>,

    #[command(flatten)]
    place: Place,

    /// Keep address and data for the next up
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    place: Place,

    /// Print a JSON array with name, condition, address, pid and directory of each
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Fetch {
    /// What to get; a redis-server is a package of the system
    #[arg(value_name = "NAME")]
    name: Fetchable,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fetchable {
    /// Apache Kafka, by Maven.
    Kafka,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Where services have their logs, configuration and data [default: psbench-services-UID in the temporary directory]
    #[arg(long, value_name = "DIR", value_parser = utf8_path())]
    dir: Option<PathBuf>,
}

/// Why services are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum ServicesCommandError {
    /// One of them.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// Standard output can't be written.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl ServicesCommandError {
    /// How psbench ends for it.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Services(ServicesError::Interrupted) => Ending::Interrupted,
            Self::Services(
                ServicesError::Directory { .. }
                | ServicesError::NoProgram { .. }
                | ServicesError::NoKafka { .. }
                | ServicesError::NoCache,
            ) => Ending::BadInput,
            Self::Services(_) | Self::Print(_) => Ending::TrialFailed,
        }
    }
}

impl ServicesCommand {
    /// Does it. `interrupted` may be set at any time: what is being started or fetched is then stopped.
    ///
    /// # Errors
    /// A service did not start, stop or arrive. Those before it did.
    pub fn run(self, interrupted: &AtomicBool) -> Result<Ending, ServicesCommandError> {
        match self.action {
            Action::Up(up) => up.run(interrupted)?,
            Action::Down(down) => down.run()?,
            Action::List(list) => list.run()?,
            Action::Fetch(Fetch { name: Fetchable::Kafka }) => fetch_kafka(interrupted)?,
        }
        Ok(Ending::Success)
    }
}

impl Up {
    fn run(self, interrupted: &AtomicBool) -> Result<(), ServicesCommandError> {
        let mut wanted: Vec<Box<dyn Service>> = Vec::new();
        for (position, name) in self.names.iter().enumerate() {
            match name {
                _ if self.names[..position].contains(name) => {}
                ServiceName::Redis => wanted.push(Box::new(RedisServer)),
                ServiceName::Kafka => {
                    wanted.push(Box::new(Kafka::new(self.kafka_home.clone(), self.kafka_property.clone())?));
                }
            }
        }
        if !self.names.contains(&ServiceName::Kafka) {
            let given =
                [("--kafka-home", self.kafka_home.is_some()), ("--kafka-property", !self.kafka_property.is_empty())];
            for (option, _) in given.iter().filter(|(_, given)| *given) {
                terminal::tell(format_args!("WARNING {option} has no effect without kafka"));
            }
        }
        // Before any is started: what is not there should leave none behind.
        for service in &wanted {
            service.check()?;
        }
        let services = Services::new(self.place.dir);
        let mut up = Vec::new();
        let mut failure = None;
        for service in &wanted {
            match services.up(&**service, interrupted) {
                Ok((report, new)) => {
                    if !new {
                        let lost = service.name() == ServiceName::Kafka && !self.kafka_property.is_empty();
                        let effect = if lost { "; --kafka-property takes effect after down --keep" } else { "" };
                        terminal::tell(format_args!("{}: runs already{effect}", report.name));
                    }
                    if !self.json {
                        print(options(&report))?;
                    }
                    up.push(report);
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if self.json {
            print(json(&up)?)?;
        }
        let Some(failure) = failure else { return Ok(()) };
        for report in up {
            terminal::tell(format_args!("WARNING {0} runs nevertheless, until psbench services down {0}", report.name));
        }
        Err(failure.into())
    }
}

impl Down {
    fn run(self) -> Result<(), ServicesCommandError> {
        let services = Services::new(self.place.dir);
        let names = match self.names {
            names if names.is_empty() => services.list()?.iter().map(|report| report.name).collect(),
            names => names,
        };
        if names.is_empty() {
            print(format_args!("nothing is up at {}", services.path().display()))?;
        }
        let mut failure = None;
        for name in names {
            match services.down(name, self.keep) {
                Ok(Some(ServiceReport { condition, .. })) => {
                    let kept = if self.keep { ", its address and data kept" } else { "" };
                    print(format_args!("{name}: was {}, is down{kept}", condition.as_str()))?;
                }
                Ok(None) => print(format_args!("{name}: is not up at {}", services.path().display()))?,
                Err(error) => {
                    // The others are to go all the same.
                    if let Some(earlier) = failure.replace(error) {
                        terminal::tell(format_args!("error: {earlier}"));
                    }
                }
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl List {
    fn run(self) -> Result<(), ServicesCommandError> {
        let services = Services::new(self.place.dir);
        let reports = services.list()?;
        if self.json {
            print(json(&reports)?)?;
        } else if reports.is_empty() {
            print(format_args!("nothing is up at {}", services.path().display()))?;
        }
        for report in reports.iter().filter(|_| !self.json) {
            let ServiceReport { name, condition, address, pid, directory } = report;
            let process = pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
            print(format_args!("{name}: {} at {address}{process}, in {}", condition.as_str(), directory.display()))?;
        }
        Ok(())
    }
}

fn fetch_kafka(interrupted: &AtomicBool) -> Result<(), ServicesCommandError> {
    let fetched = services::fetch_kafka(interrupted)?;
    let already = if fetched.new { "" } else { " already" };
    print(format_args!("kafka: is{already} in {}", fetched.home.display()))?;
    Ok(())
}

/// What makes a sweep use it.
fn options(report: &ServiceReport) -> String {
    format!("{0}: --stream {0} --stream-servers {1}", report.name, report.address)
}

fn json(reports: &[ServiceReport]) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(reports)?)
}
