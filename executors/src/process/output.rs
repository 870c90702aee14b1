//! What worker processes print.
//!
//! Neither stream of a worker carries frames, so whatever the work or its libraries print does no harm.

use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::WorkerStderr;
use super::memory::tells_of_failed_allocation;

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
        let failed_allocation = match self.0 {
            Some(pipe) => {
                let failed = Arc::new(AtomicBool::new(false));
                let noted = Arc::clone(&failed);
                thread::Builder::new().name("psbench-output".to_owned()).spawn(move || {
                    log_lines(pipe, &worker, &noted);
                    drop(running);
                })?;
                Some(failed)
            }
            None => None,
        };
        Ok(Log { ended, failed_allocation })
    }
}

/// The log of one worker.
pub(super) struct Log {
    /// Disconnected at the end of the output.
    ended: mpsc::Receiver<()>,
    failed_allocation: Option<Arc<AtomicBool>>,
}

impl Log {
    /// Waits, not for long, for the last lines of a worker that has ended. Tells whether it said that an allocation
    /// failed, `None` if its output is not read.
    pub(super) fn finish(&self) -> Option<bool> {
        // Nothing is ever sent: it is the end of the sender that is waited for.
        let _ = self.ended.recv_timeout(LAST_LINES);
        self.failed_allocation.as_ref().map(|failed| failed.load(Ordering::Relaxed))
    }
}

fn log_lines(pipe: impl Read, worker: &str, failed_allocation: &AtomicBool) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = pipe.by_ref().take(LINE).read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if tells_of_failed_allocation(&text) {
            failed_allocation.store(true, Ordering::Relaxed);
        }
        if !text.is_empty() {
            tracing::warn!(worker, "{text}");
        }
        line.clear();
    }
}
