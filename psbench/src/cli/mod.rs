//! The command line.

mod compare_paths;
mod completions;
mod doctor;
mod gateway;
mod generate;
mod s2cs;
mod s2uc;
mod services;
mod stream_scaling;
mod sweep;
mod worker;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

pub use self::compare_paths::ComparePaths;
pub use self::completions::Completions;
pub use self::doctor::{Doctor, DoctorError};
pub use self::generate::Generate;
pub use self::s2cs::{S2cs, S2csError};
pub use self::s2uc::{S2uc, S2ucError};
pub use self::services::{ServicesCommand, ServicesCommandError};
pub use self::stream_scaling::StreamScaling;
pub use self::sweep::CliError;
pub use self::worker::{Worker, WorkerError};

/// Measures what scales in stream processing: data through the broker, or proxies past it.
#[derive(Debug, Parser)]
#[command(name = "psbench", version, about, args_override_self = true, infer_long_args = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What the command line says.
    ///
    /// # Errors
    /// What is wrong with it, in one line. Where it asks for help or the version, that is printed, and this process ends.
    pub fn read() -> Result<Self, String> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => one_line(&error),
        })
    }
}

/// What is wrong and what there is instead, without the usage.
fn one_line(error: &clap::Error) -> String {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && argument.strip_prefix('-').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    {
        return format!("{argument} begins with a minus; no option takes less than 0");
    }
    let text = error.render().to_string();
    let said = text.lines().map(str::trim).take_while(|line| {
        let hint = ["Usage:", "For more information"];
        !hint.iter().any(|hint| line.starts_with(hint))
    });
    let said: Vec<_> = said.filter(|line| !line.is_empty()).collect();
    said.join(" ").replace(" tip: ", "; ").trim_start_matches("error: ").to_owned()
}

/// What psbench can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stream items to workers, in full and by proxy, and measure both
    ///
    /// A generator makes items of random bytes; they travel through a broker to the dispatcher, which submits a task for each; a
    /// worker holds the item and works on it. Under the default method broker and dispatcher carry the items in full; under the
    /// proxy method they carry only metadata, and workers fetch the bytes from a connector. Every size is measured with every method.
    ///
    /// Sizes, durations and rates take units: 10MB, 1MiB, 50ms, 200/s. Without units they are bytes, seconds and items per second.
    ///
    /// Exit codes: 0 all items of all trials finished; 1 a trial failed or lost items; 2 nothing was run, for bad input or because
    /// what it names is not there; 130 interrupted.
    StreamScaling(Box<StreamScaling>),
    /// Stream the same items over several paths, and tell which one to take from which size on
    ///
    /// A path is a way of the bulk data from generator to worker: broker, in full through the broker, or broker-via-scistream, with gateways
    /// between broker and dispatcher; or by proxy over a connector, such as redis, file, shm or peer, or scistream:TYPE, through gateways
    /// that forward by this type. In each round every path runs once at every size, in an order that changes, so that a drift of the machine
    /// touches all alike. Ratios are those of one round, and their intervals hold their medians with 95 % confidence from six rounds up. The
    /// run's directory has a chart, too (paths.svg).
    ///
    /// A path that can't be used is left out with a warning, as long as two remain.
    ///
    /// Exit codes: those of psbench stream-scaling, a path left out counting as a trial that failed.
    ComparePaths(Box<ComparePaths>),
    /// Publish one stream for another program, and measure nothing
    ///
    /// Items go to exactly --stream-topic, as ProxyStore's StreamProducer would send them (--interop proxystore); a StreamConsumer, or
    /// psbench stream-scaling --generator external, takes them. By proxy they stay in the file or redis connector until they are consumed;
    /// with --ps-lifetime static nobody deletes them.
    ///
    /// Exit codes: 0 all items were published; 1 not all were; 2 none, for bad input or because what it names is not there; 130 interrupted.
    Generate(Box<Generate>),
    /// Start and stop private brokers on this host: Redis and Kafka, without Docker
    ///
    /// Each listens on a free port of 127.0.0.1, has a directory of its own, and goes on when psbench ends. psbench services down stops
    /// it and removes its data. redis-server is taken from the PATH; psbench services fetch kafka gets Kafka, which takes java to run.
    ///
    /// Exit codes: 0 all is as asked; 1 a service did not start or stop; 2 nothing was started, for bad input or because what it takes is
    /// not there; 130 interrupted.
    Services(ServicesCommand),
    /// Serve as a gateway's control server of SciStream's (S2CS)
    ///
    /// User clients (psbench s2uc, or SciStream's own) ask it for sessions: ports that lead to where they say, through this process, or
    /// through HAProxy, stunnel or nginx. It listens at 127.0.0.1 unless --listener-ip says otherwise, with TLS. Options may have
    /// underscores in place of dashes.
    ///
    /// The first SIGINT or SIGTERM ends it and its sessions in order, a second one at once.
    ///
    /// Exit codes: 0 it ended in order; 1 it failed; 2 it did not start, for bad input or because what it names is not there.
    S2cs(Box<S2cs>),
    /// Ask SciStream's control servers for paths through gateways (S2UC): psbench's, and SciStream's own
    ///
    /// psbench s2uc connect makes a whole path. Requests for one half have the options and the output of SciStream's own user client;
    /// options may have underscores in place of dashes.
    ///
    /// Exit codes: 0 it was granted; 1 a control server refused or did not answer, and what there was of the path was given back; 2
    /// nothing was asked, for bad input; 130 interrupted, likewise.
    S2uc(Box<S2uc>),
    /// List what psbench finds on this host, and how to get what is missing
    ///
    /// Engines of Python, launchers, what brokers are started from, the kernel and its limits, directories: what is missing is listed with
    /// the option that needs it. Nothing is started but programs that are asked for their version, for at most 5 seconds.
    ///
    /// Exit codes: 0 it looked at everything, whatever is missing; 2 bad input.
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Serve as a worker of another psbench, which starts it or has it started
    ///
    /// By hand this is of use to find out whether a host reaches the dispatcher; --executor mpi, slurm, ssh and --submit pilot have workers
    /// started. A worker ends with its dispatcher.
    Worker(Worker),
}

/// How psbench ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As asked.
    Success,
    /// A trial failed or lost items, or results could not be kept; or a service did not start or stop.
    TrialFailed,
    /// Nothing was run.
    BadInput,
    /// By the user.
    Interrupted,
}

impl Ending {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::TrialFailed => 1,
            Self::BadInput => 2,
            // As shells say of a program that SIGINT ended: 128 + 2.
            Self::Interrupted => 130,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        ending.code().into()
    }
}

/// Prints to standard output. That nobody reads it any more (`psbench … | head`) is no error.
fn print(text: impl Display) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
