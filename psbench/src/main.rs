//! psbench: reads the command line, watches for signals, turns the ending into an exit code.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use mimalloc::MiMalloc;
use psbench::cli::{self, Cli, Command, Ending, Generate, StreamScaling};
use psbench::{brokers, worker};

/// glibc's allocator returns large blocks to the system and faults their pages in anew each time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::StreamScaling(sweep) => stream_scaling(&sweep),
        Command::Generate(generate) => self::generate(&generate),
        Command::Completions(shell) => shell.run().map(|()| Ending::Success).map_err(Into::into),
        Command::Worker => cli::serve().map(|()| Ending::Success).map_err(Into::into),
    };
    ended.unwrap_or_else(|error| fail(&error, Ending::TrialFailed)).into()
}

fn stream_scaling(sweep: &StreamScaling) -> anyhow::Result<Ending> {
    let interrupted = watch_signals().context("cannot watch for signals")?;
    Ok(sweep.run(interrupted).unwrap_or_else(|error| fail(&error, error.ending())))
}

fn generate(generate: &Generate) -> anyhow::Result<Ending> {
    let interrupted = watch_signals().context("cannot watch for signals")?;
    Ok(generate.run(&interrupted).unwrap_or_else(|error| fail(&error, error.ending())))
}

/// Removes what would outlast this process, as far as that goes in a moment. Worker processes see to theirs.
fn clean_up() {
    /// Whoever asks twice to leave does not want to wait for a server.
    const MOMENT: Duration = Duration::from_secs(2);
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        brokers::remove_sockets();
        worker::abandon_local();
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(MOMENT);
}

/// Errors of psbench name their causes themselves.
fn fail(error: &dyn Display, ending: Ending) -> Ending {
    eprintln!("error: {error}");
    ending
}

/// What the first SIGINT, SIGTERM or SIGHUP sets; the second one ends psbench at once.
fn watch_signals() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            clean_up();
            #[expect(clippy::exit, reason = "whoever asks a second time does not want to wait")]
            std::process::exit(Ending::Interrupted.code().into());
        }
    })?;
    Ok(interrupted)
}
