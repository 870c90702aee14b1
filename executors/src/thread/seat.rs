//! What runs on one thread.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::TaskId;
use crate::orders::Orders;
use crate::sync::{lock, wait, wait_timeout};

/// The tasks of one thread: one, or several where the work itself waits in rayon and so runs another.
#[derive(Default)]
pub(super) struct Seat {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: Vec<Running>,
    /// Tasks that were given up for their time limit and have not returned.
    overdue: Vec<TaskId>,
    /// A shutdown waits for this seat; else nobody need be told of changes.
    awaited: bool,
}

struct Running {
    task: TaskId,
    /// Of exclusive tasks.
    orders: Option<Arc<Orders>>,
    /// Of shared tasks with a time limit.
    begun: Option<Instant>,
    delivering: bool,
}

impl Seat {
    /// Notes that a task begins, and when, if its time is limited.
    pub(super) fn begin(&self, task: TaskId, orders: Option<Arc<Orders>>, begun: Option<Instant>) {
        lock(&self.state).tasks.push(Running { task, orders, begun, delivering: false });
    }

    /// Whether the outcome of a task that has run is to be delivered. It is not if the task was given up.
    pub(super) fn begin_delivery(&self, task: TaskId) -> bool {
        lock(&self.state)
            .tasks
            .iter_mut()
            .find(|running| running.task == task)
            .map(|running| running.delivering = true)
            .is_some()
    }

    pub(super) fn end_delivery(&self, task: TaskId) {
        let mut state = lock(&self.state);
        state.tasks.retain(|running| running.task != task);
        if state.awaited {
            self.changed.notify_all();
        }
    }

    /// Gives up, and returns, the tasks that have run for `limit`; they are not delivered when they end. Also returns how
    /// long the others have left, at least.
    pub(super) fn give_up_overdue(&self, limit: Duration) -> (Vec<TaskId>, Duration) {
        let mut state = lock(&self.state);
        let left = |running: &Running| match running.begun {
            Some(begun) if !running.delivering => limit.saturating_sub(begun.elapsed()),
            _ => limit,
        };
        let overdue: Vec<TaskId> =
            state.tasks.extract_if(.., |running| left(running).is_zero()).map(|running| running.task).collect();
        state.overdue.extend(&overdue);
        (overdue, state.tasks.iter().map(left).min().unwrap_or(limit))
    }

    /// Notes that a task has returned that was given up; `false` if that was not for its time limit.
    pub(super) fn end_overdue(&self, task: TaskId) -> bool {
        let mut state = lock(&self.state);
        let before = state.overdue.len();
        state.overdue.retain(|overdue| *overdue != task);
        state.overdue.len() < before
    }

    /// Whether a task runs that was given up for its time limit.
    pub(super) fn is_left_behind(&self) -> bool {
        !lock(&self.state).overdue.is_empty()
    }

    /// Cancels exclusive tasks, `None` for all.
    pub(super) fn cancel(&self, task: Option<TaskId>) {
        for running in &lock(&self.state).tasks {
            if task.is_none_or(|task| task == running.task)
                && let Some(orders) = &running.orders
            {
                orders.cancel();
            }
        }
    }

    /// Tells an exclusive task a number, if it runs here.
    pub(super) fn tell(&self, task: TaskId, number: u64) {
        let state = lock(&self.state);
        let running = state.tasks.iter().find(|running| running.task == task);
        if let Some(orders) = running.and_then(|running| running.orders.as_ref()) {
            orders.told.tell(number);
        }
    }

    /// Waits `grace`, counted from `begun`, for the tasks to end. Gives up and returns those that did not, which are
    /// never delivered.
    pub(super) fn vacate(&self, begun: Instant, grace: Duration) -> Vec<TaskId> {
        let mut state = lock(&self.state);
        state.awaited = true;
        while !state.tasks.is_empty() {
            let left = grace.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            state = wait_timeout(&self.changed, state, left);
        }
        let given_up = state.tasks.extract_if(.., |running| !running.delivering).map(|running| running.task).collect();
        while !state.tasks.is_empty() {
            state = wait(&self.changed, state);
        }
        given_up
    }
}
