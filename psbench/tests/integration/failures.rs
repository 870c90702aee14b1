//! What goes wrong mid-run ends in an accounted loss within a bounded time, with what was measured on disk.

use std::process::{Child, Command, Output, Stdio};

use crate::support::{
    Bench, Redis, assert_balanced, assert_complete, command_line, finish, interrupt_twice, is_alive, problems,
    send_signal, stop_with_a_task, text, wait_until, workers_of,
};

/// A trial of some seconds: 3 workers, a task each 50 ms.
const BUSY: &str = "--max-workers 4 --data-size-bytes 10kB --task-count 60 --task-sleep 0.15 --stream-method proxy";

/// Whoever waits for a task that runs does so too long for these tests.
const FOR_AN_HOUR: &str = "--task-sleep 3600";

/// Starts a run whose items are in `server`, and waits until each of its workers has done something. Returns their process numbers, the
/// generator's first.
fn started(bench: &Bench, server: &Redis, arguments: &str) -> (Child, Vec<u32>) {
    let child = bench.command(&format!("{arguments} {}", server.as_connector())).spawn().unwrap();
    wait_until("tasks run", || server.resolved() > 5);
    let workers = workers_of(child.id());
    (child, workers)
}

#[test]
fn a_killed_worker_fails_its_tasks_by_name_and_is_replaced() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let (child, workers) = started(&bench, &server, &format!("--executor process {BUSY} --rate max"));
    stop_with_a_task(workers[2], &server);
    send_signal(workers[2], "KILL");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert_eq!(trial["status"], "incomplete");
    assert_eq!(trial["items"]["failed"], 1, "{trial:#}");
    assert_eq!(trial["items"]["finished"], 59);
    let problems = problems(trial);
    assert!(problems.contains(&workers[2].to_string()) && problems.contains("signal 9"), "{problems}");
}

#[test]
fn a_killed_generator_ends_the_trial_and_not_the_sweep() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments =
        format!("--executor process {BUSY} --repeat 2 --stream redis-queue --stream-servers {}", server.address());
    let (child, workers) = started(&bench, &server, &arguments);
    send_signal(workers[0], "KILL");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let results = bench.results();
    let trial = &results["trials"][0];
    assert_balanced(trial);
    assert_eq!(trial["status"], "incomplete");
    assert!(trial["problems"][0].as_str().unwrap().contains("signal 9"), "{trial:#}");
    assert_complete(&results["trials"][1]);
    assert_eq!(server.keys(), [""; 0], "objects of the killed generator were left behind");
}

/// Kills the generator of a run once something is so of its process and of those of the other workers. Returns its number.
fn kill_generator_once(run: &Child, is_so: impl Fn(u32, &[u32]) -> bool) -> u32 {
    let workers = || -> Vec<u32> {
        let mut workers = workers_of(run.id());
        workers.retain(|pid| command_line(*pid).ends_with(" worker"));
        workers
    };
    wait_until("items come", || workers().split_first().is_some_and(|(generator, others)| is_so(*generator, others)));
    let generator = workers()[0];
    send_signal(generator, "KILL");
    generator
}

/// The most memory that a process had, bytes; 0 of one that has ended.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    peak.unwrap_or(0_u64) << 10
}

#[test]
fn a_killed_generator_is_not_waited_for_by_the_size_of_its_items() {
    // By size it would be waited for for longer than a test may take.
    let server = Redis::start(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
    let servers = format!("--stream-servers {}", server.address());
    for (stream, servers) in [("memory", ""), ("redis", &servers[..]), ("redis-queue", &servers)] {
        let bench = Bench::new();
        let arguments = format!(
            "--executor process --max-workers 3 --stream-method default --data-size-bytes 60MB --task-count 1000 --task-sleep 0.2 --rate max \
             --stream {stream} {servers}"
        );
        let child = bench.command(&arguments).spawn().unwrap();
        kill_generator_once(&child, |_, others| others.iter().any(|pid| peak_memory(*pid) > 60_000_000));
        let output = finish(child);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = &bench.results()["trials"][0];
        assert_balanced(trial);
        assert_eq!((&trial["status"], &trial["items"]["lost"]), (&"incomplete".into(), &0.into()), "{trial:#}");
        let problems = problems(trial);
        assert!(problems.contains("signal 9") && !problems.contains("did not come within"), "{problems}");
        assert!(bench.log().contains("all has come of what generators had sent that were lost"), "{}", bench.log());
    }
}

#[test]
fn what_a_killed_generator_held_fails_at_once_by_name() {
    for connector in ["peer", "shm", "scistream"] {
        let bench = Bench::new();
        let arguments = format!(
            "--executor process --max-workers 4 --stream-method proxy --ps-connector {connector} --data-size-bytes 5MB --task-count 1000 \
             --task-sleep 2 --rate max --max-inflight-items 40 --pregenerate never"
        );
        let child = bench.command(&arguments).spawn().unwrap();
        // So many that some wait for a worker.
        let generator = kill_generator_once(&child, |generator, _| peak_memory(generator) > 150_000_000);
        let output = finish(child);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = &bench.results()["trials"][0];
        assert_balanced(trial);
        assert_eq!(trial["items"]["lost"], 0, "{trial:#}");
        let problems = problems(trial);
        let named = format!("lost with its generator: worker 0 (pid {generator}) was lost (signal 9 (SIGKILL))");
        // Workers of this host may find out earlier, and ask for the next ones at once.
        let found = ["is the process that stored the objects still running", "is listening there"];
        let found = connector != "scistream" && found.iter().any(|found| problems.contains(found));
        assert!(problems.contains(&named) || found, "{connector}: {problems}");
    }
}

#[test]
fn a_broker_that_dies_ends_the_trial_with_what_was_measured() {
    for stream in ["redis", "redis-queue"] {
        let (server, store) = (Redis::start(&[]), Redis::start(&[]));
        let bench = Bench::new();
        let arguments =
            format!("--executor thread {BUSY} --repeat 2 --stream {stream} --stream-servers {}", server.address());
        let (child, _) = started(&bench, &store, &arguments);
        let address = server.address();
        drop(server);
        let output = finish(child);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let results = bench.results();
        let trials = results["trials"].as_array().unwrap();
        assert_eq!(trials.len(), 2, "the sweep goes on with the next trial");
        assert_balanced(&trials[0]);
        assert!(trials[0]["items"]["finished"].as_u64().unwrap() > 2, "{}", trials[0]["items"]);
        assert!(problems(&trials[0]).contains(&address), "{}", problems(&trials[0]));
        assert_eq!(trials[1]["status"], "failed");
    }
}

#[test]
fn a_broker_that_stops_answering_ends_the_trial_in_time() {
    let (server, store) = (Redis::start(&[]), Redis::start(&[]));
    let bench = Bench::new();
    let arguments =
        format!("--executor process {BUSY} --timeout 8s --stream redis --stream-servers {}", server.address());
    let (child, _) = started(&bench, &store, &arguments);
    server.signal("STOP");
    let output = finish(child);
    server.signal("CONT");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert!(problems(trial).contains("--timeout"), "{}", problems(trial));
}

#[test]
fn a_subscriber_past_the_servers_limit_is_counted_and_the_remedy_named() {
    let server = Redis::start(&["--client-output-buffer-limit", "pubsub 4mb 2mb 5"]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor process --max-workers 3 --data-size-bytes 10MB --task-count 20 --task-sleep 0 --stream redis --stream-servers {}",
        server.address()
    );
    let output = finish(bench.command(&arguments).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let results = bench.results();
    let [default, proxy] = &results["trials"].as_array().unwrap()[..] else { panic!("{results:#}") };
    assert_balanced(default);
    assert!(default["items"]["lost"].as_u64().unwrap() > 0, "{}", default["items"]);
    // The cause comes first; that the generator found no subscriber any more follows from it.
    let cause = default["problems"][0].as_str().unwrap();
    assert!(cause.contains("client-output-buffer-limit"), "{}", problems(default));
    assert!(
        text(&output).contains("client-output-buffer-limit"),
        "the remedy is not on the terminal: {}",
        text(&output)
    );
    assert_complete(proxy);
}

#[test]
fn objects_that_vanish_fail_by_name() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments =
        format!("--executor process {BUSY} --task-sleep 1 --prefetch 20 --rate max {}", server.as_connector());
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("objects are stored", || server.keys().len() > 10);
    redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    let problems = problems(trial);
    let named = ["redis", &server.address(), "worker"].iter().all(|part| problems.contains(part));
    assert!(named, "{problems}");
}

#[test]
fn objects_that_change_are_found_corrupt() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    // Three are whole, and take their time.
    let arguments =
        format!("--executor process {BUSY} --task-sleep 3 --verify --prefetch 20 --rate max {}", server.as_connector());
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("objects are stored", || server.keys().len() > 40);
    let mut connection = server.connection();
    for key in server.keys() {
        // XX: not one that was evicted in the meantime.
        let forged = [&b"BS\n"[..], &[7; 10_000]].concat();
        redis::cmd("SET").arg(key).arg(forged).arg("XX").exec(&mut connection).unwrap();
    }
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert!(trial["items"]["corrupt"].as_u64().unwrap() > 10, "{}", trial["items"]);
    assert_eq!(trial["items"]["corrupt"], trial["items"]["failed"]);
    assert!(problems(trial).contains("checksum"), "{}", problems(trial));
}

#[test]
fn an_interrupt_finishes_what_runs_saves_and_exits_with_130() {
    for executor in ["thread", "process"] {
        let server = Redis::start(&[]);
        let bench = Bench::new();
        let (child, _) = started(&bench, &server, &format!("--executor {executor} {BUSY} --repeat 3"));
        send_signal(child.id(), "INT");
        let output = finish(child);
        assert_eq!(output.status.code(), Some(130), "{}", text(&output));
        let results = bench.results();
        let trials = results["trials"].as_array().unwrap();
        assert_eq!(trials.len(), 1);
        assert_eq!(trials[0]["status"], "interrupted");
        let items = &trials[0]["items"];
        assert!(items["finished"].as_u64().unwrap() > 3, "{items}");
        assert_balanced(&trials[0]);
    }
}

#[test]
fn an_interrupt_does_not_wait_for_what_has_not_begun() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let (child, _) = started(&bench, &server, &format!("--executor process {BUSY} --task-count 500 --rate max"));
    send_signal(child.id(), "INT");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("interrupt again"), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert_eq!(trial["status"], "interrupted");
    assert!(problems(trial).contains("not run"), "{}", problems(trial));
}

#[test]
fn a_second_interrupt_leaves_no_objects_even_of_threads() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!("--executor thread {BUSY} {FOR_AN_HOUR} --rate max {}", server.as_connector());
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("objects are stored", || server.keys().len() > 10);
    interrupt_twice(&child, &bench);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert_eq!(server.keys(), [""; 0], "objects were left behind");
}

#[test]
fn a_second_interrupt_leaves_at_once() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!("--executor process {BUSY} {FOR_AN_HOUR} --rate max {}", server.as_connector());
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("each worker has a task", || server.resolved() == 3);
    let workers = workers_of(child.id());
    interrupt_twice(&child, &bench);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    wait_until("the workers are gone", || !workers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn nothing_is_left_of_a_killed_run() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor process {BUSY} --task-sleep 1 --ps-lifetime run {} --stream redis --stream-servers {}",
        server.as_connector(),
        server.address()
    );
    let mut child = bench.command(&arguments).spawn().unwrap();
    // One is psbench's own, which tries whether it may.
    wait_until("objects are stored", || server.calls("set") > 1 && !server.keys().is_empty());
    let workers = workers_of(child.id());
    assert_eq!(workers.len(), 4);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the workers are gone", || !workers.iter().any(|pid| is_alive(*pid)));
    assert_eq!(server.keys(), [""; 0], "objects were left behind");
}

#[test]
fn a_full_disk_is_named() {
    let small = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        std::process::Command::new("mount").args(arguments).status().is_ok_and(|status| status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs", small.path().to_str().unwrap()]) {
        eprintln!("skipped: a_full_disk_is_named needs the right to mount a tmpfs");
        return;
    }
    let objects = small.path().join("objects");
    let bench = Bench::new();
    let arguments = format!(
        "--executor process --max-workers 3 --stream-method proxy --data-size-bytes 600kB --task-count 20 --task-sleep 1 --rate max \
         --ps-connector file --ps-file-dir {}",
        objects.display()
    );
    let output = finish(bench.command(&arguments).spawn().unwrap());
    let trial = bench.results()["trials"][0].clone();
    let left = std::fs::read_dir(&objects).map_or(0, Iterator::count);
    let saved = bench.command(
        "--executor thread --max-workers 2 --data-size-bytes 1kB --task-count 2000 --task-sleep 0 --repeat 300",
    );
    let full = full_results(saved, small.path());
    assert!(std::process::Command::new("umount").arg(small.path()).status().unwrap().success());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_balanced(&trial);
    let problems = problems(&trial);
    assert!(problems.contains("objects") && problems.contains("No space left"), "{problems}");
    assert_eq!(left, 0, "files were left on the full disk");
    let said = text(&full);
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.contains("results.") && said.contains("No space left"), "{said}");
}

/// Runs with results on the small disk, until it is full.
fn full_results(mut command: std::process::Command, directory: &std::path::Path) -> Output {
    command.arg("--run-dir").arg(directory);
    finish(command.spawn().unwrap())
}

#[test]
fn what_was_ignored_at_the_start_stays_ignored() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!("{} --executor process {BUSY}", server.as_connector());
    // As `nohup` does, and scripts with what they put into the background.
    let psbench = bench.command(&arguments);
    let mut command = Command::new("env");
    command.args(["--ignore-signal=HUP,INT"]).arg(psbench.get_program()).args(psbench.get_args());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a task runs", || server.resolved() > 0);
    send_signal(child.id(), "HUP");
    send_signal(child.id(), "INT");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_balanced(&bench.results()["trials"][0]);
}

#[test]
fn an_interrupt_counts_before_the_run_is_planned() {
    let bench = Bench::new();
    let recipe = bench.directory.path().join("recipe.toml");
    assert!(Command::new("mkfifo").arg(&recipe).status().unwrap().success());
    let child = bench.command(&format!("{BUSY} --recipe {}", recipe.display())).spawn().unwrap();
    // Opens when psbench does.
    let written = std::fs::File::options().write(true).open(&recipe).unwrap();
    send_signal(child.id(), "INT");
    drop(written);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
}
