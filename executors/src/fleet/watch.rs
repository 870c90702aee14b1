//! Watches over the workers: starts those that are missing, lets idle ones go, and ends those that don't answer.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::link::Link;
use super::setbacks::Advice;
use super::terms::Terms;
use super::{Fleet, Phase, State};
use crate::courier::{deliver, not_run};
use crate::sync::{lock, wait_timeout};
use crate::{ExecutorError, TaskId, WorkerId};

/// Longest time between two looks at the workers.
const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// Given to a worker to tell of an overdue task, on a busy machine and with bulk data still on its way.
const UNANSWERED: Duration = Duration::from_secs(10);
/// A look that is late by more finds this process stopped before, rather than busy.
const PAUSED: Duration = Duration::from_secs(2);
/// Given to a worker that was asked to end, before it is ended by force.
const LEAVING: Duration = Duration::from_secs(30);

impl Fleet {
    /// Starts the thread that watches until the executor is shut down or has no workers left.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<(), ExecutorError> {
        let fleet = Arc::clone(self);
        let watch = Watch { tick: tick(&self.terms), fleet, sights: BTreeMap::new() };
        let thread = thread::Builder::new()
            .name("psbench-watch".to_owned())
            .spawn(move || watch.run())
            .map_err(|source: io::Error| ExecutorError::Start { what: "the watching thread".to_owned(), source })?;
        lock(&self.state).threads.push(thread);
        Ok(())
    }
}

/// Often enough that each limit is kept to within a quarter of it.
fn tick(terms: &Terms) -> Duration {
    let limits = [Some(terms.stopped_limit), terms.idle_timeout];
    let shortest = limits.into_iter().flatten().min().unwrap_or(LONGEST_TICK);
    (shortest / 4).clamp(SHORTEST_TICK, LONGEST_TICK)
}

struct Watch {
    fleet: Arc<Fleet>,
    tick: Duration,
    sights: BTreeMap<WorkerId, Sight>,
}

/// What was seen of one worker.
struct Sight {
    /// How many tasks it had ended, and its first.
    progress: (u64, Option<TaskId>),
    /// Since when that is so.
    since: Instant,
    /// Since when its process can't get on.
    unwell: Option<Instant>,
}

enum Turn {
    Start,
    Look,
    Exhausted(String),
    End,
}

impl Watch {
    fn run(mut self) {
        let mut next_look = Instant::now();
        loop {
            match self.next_turn(next_look) {
                Turn::Start => self.start_one(),
                Turn::Look => {
                    if next_look.elapsed() > PAUSED {
                        // As after Ctrl-Z: what the workers told meanwhile is perhaps unread.
                        self.sights.clear();
                    }
                    self.look();
                    next_look = Instant::now() + self.tick;
                }
                Turn::Exhausted(reason) => return self.refuse_all(reason),
                Turn::End => return,
            }
        }
    }

    /// Waits until there is something to do.
    fn next_turn(&self, next_look: Instant) -> Turn {
        let mut state = lock(&self.fleet.state);
        loop {
            if state.phase != Phase::Running {
                return Turn::End;
            }
            let now = Instant::now();
            let mut next = next_look;
            if self.fleet.recruiter.is_none() {
                if state.roster.is_empty() {
                    return Turn::Exhausted(no_more(state.setbacks.last()));
                }
            } else if self.is_short(&state) {
                match state.setbacks.advice(now) {
                    Advice::Start => return Turn::Start,
                    Advice::Wait(due) => next = next.min(due),
                    Advice::GiveUp(reason) if state.roster.is_empty() => return Turn::Exhausted(reason),
                    // The others go on.
                    Advice::GiveUp(_) => {}
                }
            }
            if next_look <= now {
                return Turn::Look;
            }
            state = wait_timeout(&self.fleet.stirred, state, next.saturating_duration_since(now));
        }
    }

    /// Whether there are too few workers. One that leaves is replaced while it ends its last tasks.
    fn is_short(&self, state: &State) -> bool {
        state.roster.staying() + state.schedule.absent() < self.fleet.terms.workers as usize
    }

    fn start_one(&self) {
        if let Err(error) = self.fleet.recruit() {
            tracing::warn!(%error, "worker not started");
            lock(&self.fleet.state).setbacks.failed_start(Instant::now(), &error.to_string());
        }
    }

    fn refuse_all(&self, reason: String) {
        tracing::error!(reason);
        let never_run = {
            let mut state = lock(&self.fleet.state);
            if state.phase == Phase::ShutDown {
                return;
            }
            let never_run = not_run(state.schedule.drain(), &reason);
            state.phase = Phase::Exhausted(reason);
            never_run
        };
        deliver(&*self.fleet.sink, never_run);
    }

    fn look(&mut self) {
        let present: Vec<(WorkerId, Arc<Link>)> = {
            let state = lock(&self.fleet.state);
            self.sights.retain(|worker, _| state.roster.get(*worker).is_some());
            state.roster.present().map(|(worker, present)| (worker, Arc::clone(&present.link))).collect()
        };
        for (worker, link) in present {
            let ailment = link.process.ailment();
            self.look_at(worker, &link, ailment);
        }
    }

    fn look_at(&mut self, worker: WorkerId, link: &Link, ailment: Option<&str>) {
        let now = Instant::now();
        let mut state = lock(&self.fleet.state);
        let State { schedule, roster, phase, .. } = &mut *state;
        // Until it is ready it has a time limit of its own; and a shutdown has its grace.
        let present = roster.get_mut(worker).filter(|present| present.ready && *phase != Phase::ShutDown);
        let Some(present) = present else {
            return;
        };
        let progress = schedule.progress(worker);
        let sight = self.sights.entry(worker).or_insert(Sight { progress, since: now, unwell: None });
        sight.update(progress, ailment.is_some(), now);
        let terms = &self.fleet.terms;
        if sight.is_overdue(terms, now) {
            present.overdue = progress.1;
            link.condemn(self.fleet.time_is_up());
        } else if let Some(ailment) = ailment
            && sight.is_unwell_for(terms.stopped_limit, now)
        {
            link.condemn(format!("{ailment} for {:?}", terms.stopped_limit));
        } else if let Some(asked) = present.asked {
            if now.duration_since(asked) >= LEAVING {
                link.condemn(format!("still there {LEAVING:?} after it was asked to end"));
            }
        } else if let Some(limit) = terms.idle_timeout
            && now.duration_since(sight.since) >= limit
            && schedule.dismiss(worker)
        {
            present.leaving = Some(format!("idle for {limit:?}"));
            present.asked = Some(now);
            link.ask_to_end();
        }
    }
}

/// Why no tasks run any more.
fn no_more(last: Option<&str>) -> String {
    let last = last.map(|reason| format!(", the last: {reason}")).unwrap_or_default();
    format!("no workers are left{last}")
}

impl Sight {
    fn update(&mut self, progress: (u64, Option<TaskId>), unwell: bool, now: Instant) {
        self.unwell = unwell.then(|| self.unwell.unwrap_or(now));
        if self.progress != progress {
            (self.progress, self.since) = (progress, now);
        }
    }

    /// Whether its first task, which it has begun or could have, should have been told of.
    fn is_overdue(&self, terms: &Terms, now: Instant) -> bool {
        terms.task_timeout.is_some_and(|limit| {
            self.progress.1.is_some() && now.duration_since(self.since) >= limit.saturating_add(UNANSWERED)
        })
    }

    fn is_unwell_for(&self, limit: Duration, now: Instant) -> bool {
        self.unwell.is_some_and(|since| now.duration_since(since) >= limit)
    }
}
