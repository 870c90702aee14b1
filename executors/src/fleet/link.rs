//! The connection to one worker, and the thread that attends to it.

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Fleet;
use super::channel::Channel;
use super::frames::{Frame, Settings};
use super::member::{End, Recruit, WorkerProcess};
use super::outbox::Outbox;
use super::wire::FrameReader;
use crate::{ExecutorError, Outcome, TaskError, WorkerId};

/// Given to a worker that hung up to be gone by itself, so that its own end is what is reported.
const LINGER: Duration = Duration::from_secs(2);

const OUT_OF_PLACE: &str = "it broke the protocol: a frame out of place";

/// One worker as the rest of the executor sees it.
pub(super) struct Link {
    /// For people.
    pub(super) label: String,
    pub(super) process: Box<dyn WorkerProcess>,
    pub(super) outbox: Outbox,
    worker: WorkerId,
    channel: Arc<Channel>,
    /// Why it is ended by force.
    verdict: OnceLock<String>,
}

impl Link {
    /// Tells the worker to run nothing more and to finish. It sees that at once, whatever is queued before.
    pub(super) fn ask_to_end(&self) {
        self.outbox.close();
        self.channel.shut_down(Shutdown::Write);
    }

    /// Ends the worker by force. The first reason is the one that is told.
    pub(super) fn condemn(&self, reason: String) {
        let _ = self.verdict.set(reason);
        self.process.kill();
    }
}

impl Recruit {
    /// Starts the thread that sets the worker up, reads from it, and sees to its end.
    pub(super) fn attend(
        self,
        worker: WorkerId,
        fleet: &Arc<Fleet>,
    ) -> Result<(Arc<Link>, JoinHandle<()>), ExecutorError> {
        let label = format!("{worker} ({})", self.process.place());
        let cannot_start = |source| ExecutorError::Start { what: format!("a thread for {label}"), source };
        self.process.name(&label).map_err(cannot_start)?;
        let channel = Arc::new(self.channel);
        let link = Arc::new(Link {
            label: label.clone(),
            process: self.process,
            outbox: Outbox::new(Arc::clone(&channel)),
            worker,
            channel,
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
                    if let Some(verdict) = link.verdict.get() {
                        end = End::by_force(verdict.clone());
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
            self.channel.shut_down(Shutdown::Both);
            result
        })
    }

    fn converse(&self, fleet: &Arc<Fleet>) -> Result<(), String> {
        let terms = &fleet.terms;
        let settings = Settings { threads: terms.threads_per_worker, task_timeout: terms.task_timeout };
        let setup = Frame::Setup { worker: self.worker, settings, setup: terms.setup.clone() };
        if self.outbox.push(setup) {
            self.outbox.flush();
        }
        let mut frames = FrameReader::new(&self.channel);
        if !self.becomes_ready(&mut frames, fleet)? {
            return Ok(());
        }
        fleet.ready(self.worker);
        let mut outcomes = Vec::new();
        loop {
            let frame = read(&mut frames)?;
            self.process.heard();
            match frame {
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
                Some(Frame::Alive) => {}
                Some(_) => return Err(OUT_OF_PLACE.to_owned()),
                None => return Ok(()),
            }
            if !outcomes.is_empty() && !frames.has_frame() {
                fleet.complete(self.worker, &mut outcomes)?;
            }
        }
    }

    /// Waits for the first frame; `false` if the worker hangs up before.
    fn becomes_ready(&self, frames: &mut FrameReader<'_>, fleet: &Fleet) -> Result<bool, String> {
        let timeout = fleet.terms.ready_timeout;
        let limit = |timeout| {
            self.channel.set_read_timeout(timeout).map_err(|error| format!("its time limit can't be set: {error}"))
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
            Some(Frame::Ready(Err(text))) => {
                fleet.refused();
                Err(format!("its setup failed: {text}"))
            }
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
