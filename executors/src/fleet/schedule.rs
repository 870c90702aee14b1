//! Which task goes to which worker.

use std::cmp::Reverse;
use std::collections::VecDeque;

use crate::{Task, TaskId, WorkerId};

/// What bounds the choice of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Shared tasks that a worker runs at a time.
    pub(super) threads: usize,
    /// Most shared tasks that a worker holds, those that run included.
    pub(super) held: usize,
    /// Most shared tasks that run at a time, over all workers.
    pub(super) sharing: usize,
    /// Shared tasks after which a worker gets no more.
    pub(super) per_worker: Option<u64>,
    /// Whether tasks are kept until their outcome, so that those that a worker never began can go to another.
    pub(super) recall: bool,
}

/// The tasks that wait, and who holds the others. Knows nothing of processes.
pub(super) struct Schedule {
    limits: Limits,
    /// One for each worker there is, by ascending number. All are looked at for each task, which a map slows down.
    seats: Vec<Seat>,
    /// Workers that can be had when there is something to do.
    absent: usize,
    /// Workers that were called and are not added yet.
    called: usize,
    exclusive: VecDeque<Task>,
    shared: VecDeque<Task>,
}

struct Seat {
    worker: WorkerId,
    stage: Stage,
    /// Tasks in the order in which the worker gets them, and so begins them.
    held: VecDeque<Held>,
    /// An exclusive task is all that it holds.
    exclusive: bool,
    /// It had an exclusive task once. What that left in its memory may still be needed, so it stays, and is the last to
    /// get shared tasks.
    bound: bool,
    /// Shared tasks that it got.
    given: u64,
    /// Tasks that it ended.
    ended: u64,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Arriving,
    Open,
    /// Gets no more tasks.
    Leaving,
}

struct Held {
    id: TaskId,
    /// Where it may be recalled. Boxed, since mostly there is nothing and all that is held gets moved about.
    kept: Option<Box<Task>>,
}

impl Seat {
    fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            stage: Stage::Arriving,
            held: VecDeque::new(),
            exclusive: false,
            bound: false,
            given: 0,
            ended: 0,
        }
    }

    /// Whether it can have tasks beside those that it holds.
    fn is_free(&self) -> bool {
        self.stage == Stage::Open && !self.exclusive
    }

    /// Shared tasks that run, or will as soon as they arrive.
    fn running(&self, threads: usize) -> usize {
        if self.exclusive { 0 } else { self.held.len().min(threads) }
    }
}

impl Schedule {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, seats: Vec::new(), absent: 0, called: 0, exclusive: VecDeque::new(), shared: VecDeque::new() }
    }

    /// Adds a worker that gets no tasks yet; its number is higher than any before.
    pub(super) fn add(&mut self, worker: WorkerId) {
        // It may replace another instead. Then one more is called than need be, which goes when it is idle.
        self.called = self.called.saturating_sub(1);
        self.seats.push(Seat::new(worker));
    }

    /// Lets a worker have tasks.
    pub(super) fn open(&mut self, worker: WorkerId) {
        if let Some(seat) = self.seat_mut(worker) {
            seat.stage = Stage::Open;
        }
    }

    /// Takes all from a worker that has ended.
    pub(super) fn close(&mut self, worker: WorkerId) -> VecDeque<TaskId> {
        match self.place(worker) {
            Some(place) => self.seats.remove(place).held.into_iter().map(|held| held.id).collect(),
            None => VecDeque::new(),
        }
    }

    /// Gives no more tasks to a worker that holds none and is not bound to stay; `false` if it stays.
    #[must_use]
    pub(super) fn dismiss(&mut self, worker: WorkerId) -> bool {
        let Some(seat) = self.seat_mut(worker) else {
            return false;
        };
        let idle = seat.is_free() && !seat.bound && seat.held.is_empty();
        if idle {
            seat.stage = Stage::Leaving;
            self.absent += 1;
        }
        idle
    }

    /// How many of the absent workers have something to do: they are absent no longer.
    #[must_use]
    pub(super) fn call(&mut self) -> usize {
        if self.absent == 0 {
            return 0;
        }
        let runnable = self.shared.len().min(self.may_begin());
        let wanted = self.exclusive.len() + runnable.div_ceil(self.limits.threads);
        let called = wanted.saturating_sub(self.arriving()).min(self.absent);
        self.absent -= called;
        self.called += called;
        called
    }

    /// Workers that can be had when there is something to do.
    pub(super) fn absent(&self) -> usize {
        self.absent
    }

    /// Whether a worker got its last task.
    pub(super) fn is_spent(&self, worker: WorkerId) -> bool {
        self.seat(worker).is_some_and(|seat| seat.stage == Stage::Leaving)
    }

    /// Whether a worker holds nothing.
    pub(super) fn is_idle(&self, worker: WorkerId) -> bool {
        self.seat(worker).is_none_or(|seat| seat.held.is_empty())
    }

    /// How many tasks a worker ended, and the shared one that it has had for longest.
    pub(super) fn progress(&self, worker: WorkerId) -> (u64, Option<TaskId>) {
        self.seat(worker)
            .map_or((0, None), |seat| (seat.ended, seat.held.front().filter(|_| !seat.exclusive).map(|held| held.id)))
    }

    pub(super) fn enqueue(&mut self, tasks: Vec<Task>) {
        for task in tasks {
            if task.exclusive {
                self.exclusive.push_back(task);
            } else {
                self.shared.push_back(task);
            }
        }
    }

    /// The next task that some worker can have now, with that worker.
    ///
    /// An exclusive task gets a worker that holds nothing. While one waits, the worker nearest to that state gets no
    /// shared tasks, or a steady stream of them would keep the exclusive task waiting for ever.
    ///
    /// A shared task goes to a free thread of the busiest worker that has one, so that few processes are filled, and of
    /// one that had an exclusive task only if no other has. If no thread is free, or no more tasks may run, it waits
    /// behind others in the worker that holds least, unless a worker is on its way that can run it. Of equal workers
    /// one that had no exclusive task is chosen, and of these `preferred`.
    pub(super) fn next(&mut self, preferred: Option<WorkerId>) -> Option<(WorkerId, Task)> {
        if !self.exclusive.is_empty()
            && let Some(idle) = self.least_loaded(preferred)
            && self.is_idle(idle)
        {
            let task = self.exclusive.pop_front()?;
            return self.give(idle, task);
        }
        if self.shared.is_empty() {
            return None;
        }
        let worker = self.thread_for_shared(preferred)?;
        let task = self.shared.pop_front()?;
        self.give(worker, task)
    }

    fn thread_for_shared(&self, preferred: Option<WorkerId>) -> Option<WorkerId> {
        let threads = self.limits.threads;
        let reserved = if self.exclusive.is_empty() { None } else { self.least_loaded(None) };
        let candidates = || {
            self.seats
                .iter()
                .filter(|seat| seat.is_free() && Some(seat.worker) != reserved)
                .map(|seat| (seat.worker, seat.held.len(), seat.bound))
        };
        let may_begin = self.may_begin();
        if may_begin > 0 {
            let free = candidates().filter(|(_, held, _)| *held < threads);
            let busiest = free.min_by_key(|(worker, held, bound)| (*bound, Reverse(*held), Some(*worker) != preferred));
            if let Some((worker, ..)) = busiest {
                return Some(worker);
            }
            let expected = (self.arriving() + self.absent).saturating_mul(threads).min(may_begin);
            if self.shared.len() <= expected {
                return None;
            }
        }
        candidates()
            .filter(|(_, held, _)| (threads..self.limits.held).contains(held))
            .min_by_key(|(worker, held, bound)| (*held, *bound, Some(*worker) != preferred))
            .map(|(worker, ..)| worker)
    }

    /// Notes that a worker ended a task; `false` if it did not hold it.
    #[must_use]
    pub(super) fn complete(&mut self, worker: WorkerId, task: TaskId) -> bool {
        let Some(seat) = self.seat_mut(worker) else {
            return false;
        };
        let Some(index) = seat.held.iter().position(|held| held.id == task) else {
            return false;
        };
        seat.held.remove(index);
        seat.ended += 1;
        // An exclusive task is the only one of its worker.
        seat.exclusive = false;
        true
    }

    /// Gives a worker no more tasks, and lets others have those that it holds and has not `begun`.
    pub(super) fn recall(&mut self, worker: WorkerId, begun: &[TaskId]) {
        let Some(seat) = self.seat_mut(worker) else {
            return;
        };
        seat.stage = Stage::Leaving;
        let (held, waiting): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut seat.held)
            .into_iter()
            .partition(|held| held.kept.is_none() || begun.contains(&held.id));
        seat.held = held;
        // They have waited for longer than the others.
        for task in waiting.into_iter().rev().filter_map(|held| held.kept) {
            self.shared.push_front(*task);
        }
    }

    /// The worker that has an exclusive task.
    pub(super) fn holder(&self, exclusive: TaskId) -> Option<WorkerId> {
        self.seats
            .iter()
            .find(|seat| seat.exclusive && seat.held.front().is_some_and(|held| held.id == exclusive))
            .map(|seat| seat.worker)
    }

    /// Takes back an exclusive task that waits; `false` if there is none.
    pub(super) fn withdraw(&mut self, exclusive: TaskId) -> bool {
        let waiting = self.exclusive.len();
        self.exclusive.retain(|task| task.id != exclusive);
        self.exclusive.len() < waiting
    }

    /// Takes back all tasks that wait.
    pub(super) fn drain(&mut self) -> Vec<TaskId> {
        let exclusive = std::mem::take(&mut self.exclusive);
        let shared = std::mem::take(&mut self.shared);
        exclusive.into_iter().chain(shared).map(|task| task.id).collect()
    }

    fn give(&mut self, worker: WorkerId, task: Task) -> Option<(WorkerId, Task)> {
        let limits = self.limits;
        let seat = self.seat_mut(worker)?;
        let kept = (limits.recall && !task.exclusive).then(|| Box::new(task.clone()));
        seat.held.push_back(Held { id: task.id, kept });
        if task.exclusive {
            seat.exclusive = true;
            seat.bound = true;
        } else {
            seat.given += 1;
            if !seat.bound && limits.per_worker.is_some_and(|most| seat.given >= most) {
                seat.stage = Stage::Leaving;
            }
        }
        Some((worker, task))
    }

    /// The worker with the least to do, of equals `preferred`.
    fn least_loaded(&self, preferred: Option<WorkerId>) -> Option<WorkerId> {
        self.seats
            .iter()
            .filter(|seat| seat.is_free())
            .min_by_key(|seat| (seat.held.len(), Some(seat.worker) != preferred))
            .map(|seat| seat.worker)
    }

    /// How many shared tasks may begin beside those that run, over all workers.
    fn may_begin(&self) -> usize {
        let running: usize = self.seats.iter().map(|seat| seat.running(self.limits.threads)).sum();
        self.limits.sharing.saturating_sub(running)
    }

    fn place(&self, worker: WorkerId) -> Option<usize> {
        self.seats.binary_search_by_key(&worker, |seat| seat.worker).ok()
    }

    fn seat(&self, worker: WorkerId) -> Option<&Seat> {
        self.place(worker).map(|place| &self.seats[place])
    }

    fn seat_mut(&mut self, worker: WorkerId) -> Option<&mut Seat> {
        self.place(worker).map(|place| &mut self.seats[place])
    }

    fn arriving(&self) -> usize {
        self.called + self.seats.iter().filter(|seat| seat.stage == Stage::Arriving).count()
    }
}

#[cfg(test)]
mod tests;
