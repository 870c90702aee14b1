//! The workers of one executor: their tasks, their losses, their end.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ProcessOptions;
use super::frames::{Frame, MAX_HEAD, MAX_PAYLOAD};
use super::link::Link;
use super::schedule::Schedule;
use crate::courier::{Courier, deliver, not_run};
use crate::sync::{lock, wait, wait_timeout};
use crate::{ExecutorError, Outcome, OutcomeSink, Task, TaskError, TaskId, WorkerId, WorkerInfo, WorkerReport};

/// Replacements in a row that may fail before workers are no longer replaced.
const MAX_FAILED_STARTS: u32 = 3;

const SHUT_DOWN: &str = "the executor was shut down";

thread_local! {
    /// The worker whose outcomes this thread is delivering: tasks submitted from within are best sent back to it, all
    /// in one system call.
    static DELIVERING: Cell<Option<WorkerId>> = const { Cell::new(None) };
}

/// Shared by the executor and the threads that attend to its workers.
pub(super) struct Fleet {
    pub(super) options: ProcessOptions,
    sink: Arc<dyn OutcomeSink>,
    courier: Courier,
    state: Mutex<State>,
    /// A worker became ready or ended.
    changed: Condvar,
}

struct State {
    schedule: Schedule,
    /// Every worker there ever was, by number.
    members: Vec<Member>,
    phase: Phase,
    /// Replacements that are being started.
    arriving: u32,
    failed_starts: u32,
    /// One thread for each worker.
    attendants: Vec<JoinHandle<()>>,
}

struct Member {
    info: WorkerInfo,
    /// `None` once it has ended.
    link: Option<Arc<Link>>,
    ready: bool,
    finish: Option<Bytes>,
}

enum Phase {
    Starting,
    Running,
    /// No workers are left, for this reason.
    Exhausted(String),
    ShutDown,
}

impl State {
    /// Hands out tasks while there are both tasks and workers for them; returns the links to flush.
    #[must_use]
    fn assign(&mut self, preferred: Option<WorkerId>) -> Vec<Arc<Link>> {
        let mut touched = Vec::new();
        while let Some((worker, task)) = self.schedule.next(preferred) {
            // The schedule knows of no worker that has ended.
            if let Some(link) = &self.member(worker).link
                && link.outbox.push(Frame::Task(task))
            {
                touched.push(Arc::clone(link));
            }
        }
        touched
    }

    fn member(&mut self, worker: WorkerId) -> &mut Member {
        &mut self.members[worker.0 as usize]
    }

    fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.members.iter().filter_map(|member| member.link.as_ref())
    }

    fn refusal(&self) -> Option<&str> {
        match &self.phase {
            Phase::Starting | Phase::Running => None,
            Phase::Exhausted(reason) => Some(reason),
            Phase::ShutDown => Some(SHUT_DOWN),
        }
    }
}

fn flush(links: Vec<Arc<Link>>) {
    for link in links {
        link.outbox.flush();
    }
}

impl Fleet {
    pub(super) fn new(options: ProcessOptions, sink: Arc<dyn OutcomeSink>) -> Result<Self, ExecutorError> {
        Ok(Self {
            courier: Courier::start(Arc::clone(&sink))?,
            sink,
            state: Mutex::new(State {
                schedule: Schedule::new(options.capacity as usize, options.sharing as usize),
                members: Vec::new(),
                phase: Phase::Starting,
                arriving: 0,
                failed_starts: 0,
                attendants: Vec::new(),
            }),
            changed: Condvar::new(),
            options,
        })
    }

    /// Starts one worker. It is given tasks once it is ready.
    pub(super) fn enlist(self: &Arc<Self>) -> Result<(), ExecutorError> {
        let start = Link::start(&self.options)?;
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::ShutDown) {
            // Dropped, it ends.
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, reason = "no machine starts four billion processes")]
        let worker = WorkerId(state.members.len() as u32);
        let (link, attendant) = start.attend(worker, self)?;
        state.schedule.add();
        state.members.push(Member {
            info: WorkerInfo {
                id: worker,
                label: link.label.clone(),
                pid: Some(link.process.pid()),
                alive: true,
                end: None,
            },
            link: Some(link),
            ready: false,
            finish: None,
        });
        state.attendants.retain(|thread| !thread.is_finished());
        state.attendants.push(attendant);
        Ok(())
    }

    /// Waits until every worker is ready. Each has its own time limit.
    pub(super) fn wait_ready(&self) -> Result<(), ExecutorError> {
        let mut state = lock(&self.state);
        loop {
            if state.members.iter().any(|member| !member.info.alive) {
                let ends: Vec<String> = state
                    .members
                    .iter()
                    .filter_map(|member| Some((&member.info.label, member.info.end.as_ref()?)))
                    .map(|(label, end)| format!("; {label}: {end}"))
                    .collect();
                return Err(ExecutorError::NotReady {
                    ready: state.members.iter().filter(|member| member.info.alive && member.ready).count(),
                    wanted: state.members.len(),
                    detail: ends.concat(),
                });
            }
            if state.members.iter().all(|member| member.ready) {
                state.phase = Phase::Running;
                return Ok(());
            }
            state = wait(&self.changed, state);
        }
    }

    pub(super) fn submit(&self, mut tasks: Vec<Task>) {
        let fits = |task: &Task| task.head.len() <= MAX_HEAD && task.payload.len() <= MAX_PAYLOAD;
        if !tasks.iter().all(fits) {
            let refused = tasks.extract_if(.., |task| !fits(task)).map(|task| task.id);
            let reason = format!("more than {MAX_HEAD} bytes of head or {MAX_PAYLOAD} of payload");
            self.courier.refuse(refused, &reason);
        }
        let touched = {
            let mut state = lock(&self.state);
            if let Some(reason) = state.refusal() {
                return self.courier.refuse(tasks.iter().map(|task| task.id), reason);
            }
            state.schedule.enqueue(tasks);
            state.assign(DELIVERING.get())
        };
        flush(touched);
    }

    pub(super) fn cancel(&self, task: TaskId) {
        let holder = {
            let mut state = lock(&self.state);
            if state.schedule.withdraw(task) {
                return self.courier.refuse([task], "cancelled before it ran");
            }
            state.schedule.holder(task).and_then(|worker| state.member(worker).link.clone())
        };
        if let Some(link) = holder
            && link.outbox.push(Frame::Cancel(task))
        {
            link.outbox.flush();
        }
    }

    pub(super) fn workers(&self) -> Vec<WorkerInfo> {
        let state = lock(&self.state);
        state.members.iter().map(|member| member.info.clone()).collect()
    }

    pub(super) fn shutdown(&self, grace: Duration) -> Vec<WorkerReport> {
        let begun = Instant::now();
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::ShutDown) {
            return Vec::new();
        }
        state.phase = Phase::ShutDown;
        for link in state.links() {
            link.ask_to_end();
        }
        let never_run = not_run(state.schedule.drain(), SHUT_DOWN);
        drop(state);
        deliver(&*self.sink, never_run);

        state = lock(&self.state);
        while state.links().next().is_some() {
            let left = grace.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            state = wait_timeout(&self.changed, state, left);
        }
        for link in state.links() {
            link.process.kill();
        }
        // A thread that replaces its worker may still add another, which finds the executor shut down.
        let attendants = std::mem::take(&mut state.attendants);
        drop(state);
        for attendant in attendants {
            if attendant.join().is_err() {
                tracing::error!("outcomes may be missing: the sink has panicked");
            }
        }
        self.courier.settle();
        let state = lock(&self.state);
        let report = |member: &Member| WorkerReport { worker: member.info.clone(), finish: member.finish.clone() };
        state.members.iter().map(report).collect()
    }

    /// A worker's work is made.
    pub(super) fn ready(&self, worker: WorkerId) {
        let touched = {
            let mut state = lock(&self.state);
            state.failed_starts = 0;
            state.member(worker).ready = true;
            if matches!(state.phase, Phase::ShutDown) {
                return;
            }
            state.schedule.open(worker);
            state.assign(Some(worker))
        };
        self.changed.notify_all();
        flush(touched);
    }

    /// A worker ended tasks.
    ///
    /// # Errors
    ///
    /// It did not hold all of them.
    pub(super) fn complete(&self, worker: WorkerId, outcomes: &mut Vec<Outcome>) -> Result<(), String> {
        let told = outcomes.len();
        let touched = {
            let mut state = lock(&self.state);
            outcomes.retain(|outcome| state.schedule.complete(worker, outcome.task));
            state.assign(Some(worker))
        };
        flush(touched);
        let held = outcomes.len();
        DELIVERING.set(Some(worker));
        self.sink.deliver(outcomes);
        DELIVERING.set(None);
        if held < told {
            return Err("it told of a task that it did not hold".to_owned());
        }
        Ok(())
    }

    /// A worker told what it had to tell at its end.
    pub(super) fn finished(&self, worker: WorkerId, report: Bytes) {
        lock(&self.state).member(worker).finish = Some(report);
    }

    /// A worker has ended. Its tasks end with it, and another takes its place.
    pub(super) fn lost(self: &Arc<Self>, worker: WorkerId, end: &str) {
        let (outcomes, replace) = {
            let mut state = lock(&self.state);
            let held = state.schedule.close(worker);
            let shut_down = matches!(state.phase, Phase::ShutDown);
            let replace = matches!(state.phase, Phase::Running);
            let member = state.member(worker);
            member.info.alive = false;
            member.link = None;
            let outcomes = if shut_down {
                ended_in_shutdown(member, held, end)
            } else {
                tracing::warn!(worker = member.info.label, end, held = held.len(), "worker lost");
                member.info.end = Some(end.to_owned());
                held.into_iter().map(|task| lost_with(&member.info, task, end)).collect()
            };
            let failed_start = !member.ready;
            state.failed_starts += u32::from(failed_start);
            state.arriving += u32::from(replace);
            (outcomes, replace)
        };
        self.changed.notify_all();
        deliver(&*self.sink, outcomes);
        if replace {
            self.replace(end.to_owned());
        }
    }

    fn replace(self: &Arc<Self>, mut reason: String) {
        while lock(&self.state).failed_starts < MAX_FAILED_STARTS {
            match self.enlist() {
                Ok(()) => break,
                Err(error) => {
                    reason = error.to_string();
                    tracing::warn!(%error, "worker not replaced");
                    lock(&self.state).failed_starts += 1;
                }
            }
        }
        let never_run = {
            let mut state = lock(&self.state);
            state.arriving -= 1;
            if state.arriving > 0 || state.links().next().is_some() || !matches!(state.phase, Phase::Running) {
                return;
            }
            let reason = format!(
                "no workers are left: {MAX_FAILED_STARTS} replacements in a row were never ready, the last: {reason}"
            );
            tracing::error!(reason);
            let never_run = not_run(state.schedule.drain(), &reason);
            state.phase = Phase::Exhausted(reason);
            never_run
        };
        deliver(&*self.sink, never_run);
    }
}

fn lost_with(worker: &WorkerInfo, task: TaskId, end: &str) -> Outcome {
    Outcome {
        task,
        worker: Some(worker.id),
        result: Err(TaskError::WorkerLost { label: worker.label.clone(), reason: end.to_owned() }),
    }
}

/// A worker that finished has left alone what it still held. One that did not was within the first of its tasks.
fn ended_in_shutdown(member: &Member, mut held: VecDeque<TaskId>, end: &str) -> Vec<Outcome> {
    let running = if member.finish.is_some() { None } else { held.pop_front() };
    let mut outcomes = not_run(held, SHUT_DOWN);
    outcomes.extend(running.map(|task| {
        let end = format!("{end}, still running at the end of the shutdown's grace");
        lost_with(&member.info, task, &end)
    }));
    outcomes
}
