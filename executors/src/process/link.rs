//! The connection to one worker, and the thread that attends to it.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::ProcessOptions;
use super::affinity::CorePlan;
use super::child::{End, Process};
use super::fleet::Fleet;
use super::frames::{Frame, Settings};
use super::outbox::Outbox;
use super::output::Output;
use super::wire::FrameReader;
use crate::{ExecutorError, Outcome, TaskError, WorkerId};

/// Given to a worker that hung up to be gone by itself, so that its own end is what is reported.
const LINGER: Duration = Duration::from_secs(2);

const OUT_OF_PLACE: &str = "it broke the protocol: a frame out of place";

/// One worker as the rest of the executor sees it.
pub(super) struct Link {
    /// For people.
    pub(super) label: String,
    pub(super) process: Process,
    pub(super) outbox: Outbox,
    worker: WorkerId,
    socket: Arc<UnixStream>,
    /// Why it is ended by force.
    verdict: OnceLock<String>,
}

/// A worker process that has no number yet.
pub(super) struct Start {
    process: Process,
    socket: UnixStream,
    output: Output,
}

impl Link {
    /// Starts a worker on the cores of a rank, if `cores` are shared out.
    pub(super) fn start(
        options: &ProcessOptions,
        cores: Option<&CorePlan>,
        rank: usize,
    ) -> Result<Start, ExecutorError> {
        let spawn = || Process::spawn(options);
        let (process, socket, output) = match cores {
            None => spawn()?,
            Some(cores) => cores
                .on_cores(rank, spawn)
                .map_err(|source| ExecutorError::Start { what: "a worker on cores of its own".to_owned(), source })??,
        };
        Ok(Start { process, socket, output })
    }

    /// Tells the worker to run nothing more and to finish. It sees that at once, whatever is queued before.
    pub(super) fn ask_to_end(&self) {
        self.outbox.close();
        // Fails for a worker that has ended.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends the worker by force. The first reason is the one that is told.
    pub(super) fn condemn(&self, reason: String) {
        let _ = self.verdict.set(reason);
        self.process.kill();
    }
}

impl Start {
    /// Starts the thread that sets the worker up, reads from it, and sees to its end.
    pub(super) fn attend(
        self,
        worker: WorkerId,
        fleet: &Arc<Fleet>,
    ) -> Result<(Arc<Link>, JoinHandle<()>), ExecutorError> {
        let label = format!("{worker} (pid {})", self.process.pid());
        let cannot_start = |source| ExecutorError::Start { what: format!("a thread for {label}"), source };
        let log = self.output.log(label.clone()).map_err(cannot_start)?;
        let socket = Arc::new(self.socket);
        let link = Arc::new(Link {
            label: label.clone(),
            process: self.process,
            outbox: Outbox::new(Arc::clone(&socket)),
            worker,
            socket,
            verdict: OnceLock::new(),
        });
        let attendant = thread::Builder::new()
            .name(format!("psbench-{}", worker.0))
            .spawn({
                let (link, fleet) = (Arc::clone(&link), Arc::clone(fleet));
                move || {
                    if let Err(misconduct) = link.serve(&fleet) {
                        link.condemn(misconduct);
                    }
                    let mut end = link.process.reap(LINGER);
                    let said_so = log.finish();
                    if let Some(verdict) = link.verdict.get() {
                        end = End::by_force(verdict.clone());
                    } else if let Some(signal) = end.signal
                        && let Some(remark) = link.process.evidence(said_so).remark(signal)
                    {
                        end.text = format!("{}; {remark}", end.text);
                    }
                    fleet.ended(worker, &end);
                }
            })
            .map_err(cannot_start)?;
        Ok((link, attendant))
    }
}

impl Link {
    /// Serves the worker until it hangs up.
    ///
    /// # Errors
    ///
    /// Why it has to be ended by force.
    fn serve(&self, fleet: &Arc<Fleet>) -> Result<(), String> {
        thread::scope(|scope| {
            thread::Builder::new()
                .name(format!("psbench-{}-out", self.worker.0))
                .spawn_scoped(scope, || self.outbox.write_stalled())
                .map_err(|error| format!("no thread can be started to write to it: {error}"))?;
            let result = self.converse(fleet);
            self.outbox.close();
            // Wakes the writer thread, and a worker that only stopped to read or write.
            let _ = self.socket.shutdown(Shutdown::Both);
            result
        })
    }

    fn converse(&self, fleet: &Arc<Fleet>) -> Result<(), String> {
        let options = &fleet.options;
        let settings = Settings { threads: options.threads_per_worker, task_timeout: options.task_timeout };
        let setup = Frame::Setup { worker: self.worker, settings, setup: options.setup.clone() };
        if self.outbox.push(setup) {
            self.outbox.flush();
        }
        let mut frames = FrameReader::new(&self.socket);
        if !self.becomes_ready(&mut frames, fleet.options.ready_timeout)? {
            return Ok(());
        }
        fleet.ready(self.worker);
        let mut outcomes = Vec::new();
        loop {
            match read(&mut frames)? {
                Some(Frame::Outcome { task, result }) => outcomes.push(Outcome {
                    task,
                    worker: Some(self.worker),
                    result: result.map_err(TaskError::Failed),
                }),
                Some(Frame::Overdue { task, begun }) => {
                    if !outcomes.is_empty() {
                        fleet.complete(self.worker, &mut outcomes)?;
                    }
                    return Err(fleet.overdue(self.worker, task, &begun));
                }
                Some(Frame::Finish(report)) => fleet.finished(self.worker, report),
                Some(_) => return Err(OUT_OF_PLACE.to_owned()),
                None => return Ok(()),
            }
            if !outcomes.is_empty() && !frames.has_frame() {
                fleet.complete(self.worker, &mut outcomes)?;
            }
        }
    }

    /// Waits for the first frame; `false` if the worker hangs up before.
    fn becomes_ready(&self, frames: &mut FrameReader<'_>, timeout: Duration) -> Result<bool, String> {
        let limit = |timeout| {
            self.socket.set_read_timeout(timeout).map_err(|error| format!("its time limit can't be set: {error}"))
        };
        // A limit of zero is refused by the system.
        limit(Some(timeout.max(Duration::from_millis(1))))?;
        let first = match frames.next() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(format!("not ready within {timeout:?}"));
            }
            first => hung_up(first)?,
        };
        limit(None)?;
        match first {
            Some(Frame::Ready(Ok(()))) => Ok(true),
            Some(Frame::Ready(Err(text))) => Err(format!("its setup failed: {text}")),
            Some(_) => Err(OUT_OF_PLACE.to_owned()),
            None => Ok(false),
        }
    }
}

fn read(frames: &mut FrameReader<'_>) -> Result<Option<Frame>, String> {
    hung_up(frames.next())
}

/// A worker that ends may do so within a frame, or with frames unread: all the same it is its end that tells why.
fn hung_up(frame: io::Result<Option<Frame>>) -> Result<Option<Frame>, String> {
    match frame {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(format!("it broke the protocol: {error}")),
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Err(format!("no memory for what it sent: {error}")),
        frame => Ok(frame.unwrap_or(None)),
    }
}
