//! Few threads, little memory: said in a line, before or instead of what can't be.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::support::{Bench, Redis, finish, text};

/// psbench where any user may run it.
struct Limited {
    directory: TempDir,
}

impl Limited {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_psbench"), directory.path().join("psbench")).unwrap();
        Self { directory }
    }

    /// Runs it within what a shell can limit: of whoever runs it, so of a user that nobody else is, where this one may become another.
    fn run(&self, limit: &str, arguments: &str) -> (Bench, Output) {
        static USERS: AtomicU32 = AtomicU32::new(0);
        let bench = Bench::new();
        set_permissions(bench.directory.path(), Permissions::from_mode(0o777)).unwrap();
        let (program, runs) = (self.directory.path().join("psbench"), bench.directory.path());
        let command = format!("ulimit {limit}; cd {}; exec {} {arguments}", runs.display(), program.display());
        let mut shell = Command::new("bash");
        shell.args(["-c", &command]).stdout(Stdio::piped()).stderr(Stdio::piped());
        if geteuid().is_root() {
            // Tests that run at the same time are apart.
            let user = 1_000_000 + std::process::id() * 64 + USERS.fetch_add(1, Ordering::Relaxed);
            shell.uid(user).gid(user);
        }
        let output = finish(shell.spawn().unwrap());
        (bench, output)
    }
}

#[test]
fn where_threads_are_few_the_end_is_in_order_and_says_what_to_do() {
    let (redis, psbench) = (Redis::start(&[]), Limited::new());
    let sweep = "stream-scaling --max-workers 2 --data-size-bytes 1kB --task-count 5 --run-dir runs";
    let at_redis = redis.as_connector();
    for arguments in [
        format!("{sweep} --executor process"),
        format!("{sweep} --executor thread --ps-connector memory"),
        format!("{sweep} --executor thread {at_redis} --stream redis --stream-servers {}", redis.address()),
        format!("{sweep} --executor process --ps-connector scistream"),
        "s2cs --insecure --port 0 --data-threads 9".to_owned(),
        "doctor".to_owned(),
    ] {
        for threads in 1..9 {
            if arguments.starts_with("s2cs") && threads > 1 {
                break;
            }
            let (_bench, output) = psbench.run(&format!("-u {threads}"), &arguments);
            let said = text(&output);
            assert!(!said.contains("panicked"), "{threads} threads, {arguments}: {said}");
            let code = output.status.code();
            assert!(matches!(code, Some(0..=2)), "{threads} threads, {arguments}: {:?}: {said}", output.status);
            let what_to_do = said.contains("raise pids.max of the control group, or ulimit -u");
            assert!(code == Some(0) || what_to_do, "{threads} threads, {arguments}: {said}");
        }
    }
}

#[test]
fn items_that_no_memory_holds_are_refused_before_anything_starts() {
    let psbench = Limited::new();
    for (size, executor) in [("1PB", "process"), ("1PB", "thread"), ("100GB", "process")] {
        let limit = if size == "1PB" { "-c 0" } else { "-v 20000000" };
        let arguments =
            format!("stream-scaling --executor {executor} --max-workers 2 --data-size-bytes {size} --task-count 2");
        for dry in ["", " --dry-run"] {
            let (bench, output) = psbench.run(limit, &format!("{arguments} --run-dir runs{dry}"));
            let said = text(&output);
            assert_eq!(output.status.code(), Some(2), "{arguments}{dry}: {said}");
            assert!(said.starts_with("error: --data-size-bytes ") && said.trim().lines().count() == 1, "{said}");
            assert!(!bench.directory.path().join("runs").exists(), "{arguments}{dry}");
        }
    }
}

#[test]
fn a_plan_tells_the_memory_that_its_items_take() {
    let output = Bench::new().run("--data-size-bytes 1MB --max-workers 2 --task-count 10 --dry-run");
    assert!(text(&output).contains("items take up to ") && text(&output).contains(" of memory on this host\n"));
    let (_bench, output) = Limited::new().run(
        "-v 4000000",
        "stream-scaling --data-size-bytes 500MB --max-workers 3 --task-count 50 --dry-run --run-dir runs",
    );
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("WARNING items may take "), "{}", text(&output));
}

#[test]
fn threads_that_run_out_of_memory_fail_a_trial_and_not_those_before() {
    // Each process may have so much, of which the allocator reserves a part; what others hold is not planned.
    let arguments = "stream-scaling --executor thread --max-workers 2 --stream-method default --data-size-bytes 1MB 1200MB --task-count 3 \
                     --run-dir runs";
    let (bench, output) = Limited::new().run("-v 3000000", arguments);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let run = std::fs::read_dir(bench.directory.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let results = crate::support::read_json(&run.join("results.json"));
    let statuses: Vec<_> = results["trials"].as_array().unwrap().iter().map(|trial| trial["status"].clone()).collect();
    assert_eq!(statuses, ["complete", "failed"], "{said}");
    assert!(said.contains("no memory for an item of 1200000000 bytes"), "{said}");
}

#[test]
fn the_least_memory_of_workers_is_enough_for_the_default_connector() {
    let trials =
        Bench::new().trials("--max-workers 3 --data-size-bytes 1kB 1MB --task-count 50 --worker-memory 1250MB");
    assert!(trials.iter().all(|trial| trial["status"] == "complete"), "{trials:#?}");
}
