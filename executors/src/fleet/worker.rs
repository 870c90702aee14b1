//! The worker's side: what a worker process does all its life.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::sockopt::socket_type;
use rustix::net::{SendFlags, SocketType};
use rustix::stdio::{dup2_stdin, stdin};

use super::channel::Channel;
use super::crew::Crew;
use super::deadline::Deadline;
use super::frames::{Frame, MAX_HEAD, MAX_OUTCOME, Settings};
use super::lifeline::Lifeline;
pub(crate) use super::lifeline::Reach;
use super::wire::{FrameReader, SendQueue};
use crate::orders::Orders;
use crate::run::{finish, progress, run};
use crate::sync::lock;
use crate::{Task, TaskContext, TaskId, Work, WorkerId};

/// Outcomes that leave together at the latest: the executor can refill the worker while the next tasks run.
const BATCH: usize = 32;
/// The lowest descriptor that is not one of the three standard streams.
const FIRST_FREE: i32 = 3;

/// Why a worker process ended other than because it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Standard input is not what an executor gives to its workers.
    #[error(
        "standard input is not an executor's socket: this program is to be started by a ProcessExecutor, or told whom to connect to"
    )]
    NotAWorker,
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The work could not be made; the executor was told, too.
    #[error("setup failed: {0}")]
    Setup(String),
    /// The executor sent something that makes no sense at this point.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
}

fn cannot(what: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::Io { what, source }
}

/// Serves the [`ProcessExecutor`](crate::process::ProcessExecutor) that started this process, until it asks for the end.
///
/// Takes the socket away from standard input, which is empty from then on. `make_work` gets
/// [`ProcessOptions::setup`](crate::process::ProcessOptions::setup); its error is told to the executor. Shared tasks run on
/// the calling thread, one after the other, or with more than one
/// [`threads_per_worker`](crate::process::ProcessOptions::threads_per_worker) each on one of so many threads; exclusive ones run
/// on a thread of their own.
///
/// If the executor vanishes, [`Work::abandoned`] is called and the process exits within about 2 s, whatever its tasks
/// do.
///
/// # Errors
///
/// [`ServeError::NotAWorker`] if the process was not started by an executor; the others as their descriptions say.
pub fn serve(make_work: impl FnOnce(Bytes) -> Result<Arc<dyn Work>, String>) -> Result<(), ServeError> {
    serve_on(take_socket()?, Reach::Host, make_work)
}

/// Serves the executor at the other end of a channel.
pub(crate) fn serve_on(
    channel: Channel,
    reach: Reach,
    make_work: impl FnOnce(Bytes) -> Result<Arc<dyn Work>, String>,
) -> Result<(), ServeError> {
    let channel = Arc::new(channel);
    let outcomes = Arc::new(Outcomes::new(Arc::clone(&channel)));
    let lifeline = Lifeline::watch(Arc::clone(&channel), reach, Arc::clone(&outcomes))
        .map_err(cannot("start the lifeline thread"))?;
    let mut frames = FrameReader::<Frame>::new(&channel);
    let (worker, settings, setup) = match frames.next().map_err(cannot("read the setup"))? {
        Some(Frame::Setup { worker, settings, setup }) => (worker, settings, setup),
        Some(_) => return Err(ServeError::Protocol("the first frame is no setup")),
        None => {
            lifeline.await_ending();
            return Ok(());
        }
    };
    let work = match make_work(setup) {
        Ok(work) => work,
        Err(text) => {
            outcomes.push(Frame::Ready(Err(text.clone())));
            outcomes.flush();
            return Err(ServeError::Setup(text));
        }
    };
    lifeline.protect(&work);
    let runner = Runner { worker, work, outcomes, lifeline, deadline: None };
    let mut worker = Worker::start(runner, settings)?;
    worker.runner.outcomes.push(Frame::Ready(Ok(())));
    worker.runner.lifeline.begin_to_beat();
    worker.run_tasks(&mut frames)?;
    worker.finish();
    Ok(())
}

/// Moves the socket to a descriptor of its own, so that nothing the work does to standard input can hit it.
fn take_socket() -> Result<Channel, ServeError> {
    match socket_type(stdin()) {
        Ok(SocketType::STREAM) => {}
        _ => return Err(ServeError::NotAWorker),
    }
    let socket =
        fcntl_dupfd_cloexec(stdin(), FIRST_FREE).map_err(|errno| cannot("duplicate standard input")(errno.into()))?;
    let null = File::open("/dev/null").map_err(cannot("open /dev/null"))?;
    dup2_stdin(null).map_err(|errno| cannot("replace standard input")(errno.into()))?;
    Ok(socket.into())
}

/// Frames on their way to the executor.
pub(super) struct Outcomes {
    channel: Arc<Channel>,
    queue: Mutex<SendQueue>,
}

impl Outcomes {
    fn new(channel: Arc<Channel>) -> Self {
        Self { channel, queue: Mutex::default() }
    }

    /// Queues a frame; returns how many there are.
    pub(super) fn push(&self, frame: Frame) -> usize {
        let mut queue = lock(&self.queue);
        queue.push(frame);
        queue.len()
    }

    /// Sends all. The executor always reads, so this does not wait for long.
    pub(super) fn flush(&self) {
        // It fails when the executor is gone, which is the lifeline's business.
        let _ = lock(&self.queue).send(&self.channel, SendFlags::empty());
    }
}

/// What runs shared tasks, on whichever thread.
pub(super) struct Runner {
    worker: WorkerId,
    work: Arc<dyn Work>,
    outcomes: Arc<Outcomes>,
    lifeline: Arc<Lifeline>,
    deadline: Option<Arc<Deadline>>,
}

impl Runner {
    /// Runs a task on the thread of this number. Its outcome leaves at once if the thread `rests` after it, else with
    /// some of those that follow.
    pub(super) fn run(&self, thread: usize, task: Task, rests: impl FnOnce() -> bool) {
        let id = task.id;
        if self.deadline.as_ref().is_some_and(|deadline| !deadline.begin(thread, id)) {
            return;
        }
        let flush = || self.outcomes.flush();
        let context = TaskContext::new(self.worker, &|| false, &flush);
        let queued = self.outcomes.push(outcome(id, run(&*self.work, task, &context)));
        if let Some(deadline) = &self.deadline {
            deadline.end(thread);
        }
        if queued >= BATCH || rests() {
            self.outcomes.flush();
        }
    }

    /// Sends the outcomes that were held back to leave together.
    pub(super) fn flush(&self) {
        self.outcomes.flush();
    }

    /// Whether the executor wants no more tasks to begin.
    pub(super) fn is_ending(&self) -> bool {
        self.lifeline.is_ending()
    }
}

struct Worker {
    runner: Arc<Runner>,
    /// `None` if shared tasks run on the main thread, which saves the way to another.
    crew: Option<Crew>,
    /// The last exclusive task.
    exclusive: Option<Exclusive>,
}

struct Exclusive {
    task: TaskId,
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(mut runner: Runner, settings: Settings) -> Result<Self, ServeError> {
        let threads = settings.threads as usize;
        if let Some(limit) = settings.task_timeout {
            let deadline = Deadline::watch(limit, threads, Arc::clone(&runner.outcomes));
            runner.deadline = Some(deadline.map_err(cannot("start the deadline thread"))?);
        }
        let runner = Arc::new(runner);
        let crew = match threads {
            1 => None,
            _ => Some(Crew::start(threads, &runner).map_err(cannot("start the threads for shared tasks"))?),
        };
        Ok(Self { runner, crew, exclusive: None })
    }

    /// Runs tasks until the executor wants the end.
    fn run_tasks(&mut self, frames: &mut FrameReader<'_>) -> Result<(), ServeError> {
        self.runner.outcomes.flush();
        while !self.runner.is_ending() {
            let frame = match frames.next() {
                Ok(Some(frame)) => frame,
                // However the stream ends, the lifeline knows whether that is meant.
                Ok(None) => break,
                Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => break,
                Err(error) => return Err(cannot("read a frame")(error)),
            };
            match frame {
                Frame::Task(task) if task.exclusive => self.start_exclusive(task)?,
                Frame::Task(task) => match &self.crew {
                    Some(crew) => crew.push(task),
                    None => self.runner.run(0, task, || !frames.has_frame()),
                },
                Frame::Cancel(task) => {
                    if let Some(exclusive) = self.exclusive.as_ref().filter(|it| it.task == task) {
                        exclusive.orders.cancel();
                    }
                }
                Frame::Tell { task, number } => {
                    if let Some(exclusive) = self.exclusive.as_ref().filter(|it| it.task == task) {
                        exclusive.orders.told.tell(number);
                    }
                }
                Frame::Report => {
                    self.runner.outcomes.push(Frame::Finish(progress(&*self.runner.work)));
                    if !frames.has_frame() {
                        self.runner.outcomes.flush();
                    }
                }
                _ => return Err(ServeError::Protocol("a frame that is not for workers")),
            }
        }
        self.runner.lifeline.await_ending();
        Ok(())
    }

    /// A thread of its own lets the main thread read the order to cancel.
    fn start_exclusive(&mut self, task: Task) -> Result<(), ServeError> {
        let id = task.id;
        let orders = Arc::<Orders>::default();
        let run_exclusive = {
            let (runner, orders) = (Arc::clone(&self.runner), Arc::clone(&orders));
            move || {
                let is_cancelled = || orders.is_cancelled() || runner.is_ending();
                let flush = || runner.outcomes.flush();
                let context = TaskContext::new(runner.worker, &is_cancelled, &flush).telling(&orders.told);
                runner.outcomes.push(outcome(id, run(&*runner.work, task, &context)));
                runner.outcomes.flush();
            }
        };
        let thread = thread::Builder::new()
            .name("psbench-exclusive".to_owned())
            .spawn(run_exclusive)
            .map_err(cannot("start a thread for an exclusive task"))?;
        self.exclusive = Some(Exclusive { task: id, orders, thread });
        Ok(())
    }

    fn finish(mut self) {
        if let Some(crew) = self.crew.take() {
            crew.finish();
        }
        if let Some(exclusive) = self.exclusive.take() {
            // Panics of the work are caught within.
            let _ = exclusive.thread.join();
        }
        let outcomes = &self.runner.outcomes;
        match finish(&*self.runner.work) {
            Some(report) if report.len() <= MAX_HEAD => {
                outcomes.push(Frame::Finish(report));
            }
            Some(report) => {
                tracing::error!(bytes = report.len(), limit = MAX_HEAD, "end report dropped");
            }
            None => {}
        }
        outcomes.flush();
        self.runner.lifeline.rest();
    }
}

fn outcome(task: TaskId, result: Result<Bytes, String>) -> Frame {
    let result = result.and_then(|bytes| {
        if bytes.len() <= MAX_OUTCOME {
            Ok(bytes)
        } else {
            Err(format!("an outcome of {} bytes is more than the {MAX_OUTCOME} that an executor takes", bytes.len()))
        }
    });
    Frame::Outcome { task, result }
}
