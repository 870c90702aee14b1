use psbench_executors::{TaskError, WorkerId, WorkerInfo, WorkerReport};

use super::*;
use crate::clock::ManualClock;
use crate::item::{self, Body, Head, ItemHead, ItemOutcome};

/// Remembers what it was given.
#[derive(Default)]
struct Remembering(Mutex<Vec<TaskId>>, Mutex<Vec<(TaskId, u64)>>, Mutex<Vec<u64>>);

impl Executor for Remembering {
    fn submit(&self, tasks: Vec<Task>) {
        self.0.lock().unwrap().extend(tasks.iter().map(|task| task.id));
        let doubted = tasks.iter().filter(|task| item::decode_task(&task.head).is_some_and(|(_, doubted)| doubted));
        self.2.lock().unwrap().extend(doubted.map(|task| task.id.0));
    }

    fn cancel(&self, _: TaskId) {}

    fn tell(&self, task: TaskId, number: u64) {
        self.1.lock().unwrap().push((task, number));
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        Vec::new()
    }

    fn shutdown(&self, _: Duration) -> Vec<WorkerReport> {
        Vec::new()
    }
}

fn dispatcher(outstanding: usize) -> (Dispatcher, Arc<Remembering>) {
    dispatcher_of(Bounds { outstanding, ..BOUNDS })
}

const BOUNDS: Bounds = Bounds {
    outstanding: 8,
    inflight_bytes: u64::MAX,
    inflight_items: None,
    items: 100,
    generators: 1,
    held_by_generators: false,
};

fn dispatcher_of(bounds: Bounds) -> (Dispatcher, Arc<Remembering>) {
    let recorder = Recorder::new(None, bounds.generators.max(1), 1);
    let dispatcher = Dispatcher::new(bounds, recorder, Arc::new(ManualClock::default()));
    let executor = Arc::new(Remembering::default());
    let shared: Arc<dyn Executor> = Arc::clone(&executor) as _;
    dispatcher.run_on(&shared, vec![Bytes::new(); bounds.generators as usize]);
    (dispatcher, executor)
}

fn message(sequence: u64) -> Message {
    let body = Body::Full { size: 3, checksum: None };
    let head = ItemHead { sequence, scheduled: None, created: None, stored: None, published: None, body };
    Message { head: item::encode(&Head::Item(head)), payload: Bytes::from_static(b"abc") }
}

fn done(sequence: u64) -> Outcome {
    let outcome = ItemOutcome { started: 0, resolved: None, finished: 1, evicted: None, bytes: 3, failure: None };
    Outcome { task: TaskId(sequence), worker: Some(WorkerId(0)), result: Ok(item::encode(&outcome)) }
}

#[test]
fn the_next_task_goes_out_with_any_outcome() {
    let (dispatcher, executor) = dispatcher(2);
    dispatcher.accept(&mut (0..5).map(message).collect()).unwrap();
    assert_eq!(*executor.0.lock().unwrap(), [generator_task(0), TaskId(0), TaskId(1)]);
    // The younger one is done first; the older one holds nothing back.
    dispatcher.deliver(&mut vec![done(1)]);
    dispatcher.deliver(&mut vec![done(2)]);
    assert_eq!(*executor.0.lock().unwrap(), [generator_task(0), TaskId(0), TaskId(1), TaskId(2), TaskId(3)]);
    assert!(!dispatcher.is_drained(Duration::ZERO));
    dispatcher.deliver(&mut vec![done(0), done(3)]);
    dispatcher.deliver(&mut vec![done(4)]);
    assert!(dispatcher.is_drained(Duration::ZERO));
    assert_eq!(dispatcher.progress(), Progress { items: 5, bytes: 15 });
}

#[test]
fn no_more_bytes_are_held_than_may_be() {
    let size = message(0).len();
    let (dispatcher, executor) = dispatcher_of(Bounds { outstanding: 3, inflight_bytes: 2 * size, ..BOUNDS });
    assert!(dispatcher.has_room(Duration::ZERO));
    dispatcher.accept(&mut vec![message(0)]).unwrap();
    assert!(dispatcher.has_room(Duration::ZERO), "another one fits");
    dispatcher.accept(&mut vec![message(1), message(2)]).unwrap();
    assert_eq!(*executor.0.lock().unwrap(), [generator_task(0), TaskId(0), TaskId(1)]);
    assert!(!dispatcher.has_room(Duration::ZERO));
    dispatcher.deliver(&mut vec![done(0)]);
    assert_eq!(executor.0.lock().unwrap().last(), Some(&TaskId(2)));
    dispatcher.deliver(&mut vec![done(1)]);
    assert!(dispatcher.has_room(Duration::ZERO));
}

#[test]
fn a_message_beyond_the_bound_goes_alone() {
    let (dispatcher, executor) = dispatcher_of(Bounds { outstanding: 3, inflight_bytes: 1, ..BOUNDS });
    assert!(dispatcher.has_room(Duration::ZERO));
    dispatcher.accept(&mut vec![message(0), message(1)]).unwrap();
    assert_eq!(*executor.0.lock().unwrap(), [generator_task(0), TaskId(0)]);
    dispatcher.deliver(&mut vec![done(0)]);
    assert_eq!(executor.0.lock().unwrap().last(), Some(&TaskId(1)));
}

#[test]
fn a_duplicate_is_counted_and_not_run() {
    let (dispatcher, executor) = dispatcher(8);
    dispatcher.accept(&mut vec![message(0), message(0)]).unwrap();
    assert_eq!(*executor.0.lock().unwrap(), [generator_task(0), TaskId(0)]);
    assert_eq!(dispatcher.finish().recorder.balance(1, 1, 0).duplicated, 1);
}

#[test]
fn what_is_not_of_the_trial_is_refused() {
    let (dispatcher, _) = dispatcher(8);
    assert_eq!(dispatcher.accept(&mut vec![message(100)]), Err(Foreign));
    let garbage = Message { head: Bytes::from_static(b"?"), payload: Bytes::new() };
    assert_eq!(dispatcher.accept(&mut vec![garbage]), Err(Foreign));
}

#[test]
fn what_came_ahead_of_a_foreign_message_is_run() {
    let (dispatcher, executor) = dispatcher(8);
    assert_eq!(dispatcher.accept(&mut vec![message(0), message(100)]), Err(Foreign));
    assert_eq!(*executor.0.lock().unwrap(), [generator_task(0), TaskId(0)]);
}

fn end(generated: u64) -> Message {
    end_of(0, generated)
}

fn end_of(generator: u32, generated: u64) -> Message {
    Message { head: item::encode(&Head::End { generator, generated }), payload: Bytes::new() }
}

#[test]
fn an_external_stream_ends_with_its_end_or_with_as_many_items_as_are_taken() {
    let bounds = Bounds { items: 3, generators: 0, ..BOUNDS };
    let (dispatcher, executor) = dispatcher_of(bounds);
    dispatcher.accept(&mut vec![message(0), message(1), end(2), message(2)]).unwrap();
    assert!(dispatcher.stream_has_ended());
    assert_eq!(*executor.0.lock().unwrap(), [TaskId(0), TaskId(1)]);
    assert_eq!((dispatcher.generators(Duration::ZERO), dispatcher.finish().generated), (vec![], vec![2]));

    let (dispatcher, executor) = dispatcher_of(bounds);
    dispatcher.accept(&mut (0..5).map(message).collect()).unwrap();
    assert!(dispatcher.stream_has_ended());
    assert_eq!(*executor.0.lock().unwrap(), [TaskId(0), TaskId(1), TaskId(2)]);
    assert_eq!(dispatcher.finish().generated, [3]);

    // One of the three was lost.
    let (dispatcher, _) = dispatcher_of(bounds);
    dispatcher.accept(&mut vec![message(0), message(2), message(3)]).unwrap();
    assert!(dispatcher.stream_has_ended());
    let finished = dispatcher.finish();
    assert_eq!(finished.recorder.balance(3, finished.all_generated(), 0).lost, 1);
}

#[test]
fn it_does_not_keep_its_executor() {
    let (dispatcher, executor) = dispatcher(8);
    dispatcher.accept(&mut vec![message(0)]).unwrap();
    let left = Arc::downgrade(&executor);
    drop(executor);
    assert_eq!(left.strong_count(), 0);
}

#[test]
fn a_lost_worker_and_a_closed_trial_are_accounted_for() {
    let (dispatcher, executor) = dispatcher(1);
    dispatcher.accept(&mut (0..3).map(message).collect()).unwrap();
    assert!(dispatcher.close("the test is over"));
    assert!(!dispatcher.close("once more"));
    let lost = TaskError::WorkerLost { label: "worker 1".into(), reason: "signal 9".into() };
    dispatcher.deliver(&mut vec![Outcome { task: TaskId(0), worker: Some(WorkerId(1)), result: Err(lost) }]);
    assert_eq!(*executor.0.lock().unwrap(), [generator_task(0), TaskId(0)]);
    let finished = dispatcher.finish();
    let balance = finished.recorder.balance(100, finished.all_generated(), 0);
    assert_eq!((balance.generated, balance.failed, balance.lost), (3, 3, 0));
    assert!(finished.recorder.failures().iter().any(|reason| reason.contains("signal 9")));
}

/// The outcome of a generator's task.
fn told(generator: u32, result: Result<u64, TaskError>) -> Outcome {
    let report = |generated| item::encode(&GeneratorReport { generated, ..GeneratorReport::default() });
    Outcome { task: generator_task(generator), worker: Some(WorkerId(generator)), result: result.map(report) }
}

fn killed() -> TaskError {
    TaskError::WorkerLost { label: "worker 1".into(), reason: "signal 9".into() }
}

#[test]
fn the_generators_end_is_told() {
    let (dispatcher, _) = dispatcher(1);
    assert_eq!(dispatcher.generators(Duration::ZERO), [Generator::Running]);
    dispatcher.deliver(&mut vec![told(0, Ok(9))]);
    let report = GeneratorReport { generated: 9, ..GeneratorReport::default() };
    assert_eq!(dispatcher.generators(Duration::ZERO), [Generator::Ended(Box::new(report))]);
    assert_eq!(dispatcher.finish().generated, [9]);
}

#[test]
fn the_stream_of_several_generators_ends_with_the_last_of_them() {
    let (dispatcher, executor) = dispatcher_of(Bounds { items: 10, generators: 3, ..BOUNDS });
    assert_eq!(*executor.0.lock().unwrap(), [0, 1, 2].map(generator_task));
    // The second one is ahead of the others, which is no other order of its own items.
    dispatcher.accept(&mut [1, 4, 0, 7, 3].map(message).into()).unwrap();
    dispatcher.accept(&mut vec![end_of(1, 3), end_of(1, 3), end_of(0, 4)]).unwrap();
    assert!(!dispatcher.stream_has_ended(), "one end came twice, and one not at all");
    dispatcher.accept(&mut vec![message(2), end_of(2, 1)]).unwrap();
    assert!(dispatcher.stream_has_ended());
    let finished = dispatcher.finish();
    assert_eq!(finished.generated, [4, 3, 1]);
    let balance = finished.recorder.balance(10, finished.all_generated(), 0);
    assert_eq!((balance.generated, balance.lost, balance.reordered, balance.duplicated), (8, 2, 0, 0));
}

#[test]
fn an_end_that_no_generator_can_have_is_refused() {
    let bounds = Bounds { items: 10, generators: 3, ..BOUNDS };
    for (generator, generated) in [(3, 0), (0, 5), (1, 4), (u32::MAX, 0)] {
        let (dispatcher, _) = dispatcher_of(bounds);
        assert_eq!(dispatcher.accept(&mut vec![end_of(generator, generated)]), Err(Foreign), "{generator}");
    }
}

#[test]
fn a_killed_generator_made_what_shows_and_one_that_stopped_early_what_it_told() {
    let (dispatcher, _) = dispatcher_of(Bounds { items: 30, generators: 3, ..BOUNDS });
    // Of the items 1, 4, 7, 10 … of the killed one 4 did not come, and who knows what after 7.
    dispatcher.accept(&mut [0, 1, 7, 2, 5].map(message).into()).unwrap();
    dispatcher.deliver(&mut vec![told(0, Ok(10)), told(1, Err(killed()))]);
    assert_eq!(dispatcher.silent_generators(), Silent::default(), "one still runs");
    dispatcher.accept(&mut vec![end_of(2, 2)]).unwrap();
    dispatcher.deliver(&mut vec![told(2, Ok(2))]);
    // The end of the first one is on its way.
    assert_eq!(dispatcher.silent_generators(), Silent { awaited: vec![0], lost: vec![1] });
    assert!(!dispatcher.stream_has_ended());
    let finished = dispatcher.finish();
    assert_eq!(finished.generated, [10, 3, 2]);
    let balance = finished.recorder.balance(30, finished.all_generated(), 0);
    // Nine of the first one's ten, and item 4.
    assert_eq!((balance.generated, balance.lost), (15, 10));
}

#[test]
fn what_one_worker_could_not_reach_the_others_learn_with_their_tasks() {
    let (dispatcher, executor) = dispatcher_of(Bounds { outstanding: 1, generators: 2, ..BOUNDS });
    dispatcher.accept(&mut (0..8).map(message).collect()).unwrap();
    let outcome = |sequence, unreachable: bool| {
        let failure = unreachable.then(|| item::ItemFailure { corrupt: false, unreachable, reason: "down".into() });
        let resolved = (!unreachable).then_some(0);
        let outcome = ItemOutcome { started: 0, resolved, finished: 1, evicted: None, bytes: 3, failure };
        Outcome { task: TaskId(sequence), worker: Some(WorkerId(0)), result: Ok(item::encode(&outcome)) }
    };
    // Those of the first generator can't be reached from item 0 on, and can again from item 4 on.
    for (item, unreachable) in [(0, true), (1, false), (2, true), (3, false), (4, false), (5, false), (6, false)] {
        dispatcher.deliver(&mut vec![outcome(item, unreachable)]);
    }
    assert_eq!(*executor.2.lock().unwrap(), [2, 4]);
}

#[test]
fn what_a_dead_generator_held_fails_at_once() {
    let bounds = Bounds { outstanding: 1, generators: 2, held_by_generators: true, ..BOUNDS };
    let (dispatcher, executor) = dispatcher_of(bounds);
    dispatcher.accept(&mut (0..6).map(message).collect()).unwrap();
    dispatcher.deliver(&mut vec![told(1, Err(killed()))]);
    // Also what comes later, and what of the other one comes is run.
    dispatcher.accept(&mut vec![message(7), message(8)]).unwrap();
    [0, 2, 4, 8].into_iter().for_each(|item| dispatcher.deliver(&mut vec![done(item)]));
    let run: Vec<_> = executor.0.lock().unwrap().iter().map(|task| task.0).filter(|task| *task < 100).collect();
    assert_eq!(run, [0, 2, 4, 8]);
    assert!(dispatcher.is_drained(Duration::ZERO));
    let recorder = dispatcher.finish().recorder;
    assert_eq!((recorder.finished(), recorder.done()), (4, 8));
    let reason = &recorder.failures()[0];
    assert!(reason.starts_with("item 1: ") && reason.contains("lost with its generator: "), "{reason}");
}

#[test]
fn what_a_generator_held_goes_with_its_process_also_after_its_end() {
    let bounds = Bounds { outstanding: 1, held_by_generators: true, ..BOUNDS };
    let (dispatcher, _) = dispatcher_of(bounds);
    assert!(!dispatcher.watches_hosts(), "it still runs");
    dispatcher.accept(&mut (0..3).map(message).collect()).unwrap();
    dispatcher.deliver(&mut vec![told(0, Ok(3))]);
    assert!(dispatcher.watches_hosts());
    let mut workers = [0, 1].map(|number| WorkerInfo::new(WorkerId(number), format!("worker {number}")));
    workers[1].alive = false;
    dispatcher.note_workers(&workers);
    assert_eq!(dispatcher.progress().items, 0, "that was another one");
    workers[0].alive = false;
    dispatcher.note_workers(&workers);
    assert_eq!((dispatcher.progress().items, dispatcher.watches_hosts()), (2, false));
}

#[test]
fn each_generator_is_told_how_many_items_it_may_have_made() {
    let bounds = Bounds { items: 20, generators: 2, inflight_items: Some(8), ..BOUNDS };
    let (dispatcher, executor) = dispatcher_of(bounds);
    let told = || std::mem::take(&mut *executor.1.lock().unwrap());
    dispatcher.accept(&mut (0..8).map(message).collect()).unwrap();
    dispatcher.deliver(&mut [0, 1, 3].map(done).into());
    assert_eq!(told(), [(generator_task(1), 6)], "of two at a time, each its own");
    dispatcher.deliver(&mut [2, 4, 5, 6, 7].map(done).into());
    assert_eq!(told(), [(generator_task(0), 8), (generator_task(1), 8)]);
    assert_eq!((dispatcher.miss(), told()), (8, vec![(generator_task(0), 10), (generator_task(1), 10)]), "none came");
}
