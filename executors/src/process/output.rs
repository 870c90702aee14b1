//! What worker processes print.
//!
//! Neither stream of a worker carries frames, so whatever the work or its libraries print does no harm.

use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use super::WorkerStderr;
use super::memory::tells_of_failed_allocation;
use crate::relay::relay;
use crate::sync::lock;

/// Longest line that is logged in one piece, in bytes.
const LINE: u64 = 4 << 10;
/// Given to the last lines of an ended worker. A process that the worker left behind may hold the pipe open for ever.
const LAST_LINES: Duration = Duration::from_millis(200);

/// Where the two streams of a worker lead.
pub(crate) struct Outlet {
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
    pub(crate) output: Output,
}

impl Outlet {
    pub(crate) fn open(handling: WorkerStderr) -> io::Result<Self> {
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
pub(crate) struct Output(Option<PipeReader>);

impl Output {
    /// Starts to log, in a thread of its own.
    pub(crate) fn log(self, worker: String) -> io::Result<Log> {
        let (running, ended) = mpsc::channel();
        let said = match self.0 {
            Some(pipe) => {
                let said = Arc::<Said>::default();
                let noted = Arc::clone(&said);
                thread::Builder::new().name("psbench-output".to_owned()).spawn(move || {
                    log_lines(pipe, &worker, &noted);
                    drop(running);
                })?;
                Some(said)
            }
            None => None,
        };
        Ok(Log { ended, said })
    }
}

/// The log of one worker.
pub(crate) struct Log {
    /// Disconnected at the end of the output.
    ended: mpsc::Receiver<()>,
    said: Option<Arc<Said>>,
}

/// What of its output is remembered.
#[derive(Default)]
struct Said {
    failed_allocation: AtomicBool,
    last_line: Mutex<String>,
}

impl Log {
    /// Waits, not for long, for the last lines of a worker that has ended. Tells whether it said that an allocation
    /// failed, `None` if its output is not read.
    pub(crate) fn finish(&self) -> Option<bool> {
        // Nothing is ever sent: it is the end of the sender that is waited for.
        let _ = self.ended.recv_timeout(LAST_LINES);
        self.said.as_ref().map(|said| said.failed_allocation.load(Ordering::Relaxed))
    }
}

impl Log {
    /// The last line that was no empty one.
    pub(crate) fn last_line(&self) -> Option<String> {
        let line = lock(&self.said.as_ref()?.last_line).clone();
        (!line.is_empty()).then_some(line)
    }
}

fn log_lines(pipe: impl Read, worker: &str, said: &Said) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = pipe.by_ref().take(LINE).read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if tells_of_failed_allocation(&text) {
            said.failed_allocation.store(true, Ordering::Relaxed);
        }
        if !text.is_empty() {
            relay(worker, &text);
            *lock(&said.last_line) = text.into_owned();
        }
        line.clear();
    }
}
