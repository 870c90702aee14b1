//! What worker processes print.
//!
//! Neither stream of a worker carries frames, so whatever the work or its libraries print does no harm.

use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::WorkerStderr;

/// Longest line that is logged in one piece, in bytes.
const LINE: u64 = 4 << 10;
/// Given to the last lines of an ended worker. A process that the worker left behind may hold the pipe open for ever.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Where the two streams of a worker lead.
pub(super) struct Outlet {
    pub(super) stdout: Stdio,
    pub(super) stderr: Stdio,
    pub(super) output: Output,
}

impl Outlet {
    pub(super) fn open(handling: WorkerStderr) -> io::Result<Self> {
        Ok(match handling {
            WorkerStderr::Log => {
                let (reader, writer) = io::pipe()?;
                Self { stdout: writer.try_clone()?.into(), stderr: writer.into(), output: Output(Some(reader)) }
            }
            WorkerStderr::Inherit => {
                Self { stdout: io::stderr().into(), stderr: Stdio::inherit(), output: Output(None) }
            }
            WorkerStderr::Discard => Self { stdout: Stdio::null(), stderr: Stdio::null(), output: Output(None) },
        })
    }
}

/// The readable end, if there is one.
pub(super) struct Output(Option<PipeReader>);

impl Output {
    /// Starts to log, in a thread of its own.
    pub(super) fn log(self, worker: String) -> io::Result<Log> {
        let (running, ended) = mpsc::channel();
        if let Some(pipe) = self.0 {
            thread::Builder::new().name("psbench-output".to_owned()).spawn(move || {
                log_lines(pipe, &worker);
                drop(running);
            })?;
        }
        Ok(Log { ended })
    }
}

/// The log of one worker.
pub(super) struct Log {
    /// Disconnected at the end of the output.
    ended: mpsc::Receiver<()>,
}

impl Log {
    /// Waits, not for long, for the last lines of a worker that has ended.
    pub(super) fn finish(&self) {
        // Nothing is ever sent: it is the end of the sender that is waited for.
        let _ = self.ended.recv_timeout(LAST_LINES);
    }
}

fn log_lines(pipe: impl Read, worker: &str) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = pipe.by_ref().take(LINE).read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if !text.is_empty() {
            tracing::warn!(worker, "{text}");
        }
        line.clear();
    }
}
