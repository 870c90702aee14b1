//! The program: reads the command line, watches for signals, turns the ending into an exit code.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use psbench_connectors::{CONNECTORS, ConnectorFactory, OWN_CONNECTORS};

use crate::brokers::{self, BrokerChoice, BrokerFactory, OWN_BROKERS};
use crate::cli::{
    self, Cli, Command, ComparePaths, Doctor, Ending, Generate, S2cs, S2uc, ServicesCommand, StreamScaling,
};
use crate::open_files::{self, OpenFiles};
use crate::plan::ExecutorKind;
use crate::signals::Interrupts;
use crate::sweep::{ExecutorFactory, OWN_EXECUTORS};
use crate::{image, signals, terminal, threads, worker};

/// psbench, with whatever connectors, brokers and executors a program adds to it.
///
/// What is added is chosen on the command line by its name, as psbench's own are; worker processes are started from the same program,
/// so they have it too. `examples/` of this package show one of each.
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     psbench::Program::new().run()
/// }
/// ```
#[derive(Debug, Default)]
pub struct Program {
    taken: Vec<&'static str>,
}

impl Program {
    /// psbench as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connector: `--ps-connector NAME`, with `--ps-place` as its place.
    #[must_use]
    pub fn connector(mut self, name: &'static str, factory: impl ConnectorFactory + 'static) -> Self {
        self.taken.extend(CONNECTORS.iter().any(|known| known.name == name).then_some(name));
        OWN_CONNECTORS.add(name, Arc::new(factory));
        self
    }

    /// Adds a broker: `--stream NAME`, with `--stream-servers` as its servers.
    #[must_use]
    pub fn broker(mut self, name: &'static str, factory: impl BrokerFactory + 'static) -> Self {
        self.taken.extend(BrokerChoice::NAMES.contains(&name).then_some(name));
        OWN_BROKERS.add(name, Arc::new(factory));
        self
    }

    /// Adds an executor: `--executor NAME`.
    #[must_use]
    pub fn executor(mut self, name: &'static str, factory: impl ExecutorFactory + 'static) -> Self {
        self.taken.extend(ExecutorKind::NAMES.contains(&name).then_some(name));
        OWN_EXECUTORS.add(name, Arc::new(factory));
        self
    }

    /// Does what the command line asks.
    pub fn run(self) -> ExitCode {
        if let Some(name) = self.taken.first() {
            let taken = format!("this program adds `{name}`, but psbench has one of that name: choose another");
            return fail(&taken, Ending::BadInput).into();
        }
        threads::end_where_refused(clean_up, Ending::TrialFailed.code());
        signals::outlive_file_limits();
        image::hold();
        // Before the options are read: an interrupt that comes early counts, too.
        if std::env::args_os().nth(1).is_some_and(|command| Interrupts::matter_to(&command))
            && let Err(error) = Interrupts::watch(clean_up)
        {
            return fail(&format!("cannot watch for signals: {error}"), Ending::TrialFailed).into();
        }
        let open_files = open_files::allow_more();
        let cli = match Cli::read() {
            Ok(cli) => cli,
            Err(problem) => return fail(&problem, Ending::BadInput).into(),
        };
        let ended = match cli.command {
            Command::StreamScaling(sweep) => stream_scaling(&sweep),
            Command::ComparePaths(sweep) => compare_paths(&sweep),
            Command::Generate(generate) => self::generate(&generate),
            Command::Services(services) => self::services(services),
            Command::S2cs(server) => s2cs(*server),
            Command::S2uc(client) => s2uc(*client),
            Command::Doctor(doctor) => self::doctor(doctor, open_files),
            Command::Completions(shell) => {
                shell.run().map_or_else(|error| fail(&error, Ending::TrialFailed), |()| Ending::Success)
            }
            Command::Worker(worker) => serve(worker),
        };
        ended.into()
    }
}

fn stream_scaling(sweep: &StreamScaling) -> Ending {
    sweep.run(interrupted()).unwrap_or_else(|error| fail(&error, error.ending()))
}

fn compare_paths(sweep: &ComparePaths) -> Ending {
    sweep.run(interrupted()).unwrap_or_else(|error| fail(&error, error.ending()))
}

fn generate(generate: &Generate) -> Ending {
    generate.run(&interrupted()).unwrap_or_else(|error| fail(&error, error.ending()))
}

fn serve(worker: cli::Worker) -> Ending {
    worker.run().map_or_else(|error| fail(&error, error.ending()), |()| Ending::Success)
}

fn s2cs(server: S2cs) -> Ending {
    server.run().unwrap_or_else(|error| fail(&error, error.ending()))
}

fn s2uc(client: S2uc) -> Ending {
    client.run().unwrap_or_else(|error| fail(&error, error.ending()))
}

fn doctor(doctor: Doctor, open_files: OpenFiles) -> Ending {
    doctor.run(open_files).map_or_else(|error| fail(&error, error.ending()), |()| Ending::Success)
}

fn services(services: ServicesCommand) -> Ending {
    services.run(&interrupted()).unwrap_or_else(|error| fail(&error, error.ending()))
}

fn interrupted() -> Arc<AtomicBool> {
    Interrupts::of_this_process().flag
}

/// Removes what would outlast this process, as far as that goes in a moment. Worker processes see to theirs.
fn clean_up() {
    /// Whoever asks twice to leave does not want to wait for a server.
    const MOMENT: Duration = Duration::from_secs(2);
    let (done, wait) = mpsc::channel();
    let abandon = || {
        worker::abandon_local();
        brokers::abandon();
        scistream::client::release_held_paths();
    };
    let started = thread::Builder::new().spawn(move || {
        abandon();
        let _ = done.send(());
    });
    if started.is_err() {
        return abandon();
    }
    let _ = wait.recv_timeout(MOMENT);
}

/// Errors of psbench name their causes themselves.
fn fail(error: &dyn Display, ending: Ending) -> Ending {
    terminal::tell(format_args!("error: {}", threads::with_remedy(error.to_string())));
    ending
}
