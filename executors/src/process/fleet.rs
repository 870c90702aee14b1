//! The workers of one executor and their tasks.
//!
//! How workers end is the matter of [`ending`](super::ending), when others are started that of [`watch`](super::watch).

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;

use super::ProcessOptions;
use super::affinity::CorePlan;
use super::frames::{Frame, MAX_HEAD, MAX_PAYLOAD};
use super::link::Link;
use super::roster::Roster;
use super::schedule::{Limits, Schedule};
use super::setbacks::Setbacks;
use crate::courier::{Courier, SHUT_DOWN};
use crate::sync::{lock, wait};
use crate::{ExecutorError, Outcome, OutcomeSink, Task, TaskId, WorkerId, WorkerInfo};

thread_local! {
    /// The worker whose outcomes this thread is delivering: tasks submitted from within are best sent back to it, all
    /// in one system call.
    static DELIVERING: Cell<Option<WorkerId>> = const { Cell::new(None) };
}

/// Shared by the executor and the threads that attend to its workers.
pub(super) struct Fleet {
    pub(super) options: ProcessOptions,
    pub(super) sink: Arc<dyn OutcomeSink>,
    pub(super) courier: Courier,
    pub(super) state: Mutex<State>,
    /// A worker became ready or ended.
    pub(super) changed: Condvar,
    /// There may be something to do for the thread that watches over the workers.
    pub(super) stirred: Condvar,
    /// `None` if workers may use all cores.
    cores: Option<CorePlan>,
}

pub(super) struct State {
    pub(super) schedule: Schedule,
    pub(super) roster: Roster,
    pub(super) phase: Phase,
    pub(super) setbacks: Setbacks,
    /// One for each worker, and the one that watches over them.
    pub(super) threads: Vec<JoinHandle<()>>,
}

#[derive(PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Running,
    /// No workers are left, for this reason.
    Exhausted(String),
    ShutDown,
}

impl State {
    /// Notes that a worker ended tasks; returns its link if they were the last before it leaves.
    fn note_work(&mut self, worker: WorkerId) -> Option<Arc<Link>> {
        let present = self.roster.get_mut(worker)?;
        if !present.proven {
            present.proven = true;
            self.setbacks.worked();
        }
        if present.leaving.is_none() || present.asked.is_some() || !self.schedule.is_idle(worker) {
            return None;
        }
        present.asked = Some(Instant::now());
        Some(Arc::clone(&present.link))
    }

    fn refusal(&self) -> Option<&str> {
        match &self.phase {
            Phase::Starting | Phase::Running => None,
            Phase::Exhausted(reason) => Some(reason),
            Phase::ShutDown => Some(SHUT_DOWN),
        }
    }
}

pub(super) fn flush(links: Vec<Arc<Link>>) {
    for link in links {
        link.outbox.flush();
    }
}

impl Fleet {
    pub(super) fn new(options: ProcessOptions, sink: Arc<dyn OutcomeSink>) -> Result<Self, ExecutorError> {
        let (threads, workers) = (options.threads_per_worker as usize, options.workers as usize);
        let limits = Limits {
            threads,
            held: threads.saturating_mul(options.capacity as usize),
            // While one that leaves is replaced there are more workers, but no more slots.
            sharing: threads.saturating_mul(workers).min(options.sharing as usize),
            per_worker: options.max_tasks_per_worker,
            recall: options.task_timeout.is_some(),
        };
        let cores = options.cpu_affinity.as_ref().map(|affinity| CorePlan::new(affinity, workers)).transpose()?;
        Ok(Self {
            courier: Courier::start(Arc::clone(&sink))?,
            sink,
            state: Mutex::new(State {
                schedule: Schedule::new(limits),
                roster: Roster::default(),
                phase: Phase::Starting,
                setbacks: Setbacks::default(),
                threads: Vec::new(),
            }),
            changed: Condvar::new(),
            stirred: Condvar::new(),
            cores,
            options,
        })
    }

    /// Starts one worker. It is given tasks once it is ready. Called by one thread at a time.
    pub(super) fn enlist(self: &Arc<Self>) -> Result<(), ExecutorError> {
        let rank = lock(&self.state).roster.next_rank(self.options.workers as usize);
        let start = Link::start(&self.options, self.cores.as_ref(), rank)?;
        let mut state = lock(&self.state);
        if state.phase == Phase::ShutDown {
            // Dropped, it ends.
            return Ok(());
        }
        let worker = state.roster.next_id();
        let (link, attendant) = start.attend(worker, self)?;
        state.schedule.add(worker);
        state.roster.add(worker, link, rank);
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(attendant);
        Ok(())
    }

    /// Waits until every worker is ready. Each has its own time limit.
    pub(super) fn wait_ready(&self) -> Result<(), ExecutorError> {
        let mut state = lock(&self.state);
        loop {
            let roster = &state.roster;
            let ready = roster.present().filter(|(_, present)| present.ready).count();
            let wanted = roster.infos().len();
            if roster.infos().any(|info| !info.alive) {
                let ends = roster.infos().filter_map(|info| Some((&info.label, info.end.as_ref()?)));
                let detail = ends.map(|(label, end)| format!("; {label}: {end}")).collect();
                return Err(ExecutorError::NotReady { ready, wanted, detail });
            }
            if ready == wanted {
                state.phase = Phase::Running;
                return Ok(());
            }
            state = wait(&self.changed, state);
        }
    }

    /// Hands out tasks while there are both tasks and workers for them; returns the links to flush.
    #[must_use]
    pub(super) fn assign(&self, state: &mut State, preferred: Option<WorkerId>) -> Vec<Arc<Link>> {
        let mut touched = Vec::new();
        while let Some((worker, task)) = state.schedule.next(preferred) {
            // The schedule knows of no worker that has ended.
            let Some(present) = state.roster.get_mut(worker) else {
                continue;
            };
            if present.link.outbox.push(Frame::Task(task)) {
                touched.push(Arc::clone(&present.link));
            }
            if let Some(tasks) = self.options.max_tasks_per_worker
                && state.schedule.is_spent(worker)
            {
                present.leaving = Some(format!("retired after {tasks} tasks"));
                self.stirred.notify_one();
            }
        }
        if state.schedule.call() > 0 {
            self.stirred.notify_one();
        }
        touched
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
            self.assign(&mut state, DELIVERING.get())
        };
        flush(touched);
    }

    pub(super) fn cancel(&self, task: TaskId) {
        let holder = {
            let mut state = lock(&self.state);
            if state.schedule.withdraw(task) {
                return self.courier.refuse([task], "cancelled before it ran");
            }
            let holder = state.schedule.holder(task).and_then(|worker| state.roster.get(worker));
            holder.map(|present| Arc::clone(&present.link))
        };
        if let Some(link) = holder
            && link.outbox.push(Frame::Cancel(task))
        {
            link.outbox.flush();
        }
    }

    pub(super) fn workers(&self) -> Vec<WorkerInfo> {
        let state = lock(&self.state);
        state.roster.infos().cloned().collect()
    }

    /// A worker's work is made.
    pub(super) fn ready(&self, worker: WorkerId) {
        let touched = {
            let mut state = lock(&self.state);
            state.setbacks.started();
            if let Some(present) = state.roster.get_mut(worker) {
                present.ready = true;
            }
            if state.phase == Phase::ShutDown {
                return;
            }
            state.schedule.open(worker);
            self.assign(&mut state, Some(worker))
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
        let (touched, leaver) = {
            let mut state = lock(&self.state);
            outcomes.retain(|outcome| state.schedule.complete(worker, outcome.task));
            let touched = self.assign(&mut state, Some(worker));
            (touched, state.note_work(worker))
        };
        flush(touched);
        if let Some(link) = leaver {
            link.ask_to_end();
        }
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
        lock(&self.state).roster.finished(worker, report);
    }
}
