//! Logs: at the terminal and in the run's log file, each at a level of its own.
//!
//! Beside `tracing`'s levels there are the two of ProxyStore's psbench. They are events at `info` with a target of their own:
//!
//! ```
//! tracing::info!(target: psbench::logging::BENCH, "trial finished");
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Write};

use clap::ValueEnum;
use indicatif::MultiProgress;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

/// Target of what a benchmark reports: one line for each trial.
pub const BENCH: &str = "bench";
/// Target of what is checked on the way.
pub const TEST: &str = "test";

/// What is logged; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[value(rename_all = "UPPER")]
pub enum LogLevel {
    /// What went wrong
    #[serde(alias = "error")]
    Error,
    /// What may go wrong, and its remedy
    #[serde(alias = "warning")]
    Warning,
    /// A line for each trial
    #[serde(alias = "bench")]
    Bench,
    /// What was checked
    #[serde(alias = "test")]
    Test,
    /// The steps of a trial
    #[serde(alias = "info")]
    Info,
    /// All that psbench has to tell
    #[serde(alias = "debug")]
    Debug,
}

impl LogLevel {
    /// The first level that includes an event; none for what the libraries below psbench tell, their warnings excepted.
    fn of(event: &Metadata<'_>) -> Option<Self> {
        let ours = ["psbench", "scistream"].iter().any(|name| event.target().starts_with(name));
        match (*event.level(), event.target()) {
            (Level::ERROR, _) => Some(Self::Error),
            (Level::WARN, _) => Some(Self::Warning),
            (Level::INFO, BENCH) => Some(Self::Bench),
            (Level::INFO, TEST) => Some(Self::Test),
            (Level::INFO, _) if ours => Some(Self::Info),
            (Level::DEBUG, _) if ours => Some(Self::Debug),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Bench => "BENCH",
            Self::Test => "TEST",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

/// Logs to standard error above the progress bars of `terminal`, and to `file`.
///
/// # Errors
/// Something logs already in this process.
pub fn start(
    terminal: MultiProgress,
    terminal_level: LogLevel,
    file: File,
    file_level: LogLevel,
) -> Result<(), tracing::dispatcher::SetGlobalDefaultError> {
    let above_bars = move || AboveBars(terminal.clone());
    tracing::subscriber::set_global_default(
        Registry::default().with(layer(above_bars, terminal_level, Line { dated: false })).with(layer(
            file,
            file_level,
            Line { dated: true },
        )),
    )
}

/// Logs the warnings of a worker process to standard error, from where the dispatcher's process takes them into its own log.
pub fn start_in_worker() {
    let stderr = layer(io::stderr, LogLevel::Warning, Line { dated: false });
    // That something logs already is no reason not to work.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(stderr));
}

/// Logs what a server does, to standard error.
///
/// # Errors
/// Something logs already in this process.
pub fn start_on_stderr(level: LogLevel) -> Result<(), tracing::dispatcher::SetGlobalDefaultError> {
    let stderr = layer(io::stderr, level, Line { dated: true });
    tracing::subscriber::set_global_default(Registry::default().with(stderr))
}

/// Lines to `writer` up to `level`.
fn layer<S, W>(writer: W, level: LogLevel, line: Line) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        // It would be told to standard error, and panic where that is what can't be written.
        .log_internal_errors(false)
        .event_format(line)
        .with_writer(writer)
        .with_filter(filter_fn(move |event| LogLevel::of(event).is_some_and(|of_event| of_event <= level)))
}

/// `[2026-11-20 18:31:02.123] BENCH (bench) :: message`, or without date and target.
struct Line {
    dated: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let level = LogLevel::of(metadata).map_or(metadata.level().as_str(), LogLevel::name);
        if self.dated {
            let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f");
            write!(writer, "[{now}] {level} ({}) :: ", metadata.target())?;
        } else {
            write!(writer, "{level:<7} ")?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Standard error, with the progress bars out of the way while a line is written.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What the level lets through of one event each.
    fn logged(level: LogLevel) -> String {
        #[derive(Clone, Default)]
        struct Memory(Arc<Mutex<Vec<u8>>>);

        impl Write for Memory {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(line)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = Registry::default().with(layer(move || writer.clone(), level, Line { dated: false }));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("an error");
            tracing::warn!(target: "redis", "a warning");
            tracing::info!(target: BENCH, "a trial");
            tracing::info!(target: TEST, "a check");
            tracing::info!("a step");
            tracing::debug!(target: "psbench_connectors::redis", "a detail");
            tracing::debug!(target: "redis", "noise");
            tracing::info!(target: "redis", "noise");
            tracing::trace!("noise");
        });
        let lines = memory.0.lock().unwrap().clone();
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn each_level_includes_those_before_it() {
        let all =
            "ERROR   an error\nWARNING a warning\nBENCH   a trial\nTEST    a check\nINFO    a step\nDEBUG   a detail\n";
        for (count, level) in LogLevel::value_variants().iter().enumerate() {
            let expected: String = all.split_inclusive('\n').take(count + 1).collect();
            assert_eq!(logged(*level), expected, "{level:?}");
        }
    }
}
