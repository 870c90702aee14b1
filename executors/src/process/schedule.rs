//! Which task goes to which worker.

use std::collections::VecDeque;

use crate::{Task, TaskId, WorkerId};

/// The tasks that wait, and who holds the others. Knows nothing of processes.
pub(super) struct Schedule {
    capacity: usize,
    /// Most workers that hold shared tasks at a time.
    sharing: usize,
    /// One for each worker there ever was, by number.
    seats: Vec<Seat>,
    exclusive: VecDeque<Task>,
    shared: VecDeque<Task>,
}

#[derive(Default)]
struct Seat {
    open: bool,
    /// Tasks in the order in which the worker gets them, and so, but for one exclusive, in which it ends them.
    held: VecDeque<TaskId>,
    exclusive: bool,
}

impl Seat {
    /// Whether it can have tasks beside those that it holds.
    fn is_free(&self) -> bool {
        self.open && !self.exclusive
    }

    /// Whether it holds shared tasks.
    fn shares(&self) -> bool {
        !self.exclusive && !self.held.is_empty()
    }
}

/// The worker with the least to do, of equals `preferred`.
fn least_loaded<'a>(
    workers: impl Iterator<Item = (WorkerId, &'a Seat)>,
    preferred: Option<WorkerId>,
) -> Option<WorkerId> {
    workers.min_by_key(|(worker, seat)| (seat.held.len(), Some(*worker) != preferred)).map(|(worker, _)| worker)
}

impl Schedule {
    /// No worker gets more than `capacity` tasks at a time, and no more than `sharing` workers have shared ones.
    pub(super) fn new(capacity: usize, sharing: usize) -> Self {
        Self { capacity, sharing, seats: Vec::new(), exclusive: VecDeque::new(), shared: VecDeque::new() }
    }

    /// Adds a worker that gets no tasks yet; its number is the next.
    pub(super) fn add(&mut self) {
        self.seats.push(Seat::default());
    }

    /// Lets a worker have tasks.
    pub(super) fn open(&mut self, worker: WorkerId) {
        self.seat(worker).open = true;
    }

    /// Takes all from a worker that gets no more tasks.
    pub(super) fn close(&mut self, worker: WorkerId) -> VecDeque<TaskId> {
        std::mem::take(self.seat(worker)).held
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
    /// shared tasks, or a steady stream of them would keep the exclusive task waiting for ever. A shared task goes to
    /// the worker with the least to do, of equals to `preferred`.
    pub(super) fn next(&mut self, preferred: Option<WorkerId>) -> Option<(WorkerId, Task)> {
        if !self.exclusive.is_empty()
            && let Some(idle) = self.least_loaded(preferred)
            && self.seat(idle).held.is_empty()
        {
            let task = self.exclusive.pop_front()?;
            self.seat(idle).exclusive = true;
            return Some(self.give(idle, task));
        }
        if self.shared.is_empty() {
            return None;
        }
        let reserved = if self.exclusive.is_empty() { None } else { self.least_loaded(None) };
        let sharing = self.workers().filter(|(_, seat)| seat.shares()).count();
        let candidates = self.workers().filter(|(worker, seat)| seat.is_free() && Some(*worker) != reserved);
        let worker = least_loaded(candidates.filter(|(_, seat)| seat.shares() || sharing < self.sharing), preferred)
            .filter(|worker| self.seats[worker.0 as usize].held.len() < self.capacity)?;
        let task = self.shared.pop_front()?;
        Some(self.give(worker, task))
    }

    /// Notes that a worker ended a task; `false` if it did not hold it.
    #[must_use]
    pub(super) fn complete(&mut self, worker: WorkerId, task: TaskId) -> bool {
        let seat = self.seat(worker);
        let Some(index) = seat.held.iter().position(|held| *held == task) else {
            return false;
        };
        seat.held.remove(index);
        // An exclusive task is the only one of its worker.
        seat.exclusive = false;
        true
    }

    /// The worker that has an exclusive task.
    pub(super) fn holder(&self, exclusive: TaskId) -> Option<WorkerId> {
        self.workers()
            .find(|(_, seat)| seat.exclusive && seat.held.front() == Some(&exclusive))
            .map(|(worker, _)| worker)
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

    fn give(&mut self, worker: WorkerId, task: Task) -> (WorkerId, Task) {
        self.seat(worker).held.push_back(task.id);
        (worker, task)
    }

    fn least_loaded(&self, preferred: Option<WorkerId>) -> Option<WorkerId> {
        least_loaded(self.workers().filter(|(_, seat)| seat.is_free()), preferred)
    }

    fn workers(&self) -> impl Iterator<Item = (WorkerId, &Seat)> {
        (0..).map(WorkerId).zip(&self.seats)
    }

    fn seat(&mut self, worker: WorkerId) -> &mut Seat {
        &mut self.seats[worker.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn tasks(ids: std::ops::Range<u64>, exclusive: bool) -> Vec<Task> {
        ids.map(|id| Task { id: TaskId(id), head: Bytes::new(), payload: Bytes::new(), exclusive }).collect()
    }

    fn with_workers(workers: u32, capacity: usize) -> Schedule {
        let mut schedule = Schedule::new(capacity, usize::MAX);
        for worker in 0..workers {
            schedule.add();
            schedule.open(WorkerId(worker));
        }
        schedule
    }

    fn given(schedule: &mut Schedule, preferred: Option<u32>) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| schedule.next(preferred.map(WorkerId)))
            .map(|(worker, task)| (worker.0, task.id.0))
            .collect()
    }

    #[test]
    fn shared_tasks_spread_up_to_the_capacity() {
        let mut schedule = with_workers(2, 2);
        schedule.enqueue(tasks(0..6, false));
        assert_eq!(given(&mut schedule, None), [(0, 0), (1, 1), (0, 2), (1, 3)]);
        assert!(schedule.complete(WorkerId(1), TaskId(1)));
        assert_eq!(given(&mut schedule, None), [(1, 4)]);
        assert_eq!(schedule.drain(), [TaskId(5)]);
    }

    #[test]
    fn of_equals_the_preferred_worker_is_chosen() {
        let mut schedule = with_workers(3, 9);
        schedule.enqueue(tasks(0..4, false));
        assert_eq!(given(&mut schedule, Some(2)), [(2, 0), (0, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn no_more_workers_share_than_may() {
        let mut schedule = Schedule::new(2, 1);
        for worker in 0..2 {
            schedule.add();
            schedule.open(WorkerId(worker));
        }
        schedule.enqueue(tasks(0..3, false));
        assert_eq!(given(&mut schedule, None), [(0, 0), (0, 1)]);
        assert!(schedule.complete(WorkerId(0), TaskId(0)));
        assert_eq!(given(&mut schedule, None), [(0, 2)]);
        schedule.enqueue(tasks(10..11, true));
        assert_eq!(given(&mut schedule, None), [(1, 10)]);
    }

    #[test]
    fn an_exclusive_task_is_not_starved_and_not_joined() {
        let mut schedule = with_workers(2, 2);
        schedule.enqueue(tasks(0..4, false));
        given(&mut schedule, None);
        schedule.enqueue(tasks(10..11, true));
        schedule.enqueue(tasks(4..9, false));
        // Worker 0 is drained for it, worker 1 goes on.
        assert!(schedule.complete(WorkerId(0), TaskId(0)));
        assert_eq!(given(&mut schedule, None), []);
        assert!(schedule.complete(WorkerId(1), TaskId(1)));
        assert!(schedule.complete(WorkerId(0), TaskId(2)));
        assert_eq!(given(&mut schedule, None), [(0, 10), (1, 4)]);
        assert_eq!(schedule.holder(TaskId(10)), Some(WorkerId(0)));
        assert!(schedule.complete(WorkerId(0), TaskId(10)));
        assert_eq!(given(&mut schedule, None), [(0, 5), (0, 6)]);
    }

    #[test]
    fn a_closed_worker_gives_back_what_it_held_and_gets_no_more() {
        let mut schedule = with_workers(2, 1);
        schedule.enqueue(tasks(0..3, false));
        given(&mut schedule, None);
        assert_eq!(schedule.close(WorkerId(0)), [TaskId(0)]);
        assert!(!schedule.complete(WorkerId(0), TaskId(0)));
        assert_eq!(given(&mut schedule, None), []);
        assert!(schedule.complete(WorkerId(1), TaskId(1)));
        assert_eq!(given(&mut schedule, None), [(1, 2)]);
    }
}
