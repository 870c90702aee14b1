//! The workers of one executor and their tasks: what executors have in common whose workers are processes.
//!
//! How workers end is the matter of [`ending`], when others are started that of [`watch`].

pub(crate) mod channel;
mod crew;
mod deadline;
mod ending;
pub(crate) mod frames;
mod lifeline;
mod link;
pub(crate) mod member;
pub(crate) mod outbox;
mod roster;
mod schedule;
mod setbacks;
pub(crate) mod terms;
mod watch;
pub(crate) mod wire;
pub mod worker;

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::frames::{Frame, MAX_HEAD, MAX_PAYLOAD};
use self::link::Link;
use self::member::{Recruit, Recruiter};
use self::roster::Roster;
use self::schedule::{Limits, Schedule};
use self::setbacks::{Advice, Setbacks};
use self::terms::Terms;
use crate::courier::{Courier, SHUT_DOWN};
use crate::sync::{lock, wait_timeout};
use crate::{ExecutorError, Outcome, OutcomeSink, Task, TaskId, WorkerId, WorkerInfo};

/// How often who waits for workers looks at what keeps them.
const LOOK: Duration = Duration::from_millis(50);

thread_local! {
    /// The worker whose outcomes this thread is delivering: tasks submitted from within are best sent back to it, all
    /// in one system call.
    static DELIVERING: Cell<Option<WorkerId>> = const { Cell::new(None) };
}

/// Shared by the executor and the threads that attend to its workers.
pub(crate) struct Fleet {
    pub(crate) terms: Terms,
    /// `None` where workers come by themselves, and none is replaced.
    recruiter: Option<Box<dyn Recruiter>>,
    sink: Arc<dyn OutcomeSink>,
    courier: Courier,
    state: Mutex<State>,
    /// A worker became ready or ended.
    changed: Condvar,
    /// There may be something to do for the thread that watches over the workers.
    stirred: Condvar,
}

struct State {
    schedule: Schedule,
    roster: Roster,
    phase: Phase,
    setbacks: Setbacks,
    /// One for each worker, and the one that watches over them.
    threads: Vec<JoinHandle<()>>,
}

#[derive(PartialEq, Eq)]
enum Phase {
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

fn flush(links: Vec<Arc<Link>>) {
    for link in links {
        link.outbox.flush();
    }
}

impl Fleet {
    pub(crate) fn new(
        terms: Terms,
        recruiter: Option<Box<dyn Recruiter>>,
        sink: Arc<dyn OutcomeSink>,
    ) -> Result<Self, ExecutorError> {
        terms.check()?;
        let (threads, workers) = (terms.threads_per_worker as usize, terms.workers as usize);
        let limits = Limits {
            threads,
            held: threads.saturating_mul(terms.capacity as usize),
            // While one that leaves is replaced there are more workers, but no more slots.
            sharing: threads.saturating_mul(workers).min(terms.sharing as usize),
            per_worker: terms.max_tasks_per_worker,
            recall: terms.task_timeout.is_some(),
        };
        Ok(Self {
            courier: Courier::start(Arc::clone(&sink))?,
            sink,
            state: Mutex::new(State {
                schedule: Schedule::new(limits),
                roster: Roster::starting_at(terms.first),
                phase: Phase::Starting,
                setbacks: Setbacks::default(),
                threads: Vec::new(),
            }),
            changed: Condvar::new(),
            stirred: Condvar::new(),
            recruiter,
            terms,
        })
    }

    /// Starts one worker, if this fleet's are started here. Called by one thread at a time.
    pub(crate) fn recruit(self: &Arc<Self>) -> Result<(), ExecutorError> {
        let Some(recruiter) = &self.recruiter else {
            return Ok(());
        };
        let rank = lock(&self.state).roster.next_rank(self.terms.workers as usize);
        self.enlist(recruiter.recruit(rank)?, rank)
    }

    /// Takes in a worker, which is given tasks once it is ready.
    pub(crate) fn enlist(self: &Arc<Self>, recruit: Recruit, rank: usize) -> Result<(), ExecutorError> {
        let mut state = lock(&self.state);
        if state.phase == Phase::ShutDown {
            // Dropped, it ends.
            return Ok(());
        }
        let worker = state.roster.next_id();
        let (link, attendant) = recruit.attend(worker, self)?;
        state.schedule.add(worker);
        state.roster.add(worker, link, rank);
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(attendant);
        Ok(())
    }

    /// Waits until so many workers as the terms say are ready, each of which has its own time limit. One that ends before is replaced as
    /// it would be later, but not after the time that a worker may take, and not where its setup told that it can't be had. Looks at
    /// `given_up` now and then: why no more come.
    pub(crate) fn wait_ready(self: &Arc<Self>, given_up: &dyn Fn() -> Option<String>) -> Result<(), ExecutorError> {
        let wanted = self.terms.workers as usize;
        let last_start = Instant::now() + self.terms.ready_timeout;
        let mut state = lock(&self.state);
        loop {
            let ready = state.roster.present().filter(|(_, present)| present.ready).count();
            if ready == wanted {
                state.phase = Phase::Running;
                return Ok(());
            }
            if state.roster.present().count() < wanted && state.roster.infos().any(|info| !info.alive) {
                let now = Instant::now();
                let advice = state.setbacks.advice(now);
                let hopeless = state.setbacks.is_hopeless() || matches!(advice, Advice::GiveUp(_));
                if self.recruiter.is_none() || now >= last_start || hopeless {
                    let ends = state.roster.infos().filter_map(|info| Some((&info.label, info.end.as_ref()?)));
                    let detail = ends.map(|(label, end)| format!("; {label}: {end}")).collect();
                    return Err(ExecutorError::NotReady { ready, wanted, detail });
                }
                if advice == Advice::Start {
                    drop(state);
                    self.recruit()?;
                    state = lock(&self.state);
                    continue;
                }
            }
            if let Some(reason) = given_up() {
                return Err(ExecutorError::NotReady { ready, wanted, detail: format!(": {reason}") });
            }
            state = wait_timeout(&self.changed, state, LOOK);
        }
    }

    /// Hands out tasks while there are both tasks and workers for them; returns the links to flush.
    #[must_use]
    fn assign(&self, state: &mut State, preferred: Option<WorkerId>) -> Vec<Arc<Link>> {
        let mut touched = Vec::new();
        while let Some((worker, task)) = state.schedule.next(preferred) {
            // The schedule knows of no worker that has ended.
            let Some(present) = state.roster.get_mut(worker) else {
                continue;
            };
            if present.link.outbox.push(Frame::Task(task)) {
                touched.push(Arc::clone(&present.link));
            }
            if let Some(tasks) = self.terms.max_tasks_per_worker
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

    pub(crate) fn submit(&self, mut tasks: Vec<Task>) {
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

    pub(crate) fn cancel(&self, task: TaskId) {
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

    pub(crate) fn tell(&self, task: TaskId, number: u64) {
        let holder = {
            let state = lock(&self.state);
            let holder = state.schedule.holder(task).and_then(|worker| state.roster.get(worker));
            holder.map(|present| Arc::clone(&present.link))
        };
        if let Some(link) = holder
            && link.outbox.push(Frame::Tell { task, number })
        {
            link.outbox.flush();
        }
    }

    /// Why no worker is left, nor will come.
    pub(crate) fn exhausted(&self) -> Option<String> {
        match &lock(&self.state).phase {
            Phase::Exhausted(reason) => Some(reason.clone()),
            Phase::Starting | Phase::Running | Phase::ShutDown => None,
        }
    }

    pub(crate) fn workers(&self) -> Vec<WorkerInfo> {
        let state = lock(&self.state);
        state.roster.infos().cloned().collect()
    }

    /// A worker's work is made.
    fn ready(&self, worker: WorkerId) {
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

    /// A worker told that its work can't be made.
    fn refused(&self) {
        lock(&self.state).setbacks.refused();
    }

    /// A worker ended tasks.
    ///
    /// # Errors
    ///
    /// It did not hold all of them.
    fn complete(&self, worker: WorkerId, outcomes: &mut Vec<Outcome>) -> Result<(), String> {
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
    fn finished(&self, worker: WorkerId, report: Bytes) {
        lock(&self.state).roster.finished(worker, report);
    }
}
