//! Workers that connect.

use std::env::current_exe;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command as Program, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, scope, spawn};
use std::time::Duration;

use psbench_executors::conformance::{Collector, Command, begun};
use psbench_executors::pilot::launch::{CommandLauncher, LaunchCommand};
use psbench_executors::pilot::{DoorOptions, Invitation, Launcher, PilotExecutor, PilotOptions, TOKEN_VARIABLE};
use psbench_executors::{Executor, ExecutorError, OutcomeSink, TaskError, WorkerEnd, WorkerId};
use rustix::process::Signal;

use crate::losses::end_with_their_executor;
use crate::support::{CONNECT, HOUR, PATIENCE, eventually, lost, runs, signal};

/// All tests of this file.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_killed_pilot_is_named_and_the_others_go_on", a_killed_pilot_is_named_and_the_others_go_on),
    ("a_stopped_pilot_is_told_by_its_silence", a_stopped_pilot_is_told_by_its_silence),
    ("without_pilots_all_tasks_end", without_pilots_all_tasks_end),
    ("pilots_do_not_outlive_a_killed_executor", pilots_do_not_outlive_a_killed_executor),
    ("pilots_of_another_executor_are_not_let_in", pilots_of_another_executor_are_not_let_in),
    ("slow::whoever_did_not_come_or_was_not_let_in_is_told", whoever_did_not_come_or_was_not_let_in_is_told),
    ("strangers_do_not_keep_pilots_out", strangers_do_not_keep_pilots_out),
    ("pilots_that_do_not_come_fail_the_start", pilots_that_do_not_come_fail_the_start),
    ("a_launcher_that_fails_fails_the_start", a_launcher_that_fails_fails_the_start),
    ("a_setup_that_fails_on_a_pilot_fails_the_start", a_setup_that_fails_on_a_pilot_fails_the_start),
    ("an_overdue_task_of_a_pilot_is_ended", an_overdue_task_of_a_pilot_is_ended),
    ("the_clock_of_a_pilot_is_estimated", the_clock_of_a_pilot_is_estimated),
    ("numbers_begin_where_they_are_told_to", numbers_begin_where_they_are_told_to),
];

/// Options for workers that are this test program.
pub(crate) fn options(workers: u32, tls: bool) -> PilotOptions {
    PilotOptions {
        ready_timeout: PATIENCE,
        door: DoorOptions { tls, ..DoorOptions::default() },
        ..PilotOptions::new(workers)
    }
}

/// Starts a worker that this test program is.
fn command(invitation: &Invitation) -> LaunchCommand {
    let command = vec![current_exe().unwrap().into(), CONNECT.into(), invitation.address.clone().into()];
    LaunchCommand { name: "a worker".to_owned(), command, env: Vec::new(), input: None }
}

fn launcher() -> Box<dyn Launcher> {
    Box::new(CommandLauncher::new(|invitation, workers| (0..workers).map(|_| command(invitation)).collect()))
}

/// Starts such workers.
pub(crate) fn start(options: &PilotOptions, sink: Arc<dyn OutcomeSink>) -> Result<PilotExecutor, ExecutorError> {
    PilotExecutor::start(options, launcher(), sink)
}

#[track_caller]
fn not_ready(started: Result<PilotExecutor, ExecutorError>, wanted: &str) {
    match started.map(drop) {
        Err(error @ ExecutorError::NotReady { .. }) => assert!(error.to_string().contains(wanted), "{error}"),
        other => panic!("{other:?}"),
    }
}

fn a_killed_pilot_is_named_and_the_others_go_on() {
    let sink = Arc::new(Collector::default());
    let executor = start(&options(2, false), sink.clone()).unwrap();
    executor.submit(vec![HOUR.task(0, "")]);
    let worker = executor.workers()[0].clone();
    signal(&worker, Signal::KILL);
    assert_eq!(lost(sink.outcome(0), "its connection ended"), worker.label);
    executor.submit((1..50).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(50);
    assert!((1..50).all(|id| sink.worker(id) == Some(WorkerId(1))));
    let workers = executor.workers();
    assert_eq!((workers.len(), workers[0].alive, workers[1].alive), (2, false, true));
    assert_eq!(workers[0].end, Some(WorkerEnd::Lost("its connection ended".to_owned())));
    assert_eq!(begun(&executor.shutdown(PATIENCE)), 49);
}

fn a_stopped_pilot_is_told_by_its_silence() {
    let sink = Arc::new(Collector::default());
    let options = PilotOptions { silence_limit: Duration::from_secs(5), ..options(1, false) };
    let executor = start(&options, sink.clone()).unwrap();
    executor.submit(vec![HOUR.task(0, "")]);
    let worker = executor.workers()[0].clone();
    signal(&worker, Signal::STOP);
    lost(sink.outcome(0), "silent for 5s");
    signal(&worker, Signal::CONT);
    eventually("its end", || !runs(worker.pid.unwrap()));
}

fn without_pilots_all_tasks_end() {
    let sink = Arc::new(Collector::default());
    let executor = start(&options(1, false), sink.clone()).unwrap();
    executor.submit((0..5).map(|id| HOUR.task(id, "")).collect());
    signal(&executor.workers()[0], Signal::KILL);
    sink.wait_for(5);
    executor.submit(vec![Command::Echo.task(5, "")]);
    lost(sink.outcome(0), "its connection ended");
    for id in 1..6 {
        assert!(
            matches!(sink.outcome(id), Err(TaskError::NotRun(reason)) if reason.starts_with("no workers are left"))
        );
    }
}

fn pilots_do_not_outlive_a_killed_executor() {
    end_with_their_executor("plain");
    end_with_their_executor("tls");
}

/// Hands the invitation on, and starts nothing.
struct Messenger {
    invitations: Mutex<mpsc::Sender<Invitation>>,
    gives_up: Arc<AtomicBool>,
}

impl Launcher for Messenger {
    fn launch(&self, invitation: &Invitation, _workers: u32) -> Result<(), ExecutorError> {
        self.invitations.lock().unwrap().send(invitation.clone()).unwrap();
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        self.gives_up.load(Ordering::Relaxed).then(|| "the test gives up".to_owned())
    }

    fn end(&self, _grace: Duration) {}
}

/// An executor that waits for its workers.
struct Starting {
    thread: JoinHandle<Result<PilotExecutor, ExecutorError>>,
    gives_up: Arc<AtomicBool>,
}

impl Starting {
    fn end(self) -> Result<PilotExecutor, ExecutorError> {
        self.thread.join().unwrap()
    }

    /// Has its launcher say that nobody will come.
    fn give_up(self) {
        self.gives_up.store(true, Ordering::Relaxed);
        not_ready(self.end(), "0 of 1 workers became ready: the test gives up");
    }
}

/// Starts an executor of one worker in another thread, and tells its invitation.
fn inviting(options: PilotOptions) -> (Invitation, Starting) {
    let (sender, receiver) = mpsc::channel();
    let sink = Arc::new(Collector::default());
    let gives_up = Arc::new(AtomicBool::new(false));
    let messenger = Messenger { invitations: Mutex::new(sender), gives_up: Arc::clone(&gives_up) };
    let thread = spawn(move || PilotExecutor::start(&options, Box::new(messenger), sink));
    (receiver.recv().unwrap(), Starting { thread, gives_up })
}

/// Starts a worker for an invitation; returns what it says when it has ended.
fn guest(invitation: &Invitation) -> String {
    let ended = Program::new(current_exe().unwrap())
        .args([CONNECT, &invitation.address])
        .env(TOKEN_VARIABLE, &invitation.token)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

fn pilots_of_another_executor_are_not_let_in() {
    for tls in [false, true] {
        let (invitation, starting) = inviting(options(1, tls));
        let (other, other_starting) = inviting(options(1, tls));
        let stray = Invitation { token: other.token, ..invitation };
        let said = guest(&stray);
        let reason = if tls { "it hung up" } else { "its token is another" };
        assert!(said.contains("does not let this worker in") && said.contains(reason), "{said}");
        let nobody = Invitation { token: "no token".to_owned(), ..stray };
        assert!(guest(&nobody).contains("this is no token"), "{}", guest(&nobody));
        starting.give_up();
        other_starting.give_up();
    }
}

fn whoever_did_not_come_or_was_not_let_in_is_told() {
    // Long enough for a guest to come.
    const PATIENT: Duration = Duration::from_secs(20);
    let start = |tls| inviting(PilotOptions { ready_timeout: PATIENT, ..options(1, tls) });
    scope(|threads| {
        for tls in [false, true] {
            threads.spawn(move || {
                let ((invitation, starting), (other, other_starting)) = (start(tls), start(tls));
                guest(&Invitation { token: other.token, ..invitation });
                not_ready(starting.end(), if tls { "was not let in" } else { "its token is wrong" });
                not_ready(other_starting.end(), "did not come within 20s");
            });
        }
    });
}

/// Far more strangers than there are places, all of whom stay for as long as they are let.
fn strangers_do_not_keep_pilots_out() {
    for tls in [false, true] {
        let (invitation, starting) = inviting(options(2, tls));
        let connect = || TcpStream::connect(&invitation.address).unwrap();
        let strangers: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
        connect().write_all(&[0xff; 1000]).unwrap();
        let workers = [(); 2].map(|()| {
            Program::new(current_exe().unwrap())
                .args([CONNECT, &invitation.address])
                .env(TOKEN_VARIABLE, &invitation.token)
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        });
        let executor = starting.end().unwrap();
        let (mut here, mut started): (Vec<_>, Vec<_>) = (
            executor.workers().iter().filter_map(|worker| worker.pid).collect(),
            workers.each_ref().map(Child::id).into(),
        );
        here.sort_unstable();
        started.sort_unstable();
        assert_eq!(here, started);
        // All are here: the door is closed, and who still stood in it was sent away.
        assert!(TcpStream::connect(&invitation.address).is_err());
        for mut stranger in strangers {
            assert!(matches!(stranger.read(&mut [0; 8]), Ok(0) | Err(_)));
        }
        assert_eq!(executor.shutdown(PATIENCE).len(), 2);
        for mut worker in workers {
            assert!(worker.wait().unwrap().success());
        }
    }
}

fn pilots_that_do_not_come_fail_the_start() {
    let (_, starting) = inviting(PilotOptions { ready_timeout: Duration::from_millis(300), ..options(1, false) });
    not_ready(starting.end(), "0 of 1 workers became ready: they did not come within 300ms");
}

fn a_launcher_that_fails_fails_the_start() {
    let shell = |script: &'static str| {
        let command = ["sh", "-c", script].map(Into::into).to_vec();
        let launch = LaunchCommand { name: "mpiexec".to_owned(), command, env: Vec::new(), input: None };
        let launcher = CommandLauncher::new(move |_, _| vec![launch.clone()]);
        PilotExecutor::start(&options(2, false), Box::new(launcher), Arc::new(Collector::default()))
    };
    not_ready(shell("echo no slots >&2; exit 3"), "0 of 2 workers became ready: mpiexec ended (exit code 3): no slots");
    let missing =
        LaunchCommand { name: "srun".to_owned(), command: vec!["/nowhere/srun".into()], env: Vec::new(), input: None };
    let launcher = CommandLauncher::new(move |_, _| vec![missing.clone()]);
    let started = PilotExecutor::start(&options(2, false), Box::new(launcher), Arc::new(Collector::default()));
    assert!(matches!(started.map(drop), Err(ExecutorError::Start { what, .. }) if what.contains("/nowhere/srun")));
}

fn a_setup_that_fails_on_a_pilot_fails_the_start() {
    let refusing = PilotOptions { setup: "refuse no such thing".into(), ..options(2, false) };
    not_ready(start(&refusing, Arc::new(Collector::default())), "its setup failed: no such thing");
}

fn an_overdue_task_of_a_pilot_is_ended() {
    let sink = Arc::new(Collector::default());
    let options = PilotOptions { task_timeout: Some(Duration::from_secs(3)), ..options(2, false) };
    let executor = start(&options, sink.clone()).unwrap();
    executor.submit(vec![HOUR.task(0, ""), Command::Echo.task(1, "")]);
    assert!(matches!(sink.outcome(0), Err(TaskError::TimedOut { .. })));
    assert!(sink.outcome(1).is_ok());
    let worker = executor.workers()[0].pid.unwrap();
    eventually("its end", || !runs(worker));
}

/// A worker in a time namespace of its own reads another clock.
fn the_clock_of_a_pilot_is_estimated() {
    const AHEAD: i64 = 1_000_000;
    let unshared = |offset: &str| {
        Program::new("unshare")
            .args(["--time", "--monotonic", offset, "--fork", "true"])
            .output()
            .is_ok_and(|ended| ended.status.success())
    };
    if !unshared("1") {
        eprintln!("skipped: the_clock_of_a_pilot_is_estimated takes root and time namespaces");
        return;
    }
    let launcher = CommandLauncher::new(|invitation, _| {
        let mut launch = command(invitation);
        let ahead = AHEAD.to_string();
        let unshare = ["unshare", "--time", "--monotonic", &ahead, "--fork"];
        launch.command.splice(0..0, unshare.map(Into::into));
        vec![launch]
    });
    let executor =
        PilotExecutor::start(&options(1, false), Box::new(launcher), Arc::new(Collector::default())).unwrap();
    let clock = executor.workers()[0].clock.unwrap();
    let off = clock.ahead_ns.abs_diff(AHEAD * 1_000_000_000);
    // The other clock is further away than any answer takes.
    assert!(off <= clock.error_ns && clock.error_ns < PATIENCE.as_nanos() as u64, "{clock:?}");
}

fn numbers_begin_where_they_are_told_to() {
    let sink = Arc::new(Collector::default());
    let executor = start(&PilotOptions { first: 5, ..options(2, false) }, sink.clone()).unwrap();
    let workers = executor.workers();
    assert_eq!(workers.iter().map(|worker| worker.id).collect::<Vec<_>>(), [WorkerId(5), WorkerId(6)]);
    assert!(workers[0].label.starts_with("worker 5 (pid "), "{}", workers[0].label);
    executor.submit(vec![Command::Echo.task(0, "")]);
    assert!(sink.outcome(0).is_ok() && sink.worker(0) >= Some(WorkerId(5)));
    assert_eq!(executor.shutdown(PATIENCE).len(), 2);
}
