//! The command line from outside: what it takes, what it refuses, and how it ends.

use assert_cmd::Command;

fn psbench(arguments: &str) -> Command {
    let mut command = Command::cargo_bin("psbench").unwrap();
    command.args(arguments.split_whitespace());
    command
}

/// Standard output of a run that succeeds.
fn output(arguments: &str) -> String {
    let output = psbench(arguments).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

/// The line of a run that is refused.
fn refusal(arguments: &str) -> String {
    let output = psbench(arguments).assert().code(2).get_output().clone();
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap().trim_end().to_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn the_plan_of_a_million_repetitions_is_short_and_takes_little_memory() {
    for command in ["stream-scaling --stream-method default proxy", "compare-paths --paths broker peer"] {
        let psbench = env!("CARGO_BIN_EXE_psbench");
        let limited = format!(
            "ulimit -v 4000000; exec {psbench} {command} --data-size-bytes 1kB --repeat 1000000 --max-workers 2 4 --dry-run"
        );
        let output = std::process::Command::new("sh").args(["-c", &limited]).output().unwrap();
        let plan = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(plan.lines().filter(|line| line.contains("1 to 1000000")).count(), 4, "{plan}");
        assert!(plan.contains("4000000 trials") && plan.len() < 10_000, "{plan}");
    }
}

#[test]
fn the_known_command_is_six_experiments() {
    let plan = output(
        "stream-scaling --executor thread --max-workers 4 --stream-method default proxy \
         --data-size-bytes 100000 1000000 10000000 --task-count 16 --task-sleep 1.0 --ps-connector redis \
         --ps-host localhost --ps-port 6379 --stream redis --stream-servers localhost:6379 --dry-run",
    );
    for expected in [
        "executor thread, broker redis at localhost:6379, connector redis localhost:6379",
        "16 items in each trial, 1.00 s each",
        "every 333 ms (3.00/s)",
        "6 trials, at least",
    ] {
        assert!(plan.contains(expected), "{expected}\n{plan}");
    }
}

#[test]
fn values_are_taken_as_argparse_takes_them() {
    let apart = output("stream-scaling --data-size-bytes 100000 1000000 --max-workers 4 --task-sleep 0.5 --dry-run");
    let joined =
        output("stream-scaling --data-size-bytes 5 --data-size-bytes 100kB 1MB --max-w=4 --task-sl=500ms --dry-run");
    assert_eq!(apart, joined);
}

#[test]
fn repetitions_interleave_the_methods() {
    let plan = output(
        "stream-scaling --data-size-bytes 1kB --max-workers 2 3 --repeat 2 --rate 50/s --task-count 10 --dry-run",
    );
    let order: Vec<_> = plan
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split_whitespace().collect();
            cells.first()?.parse::<u32>().ok()?;
            cells[1..].windows(3).find(|cells| ["default", "proxy"].contains(&cells[0])).map(|cells| cells.join(" "))
        })
        .collect();
    assert_eq!(
        order,
        [
            "default 2 1",
            "proxy 2 1",
            "default 2 2",
            "proxy 2 2",
            "default 3 1",
            "proxy 3 1",
            "default 3 2",
            "proxy 3 2"
        ]
    );
    assert!(plan.contains("every 20.0 ms (50.0/s)") && plan.contains("10.0 kB"), "{plan}");
}

#[test]
fn what_makes_no_sweep_is_one_line() {
    for (options, line) in [
        (
            "--executor parsl --parsl-executor htex-remote",
            "--parsl-executor htex-remote: unknown; there are: thread, htex-local, htex-polaris-headless",
        ),
        (
            "--executor fork",
            "--executor fork: unknown; there are: dask, globus, mpi, parsl, process, python, slurm, ssh, thread",
        ),
        ("--executor python", "--executor python needs --python-executor"),
        ("--executor mpi --submit task", "--submit task: --executor mpi only places workers; write pilot"),
        ("--executor dask --submit-batch 0", "--submit-batch 0: write a number from 1 to 100000"),
        (
            "--executor dask --ps-connector memory",
            "--ps-connector memory: worker processes can't reach it; use --ps-connector peer",
        ),
        (
            "--executor globus --globus-compute-endpoint 00000000-0000-0000-0000-000000000001",
            "--ps-connector peer: workers of --executor globus can't reach it from their hosts; use --ps-connector redis, s3, \
             endpoint or scistream, file in a directory that all hosts mount, or peer with --ps-address 0.0.0.0",
        ),
        (
            "--executor ssh --hosts n1 --ps-connector shm",
            "--ps-connector shm: workers of --executor ssh can't reach it from their hosts; use --ps-connector redis, s3, \
             endpoint or scistream, file in a directory that all hosts mount, or peer with --ps-address 0.0.0.0",
        ),
        (
            "--executor ssh --hosts n1 --ps-address 0.0.0.0",
            "--stream memory: a generator of --executor ssh can't reach it from its host; use --stream kafka, redis or redis-queue, \
             or --generator local",
        ),
        (
            "--executor ssh --hosts n1 --ps-address 0.0.0.0 --generator local",
            "--worker-listen 127.0.0.1: workers of --executor ssh can't connect to it from their hosts; write an address of this \
             host, or 0.0.0.0",
        ),
        ("--ps-advertise n1", "--ps-advertise needs --ps-address"),
        ("--stream pulsar", "--stream pulsar: unknown; there are: kafka, memory, redis, redis-queue"),
        (
            "--stream-method adios --adios-file x.xml",
            "--stream-method adios: not in this version; there are: default, proxy",
        ),
        (
            "--ps-connector globus",
            "--ps-connector globus: not in this version; there are: endpoint, file, memory, multi, peer, redis, s3, scistream, shm (globus needs \
             credentials for Globus Transfer; file does the same job where all hosts mount the directory, s3 across sites)",
        ),
        ("--ps-connector multi", "--ps-connector multi needs --ps-multi"),
        ("--ps-connector multi --ps-multi file,min=2,max=1", "--ps-multi file,min=2,max=1: max is less than min"),
        ("--ps-lifetime leased", "--ps-lifetime leased needs --ps-lease"),
        ("--ps-lifetime leased --ps-lease 0", "--ps-lease 0: a lease lasts; write more than 0"),
        (
            "--ps-lifetime static",
            "--ps-lifetime static: objects of the peer connector end with their trial; use redis or file",
        ),
        ("--max-inflight-bytes 1MB", "--max-inflight-bytes 1MB: less than one item of 10MB; write at least that"),
        ("--worker-memory 1GB", "--worker-memory 1GB: too little for a worker to start; write 1250MB or more"),
        ("--max-tasks-per-worker 0", "--max-tasks-per-worker 0: write a number from 1 to 18446744073709551615"),
        (
            "--task-timeout 1 --task-sleep 2",
            "--task-timeout 1s: no task of --task-sleep 2s ends in that time; write more",
        ),
        (
            "--cpu-affinity list:0:0 --max-workers 4",
            "--cpu-affinity list:0:0: cores for 2 of 4 worker processes; write as many sets",
        ),
        ("--data-size-bytes 0", "--data-size-bytes 0: an item has at least 1 byte"),
        ("--max-workers 1", "--max-workers 1: at least 2 workers: one generates, the others compute"),
        (
            "--process-pool-max-workers 1",
            "--process-pool-max-workers 1: at least 2 workers: one generates, the others compute",
        ),
        (
            "--process-pool-max-workers 3 --max-workers 4",
            "--process-pool-max-workers 3: fewer than --max-workers 4; write at least as many",
        ),
        ("--task-count 0", "--task-count 0: write a number from 1 to 4294967295"),
        ("--repeat 0", "--repeat 0: write a number from 1 to 1000000"),
        ("--timeout 0", "--timeout 0: a trial needs time; write more than 0"),
        ("--ps-connector endpoint", "--ps-connector endpoint needs --ps-endpoints"),
        (
            "--ps-connector endpoint --ps-endpoints mine",
            "--ps-endpoints mine: not a UUID; `proxystore-endpoint list` shows those of this host's endpoints",
        ),
        ("--ps-connector s3", "--ps-connector s3 needs --ps-s3-bucket"),
        (
            "--ps-connector s3 --ps-s3-bucket s3://x",
            "--ps-s3-bucket s3://x: not a bucket's name; write it without s3://",
        ),
        (
            "--ps-connector s3 --ps-s3-bucket x --ps-s3-endpoint localhost:9000",
            "--ps-s3-endpoint localhost:9000: write http://HOST[:PORT] or https://HOST[:PORT]",
        ),
        (
            "--ps-connector s3 --ps-s3-bucket x --ps-s3-endpoint http://me:secret@localhost",
            "--ps-s3-endpoint …: credentials don't belong there; put them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        ("--ps-connector file", "--ps-connector file needs --ps-file-dir"),
        (
            "--ps-connector memory",
            "--ps-connector memory: worker processes can't reach it; use --ps-connector peer, or --executor thread",
        ),
        (
            "--stream redis --stream-servers a:1 b:2",
            "--stream-servers a:1,b:2: Redis takes one server; write one, or --redis-sentinel NAME where these are sentinels",
        ),
        (
            "--stream kafka --stream-servers localhost",
            "--stream-servers localhost: no port; write host:port, for example localhost:6379 or [::1]:6379",
        ),
        ("--ps-memory-limit 1kB", "--ps-memory-limit 1kB: less than one item of 10MB; write more"),
        ("--payload-file /nonexistent", "--payload-file /nonexistent: No such file or directory (os error 2)"),
        ("--payload-file /tmp", "--payload-file /tmp: not a regular file"),
        ("--csv-file log.txt", "--log-file log.txt: another file of the run has this name"),
        ("--csv-file results.json", "--csv-file results.json: another file of the run has this name"),
        (
            "--csv-file ../x.csv",
            "--csv-file ../x.csv: write a name without a directory; the file lies in the run's directory, for which see --run-dir",
        ),
        (
            "--log-file ..",
            "--log-file ..: write a name without a directory; the file lies in the run's directory, for which see --run-dir",
        ),
        ("--recipe /nonexistent", "--recipe /nonexistent: No such file or directory (os error 2)"),
    ] {
        assert_eq!(refusal(&format!("stream-scaling --dry-run {options}")), format!("error: {line}"));
    }
}

#[test]
fn malformed_values_say_what_to_write() {
    for (options, expected) in [
        ("--data-size-bytes 10XB", "not a size: write bytes or a unit"),
        ("--data-size-bytes 1.5B", "not a size: write a whole number of bytes"),
        ("--seed abc", "not a whole number from 0 to 18446744073709551615: write for example 1000, 1_000 or 1e3"),
        ("--data-size-bytes -5", "not a size: write bytes or a unit"),
        ("--task-count -5", "not a whole number from 0"),
        ("--task-count 10.5", "not a whole number from 0"),
        ("--task-sleep -1", "not a duration: write seconds from 0 up or a unit"),
        ("--task-sleep=-1", "not a duration: write seconds from 0 up or a unit"),
        ("--rate 0", "not a rate: write items per second above 0"),
        ("--ps-port 99999", "not a whole number from 0 to 65535"),
        ("--frobnicate", "unexpected argument '--frobnicate'"),
        ("--task-cuont 5", "unexpected argument '--task-cuont' found; a similar argument exists: '--task-count'"),
        ("--data-size-bytes -5kB", "-5 begins with a minus; no option takes less than 0"),
        ("--task copies", "[possible values: "),
        ("--worker-listen node7", "not an address: write for example 127.0.0.1"),
        ("--ps-address tcp://node7", "--ps-address tcp://node7: not a host; write a name or an address"),
        ("--stream-servers a:1,b@c:2 --stream kafka", "not a host"),
    ] {
        let refused = refusal(&format!("stream-scaling --dry-run {options}"));
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn numbers_lists_and_names_are_taken_as_people_type_them() {
    for (typed, meant) in [
        ("--task-count 1e3 --max-workers 2,4", "--task-count 1000 --max-workers 2 4"),
        ("--task-count 1_000 --data-size-bytes 1kB,2kB", "--task-count 1000 --data-size-bytes 1kB 2kB"),
        (
            "--task-count 7 --data-size-bytes 1e3 2_000 --rate 1_000",
            "--task-count 7 --data-size-bytes 1kB 2kB --rate 1000",
        ),
        (
            "--executor mpi --worker-listen [::1] --worker-connect [::1]",
            "--executor mpi --worker-listen ::1 --worker-connect ::1",
        ),
        ("--task-count 10.0 --stream-method Default,PROXY", "--task-count 10 --stream-method default proxy"),
        ("--ps-connector Redis --stream REDIS", "--ps-connector redis --stream redis"),
        ("--executor Thread --ps-connector PEER", "--executor thread --ps-connector peer"),
    ] {
        let plan = |options: &str| output(&format!("stream-scaling --dry-run --max-workers 2 4 {options}"));
        assert_eq!(plan(typed), plan(meant), "{typed}");
    }
}

#[test]
fn a_path_that_is_no_text_is_refused_whatever_stands_beside_it() {
    let recipe = tempfile::NamedTempFile::new().unwrap();
    for options in [vec![], vec!["--recipe".as_ref(), recipe.path().as_os_str()]] {
        let mut command = Command::cargo_bin("psbench").unwrap();
        let path = std::os::unix::ffi::OsStrExt::from_bytes(b"/tmp/r\xff");
        let output = command
            .args(["stream-scaling", "--task-count", "7"])
            .args(&options)
            .args(["--run-dir".as_ref(), path as &std::ffi::OsStr])
            .assert()
            .code(2)
            .get_output()
            .clone();
        let refused = String::from_utf8(output.stderr).unwrap();
        assert!(refused.contains("--run-dir") && refused.contains("not UTF-8"), "{refused}");
    }
}

#[test]
fn a_directory_that_is_no_text_makes_no_path_that_is_none() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"r\xff"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("config.py"), "").unwrap();
    for (options, option) in [
        ("--ps-connector file --ps-file-dir here", "--ps-file-dir"),
        ("--payload-file config.py", "--payload-file"),
        ("--executor parsl --parsl-config config.py", "--parsl-config"),
    ] {
        let arguments = format!("stream-scaling --dry-run {options}");
        let output = psbench(&arguments).current_dir(&directory).assert().code(2).get_output().clone();
        let refused = String::from_utf8(output.stderr).unwrap();
        assert!(refused.contains(option) && refused.contains("start it in another"), "{refused}");
    }
}

#[test]
fn a_topic_is_as_long_as_its_broker_takes() {
    let topic = |length| format!("stream-scaling --dry-run --stream-topic {}", "t".repeat(length));
    output(&topic(222));
    assert!(refusal(&topic(223)).contains("may have 222 with --stream memory"));
}

#[test]
fn zmq_is_served_by_peer() {
    for (options, place) in [
        ("--ps-connector zmq", "connector peer unix:(fresh)"),
        ("--ps-connector ZMQ --ps-port 5555", "connector peer 127.0.0.1:5555"),
        ("--ps-connector zmq --ps-interface lo --ps-port 5555", "connector peer 127.0.0.1:5555"),
        ("--ps-connector zmq --ps-interface lo --ps-address 10.0.0.1", "connector peer 10.0.0.1:0"),
    ] {
        let output = psbench(&format!("stream-scaling --dry-run {options}")).assert().success().get_output().clone();
        let notes = String::from_utf8(output.stderr).unwrap();
        assert!(notes.contains("--ps-connector zmq is served by peer"), "{notes}");
        assert!(!notes.contains("no effect"), "{notes}");
        let plan = String::from_utf8(output.stdout).unwrap();
        assert!(plan.contains(place), "{plan}");
    }
}

#[test]
fn options_without_effect_are_named() {
    let output = psbench(
        "stream-scaling --dry-run --ps-host x --parsl-max-workers 4 --stream-servers a:1 --thread-pool-max-workers 4 \
         --ps-port 1 --ps-cache 1MB --seed 1 --stream-method proxy proxy --adios-file x --ps-margo-protocol tcp",
    )
    .assert()
    .success()
    .get_output()
    .clone();
    let notes = String::from_utf8(output.stderr).unwrap();
    for note in [
        "--ps-host has no effect with --ps-connector peer",
        "--parsl-max-workers has no effect with --executor process",
        "--stream-servers has no effect with --stream memory",
        "--thread-pool-max-workers has no effect with --executor process",
        "--ps-port has no effect with --ps-connector peer without --ps-address",
        "--ps-cache has no effect with --ps-lifetime owned",
        "--stream-method proxy given twice runs once",
        "--adios-file has no effect with --stream-method proxy",
        "--ps-margo-protocol has no effect with --ps-connector peer",
    ] {
        assert!(notes.contains(note), "{note}\n{notes}");
    }
    assert!(!notes.contains("--seed"), "{notes}");
}

#[test]
fn workers_fall_back_to_the_executors_own_option() {
    let plan = output("stream-scaling --executor thread --thread-pool-max-workers 9 --task-sleep 1 --dry-run");
    assert!(plan.contains("every 125 ms (8.00/s)"), "{plan}");
}

#[test]
fn every_recipe_plans_below_the_command_line_and_needs_no_server() {
    let runs = concat!(env!("CARGO_MANIFEST_DIR"), "/../runs");
    let paths = std::fs::read_dir(runs).unwrap().map(|entry| entry.unwrap().path());
    let recipes: Vec<_> = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    assert!(recipes.len() >= 4, "{recipes:?}");
    for recipe in recipes {
        let text = std::fs::read_to_string(&recipe).unwrap();
        let compares = text.lines().any(|line| line.starts_with("paths"));
        let command = if compares { "compare-paths" } else { "stream-scaling" };
        let recipe = recipe.display();
        let plan = output(&format!("{command} --recipe {recipe} --task-count 7 --dry-run"));
        assert!(plan.contains("7 items in each trial") && plan.contains("broker memory"), "{recipe}: {plan}");
        assert!(
            !plan.contains("redis") && text.contains(&format!("psbench {command} --recipe runs/")),
            "{recipe}: {plan}"
        );
    }
}

#[test]
fn the_bound_of_a_saturated_stream_is_planned() {
    let plan =
        |options: &str| output(&format!("stream-scaling --dry-run --max-workers 4 --stream-method proxy {options}"));
    for (options, items) in [
        ("--data-size-bytes 1kB", 1026),
        ("--data-size-bytes 1MB", 66),
        ("--data-size-bytes 1MB --prefetch 15", 98),
        ("--data-size-bytes 10MB", 8),
        ("--data-size-bytes 10MB --max-inflight-bytes 20MB", 4),
        ("--data-size-bytes 10MB --max-inflight-items 5", 5),
    ] {
        let plan = plan(options);
        assert!(plan.contains(&format!("at once, up to {items} under way")), "{options}: {plan}");
    }
    assert!(!plan("--rate 100/s").contains("under way"));
    let paced = psbench("stream-scaling --dry-run --rate 100/s --max-inflight-items 5").assert().success();
    let notes = String::from_utf8(paced.get_output().stderr.clone()).unwrap();
    assert!(notes.contains("--max-inflight-items has no effect where items are due at a rate"), "{notes}");
    assert_eq!(
        refusal("stream-scaling --dry-run --generators 3 --max-workers 5 --max-inflight-items 2"),
        "error: --max-inflight-items 2: each of --generators 3 needs one; write at least that"
    );
}

#[test]
fn the_quick_recipe_is_the_default_sweep() {
    let recipe = format!("{}/../runs/quick.toml", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(output(&format!("stream-scaling --recipe {recipe} --dry-run")), output("stream-scaling --dry-run"));
}

#[test]
fn help_is_grouped_and_lists_what_there_is() {
    let help = output("stream-scaling --help");
    for heading in ["Benchmark:", "Executor:", "Engine:", "Store:", "Stream:", "General:"] {
        assert!(help.lines().any(|line| line == heading), "{heading}");
    }
    for there in ["--max-workers", "[default: 500]", "[default: 0s]", "peer:", "redis-queue:", "--recipe", "--dry-run"]
    {
        assert!(help.contains(there), "{there}\n{help}");
    }
    for elsewhere in ["adios", "daos"] {
        assert!(!help.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn completions_and_version_are_printed() {
    assert!(output("completions bash").contains("--data-size-bytes"));
    assert!(output("completions zsh").contains("redis-queue"));
    assert!(output("--version").starts_with("psbench "));
}
