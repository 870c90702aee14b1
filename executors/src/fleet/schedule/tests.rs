use bytes::Bytes;

use super::*;

fn tasks(ids: std::ops::Range<u64>, exclusive: bool) -> Vec<Task> {
    ids.map(|id| Task { id: TaskId(id), head: Bytes::new(), payload: Bytes::new(), exclusive }).collect()
}

const FREE: Limits = Limits { threads: 1, held: usize::MAX, sharing: usize::MAX, per_worker: None, recall: false };

fn with_limits(workers: u32, limits: Limits) -> Schedule {
    let mut schedule = Schedule::new(limits);
    for worker in 0..workers {
        schedule.add(WorkerId(worker));
        schedule.open(WorkerId(worker));
    }
    schedule
}

fn with_workers(workers: u32, held: usize) -> Schedule {
    with_limits(workers, Limits { held, ..FREE })
}

fn given(schedule: &mut Schedule, preferred: Option<u32>) -> Vec<(u32, u64)> {
    std::iter::from_fn(|| schedule.next(preferred.map(WorkerId))).map(|(worker, task)| (worker.0, task.id.0)).collect()
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
    let mut schedule = with_limits(2, Limits { held: 2, sharing: 1, ..FREE });
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

#[test]
fn few_processes_are_filled() {
    let mut schedule = with_limits(2, Limits { threads: 2, held: 4, ..FREE });
    schedule.enqueue(tasks(0..3, false));
    assert_eq!(given(&mut schedule, Some(1)), [(1, 0), (1, 1), (0, 2)]);
    // Worker 0 is busy, but not all of it.
    assert!(schedule.complete(WorkerId(1), TaskId(0)));
    assert!(schedule.complete(WorkerId(1), TaskId(1)));
    schedule.enqueue(tasks(3..6, false));
    assert_eq!(given(&mut schedule, Some(1)), [(0, 3), (1, 4), (1, 5)]);
    // What no thread is free for is spread evenly.
    schedule.enqueue(tasks(6..12, false));
    assert_eq!(given(&mut schedule, None), [(0, 6), (1, 7), (0, 8), (1, 9)]);
}

#[test]
fn no_more_threads_share_than_may() {
    let mut schedule = with_limits(2, Limits { threads: 2, held: 4, sharing: 3, ..FREE });
    schedule.enqueue(tasks(0..9, false));
    // The second thread of worker 1 is one too many, so nothing waits there.
    assert_eq!(given(&mut schedule, None), [(0, 0), (0, 1), (1, 2), (0, 3), (0, 4)]);
    assert!(schedule.complete(WorkerId(0), TaskId(0)));
    assert_eq!(given(&mut schedule, None), [(0, 5)]);
    assert!(schedule.complete(WorkerId(1), TaskId(2)));
    assert_eq!(given(&mut schedule, None), [(1, 6)]);
}

#[test]
fn a_spent_worker_gets_no_more_unless_it_had_an_exclusive_task() {
    let mut schedule = with_limits(2, Limits { per_worker: Some(2), ..FREE });
    schedule.enqueue(tasks(10..11, true));
    assert_eq!(given(&mut schedule, None), [(0, 10)]);
    schedule.enqueue(tasks(0..3, false));
    assert_eq!(given(&mut schedule, None), [(1, 0), (1, 1)]);
    assert!(schedule.is_spent(WorkerId(1)) && !schedule.is_idle(WorkerId(1)));
    assert!(schedule.complete(WorkerId(0), TaskId(10)));
    schedule.enqueue(tasks(3..9, false));
    assert_eq!(given(&mut schedule, None).len(), 7);
    assert!(!schedule.is_spent(WorkerId(0)));
}

#[test]
fn a_worker_that_had_an_exclusive_task_is_the_last_choice() {
    let mut schedule = with_limits(3, Limits { threads: 2, held: 4, sharing: 4, ..FREE });
    schedule.enqueue(tasks(10..11, true));
    assert_eq!(given(&mut schedule, None), [(0, 10)]);
    assert!(schedule.complete(WorkerId(0), TaskId(10)));
    // Preferred or not: the others have as many threads as may share.
    schedule.enqueue(tasks(0..8, false));
    let others = [(1, 0), (1, 1), (2, 2), (2, 3), (1, 4), (2, 5), (1, 6), (2, 7)];
    assert_eq!(given(&mut schedule, Some(0)), others);
    // One is missing.
    assert_eq!(schedule.close(WorkerId(2)).len(), 4);
    schedule.enqueue(tasks(8..10, false));
    assert_eq!(given(&mut schedule, None), [(0, 8), (0, 9)]);
    // Even if it is the busiest, others with a free thread come first.
    assert!(schedule.complete(WorkerId(0), TaskId(8)));
    schedule.add(WorkerId(3));
    schedule.open(WorkerId(3));
    schedule.enqueue(tasks(11..12, false));
    assert_eq!(given(&mut schedule, Some(0)), [(3, 11)]);
}

#[test]
fn idle_workers_are_dismissed_and_called_as_needed() {
    let mut schedule = with_workers(3, 4);
    schedule.enqueue(tasks(10..11, true));
    assert_eq!(given(&mut schedule, None), [(0, 10)]);
    assert!(!schedule.dismiss(WorkerId(0)));
    assert!(schedule.complete(WorkerId(0), TaskId(10)));
    assert!(!schedule.dismiss(WorkerId(0)), "what the exclusive task left may be needed");
    assert!(schedule.dismiss(WorkerId(1)) && schedule.dismiss(WorkerId(2)));
    assert_eq!(schedule.call(), 0);
    // One that can be had is better than to wait behind another.
    schedule.enqueue(tasks(0..2, false));
    assert_eq!(given(&mut schedule, None), [(0, 0)]);
    assert_eq!(schedule.call(), 1);
    assert_eq!(schedule.call(), 0);
    schedule.add(WorkerId(3));
    assert_eq!((given(&mut schedule, None), schedule.call()), (Vec::new(), 0));
    schedule.open(WorkerId(3));
    assert_eq!(given(&mut schedule, None), [(3, 1)]);
    assert_eq!(schedule.absent(), 1);
    // More than those on their way can run is worth queueing.
    schedule.enqueue(tasks(2..5, false));
    assert_eq!(given(&mut schedule, None), [(3, 2), (0, 3)]);
    assert_eq!(schedule.call(), 1);
}

#[test]
fn what_never_began_is_recalled_in_its_order() {
    let mut schedule = with_limits(2, Limits { threads: 2, recall: true, ..FREE });
    schedule.enqueue(tasks(0..8, false));
    assert_eq!(given(&mut schedule, None).len(), 8);
    // Worker 0 held 0, 1, 4 and 6.
    schedule.recall(WorkerId(0), &[TaskId(0), TaskId(1)]);
    assert_eq!(given(&mut schedule, None), [(1, 4), (1, 6)]);
    assert_eq!(schedule.close(WorkerId(0)), [TaskId(0), TaskId(1)]);
}
