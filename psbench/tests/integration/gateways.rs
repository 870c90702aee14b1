//! Bulk data through gateways of SciStream: named ones, and psbench's own.

use std::path::Path;
use std::process::{Child, Command, Output};

use serde_json::Value;

use crate::support::place::{Place, S2cs, echo, json, succeed};
use crate::support::{
    Bench, Gateway, Reference, assert_balanced, assert_complete, command_line, descendants_of, finish, in_role,
    interrupt_twice, is_alive, port_range, problems, send_signal, text, wait_until, workers_of,
};

const SHORT: &str =
    "--ps-connector scistream --max-workers 3 --data-size-bytes 200kB 1MB --task-count 40 --rate max --verify";

/// A trial of some seconds: 3 workers, a task each 100 ms.
const BUSY: &str = "--ps-connector scistream --stream-method proxy --max-workers 4 --data-size-bytes 100kB --task-count 60 \
                    --task-sleep 0.3";

/// Two control servers that let in who has a token.
struct Pair {
    place: Place,
    producer: S2cs,
    consumer: S2cs,
}

impl Pair {
    fn new() -> Self {
        let place = Place::new();
        place.secret("tokens", "ann anns-token-0123456789\n");
        place.secret("token", "anns-token-0123456789\n");
        let start = || place.s2cs("--tokens tokens");
        let (producer, consumer) = (start(), start());
        Self { place, producer, consumer }
    }

    fn options(&self) -> String {
        let file = |name| self.place.path(name).display().to_string();
        format!(
            "--scistream-producer-s2cs {} --scistream-consumer-s2cs {} --scistream-server-cert {} --scistream-token-file {}",
            self.producer.address(),
            self.consumer.address(),
            file("server.crt"),
            file("token"),
        )
    }

    fn sessions(&self, server: &S2cs) -> Vec<Value> {
        let mut ask = self.place.s2uc(&format!("status --s2cs {} --token-file token", server.address()));
        json(&mut ask)["sessions"].as_array().unwrap().clone()
    }

    fn all_sessions(&self) -> usize {
        [&self.producer, &self.consumer].map(|server| self.sessions(server).len()).iter().sum()
    }
}

/// Bytes that sessions have brought to clients.
fn carried(sessions: &[Value]) -> u64 {
    sessions.iter().filter_map(|session| session["traffic"]["bytes_to_client"].as_u64()).sum()
}

/// Starts a run and waits until each of its workers has done something. They come first of its children.
fn started(bench: &Bench, pair: &Pair, arguments: &str) -> (Child, Vec<u32>) {
    let child = bench.command(arguments).spawn().unwrap();
    wait_until("items go through", || carried(&pair.sessions(&pair.consumer)) > 600_000);
    let workers = workers_of(child.id());
    (child, workers)
}

/// Those of a trial that went through two, each of which told what it used.
#[track_caller]
fn both_gateways(trial: &Value) -> Vec<&Value> {
    let gateways = in_role(trial, "gateway");
    assert_eq!(gateways.len(), 2, "{trial:#}");
    for gateway in &gateways {
        assert!(gateway["cpu_seconds"].as_f64().unwrap() > 0.0, "{gateway:#}");
        assert!(gateway["peak_memory_bytes"].as_u64().unwrap() > 1_000_000, "{gateway:#}");
    }
    gateways
}

#[test]
fn private_gateways_are_the_default_and_nothing_is_left_of_them() {
    private_gateways(&["copy"]);
}

fn private_gateways(types: &[&str]) {
    let temporary = tempfile::tempdir().unwrap();
    for kind in types {
        let bench = Bench::new();
        let mut command = bench.command(&format!("{SHORT} --scistream-type {kind} --scistream-num-conn 2"));
        let child = command.env("TMPDIR", temporary.path()).spawn().unwrap();
        let pid = child.id();
        let output = finish(child);
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(descendants_of(pid), [0; 0]);
        let results = bench.results();
        let trials = results["trials"].as_array().unwrap();
        assert_eq!(trials.len(), 4);
        for trial in trials {
            assert_complete(trial);
            if trial["method"] == "default" {
                assert!(in_role(trial, "gateway").is_empty(), "they don't take part");
                continue;
            }
            assert_eq!(trial["connector"], "scistream");
            for gateway in both_gateways(trial) {
                assert!(gateway["pid"].is_u64() && gateway["end"].is_null(), "{gateway:#}");
                assert_eq!(gateway["sessions_of_others"], 0, "{gateway:#}");
            }
        }
        assert_eq!(results["options"]["scistream-local"], true);
    }
    wait_until("directories of control servers are gone", || temporary.path().read_dir().unwrap().next().is_none());
}

/// The private control servers of a run, that of the producer's side first.
fn servers_of(run: &Child) -> Vec<u32> {
    let mut servers = descendants_of(run.id());
    servers.retain(|pid| command_line(*pid).contains(" s2cs --lifeline "));
    servers.sort_unstable();
    servers
}

#[test]
fn a_private_gateway_that_ends_or_stops_is_started_anew_and_the_sweep_goes_on() {
    for (which, signal) in [(0, "KILL"), (1, "KILL"), (1, "STOP")] {
        let temporary = tempfile::tempdir().unwrap();
        let bench = Bench::new();
        let child = bench.command(&format!("{BUSY} --repeat 2")).env("TMPDIR", temporary.path()).spawn().unwrap();
        wait_until("workers are ready", || bench.log().contains("workers are ready"));
        let servers = servers_of(&child);
        assert_eq!(servers.len(), 2);
        send_signal(servers[which], signal);
        wait_until("it is started anew", || {
            let now = servers_of(&child);
            now.len() == 2 && now != servers
        });
        let output = finish(child);
        let said = text(&output);
        let results = bench.results();
        let trials = results["trials"].as_array().unwrap();
        assert_balanced(&trials[0]);
        assert!(trials[0]["items"]["finished"].as_u64().unwrap() > 0, "{said}");
        assert_complete(&trials[1]);
        assert!(said.contains("it is started anew") && !said.contains("--scistream"), "{said}");
        wait_until("directories are gone", || temporary.path().read_dir().unwrap().next().is_none());
    }
}

#[test]
fn private_gateways_leave_no_directory_where_psbench_is_killed() {
    let temporary = tempfile::tempdir().unwrap();
    let bench = Bench::new();
    let mut child = bench.command(BUSY).env("TMPDIR", temporary.path()).spawn().unwrap();
    wait_until("workers are ready", || bench.log().contains("workers are ready"));
    assert_eq!(temporary.path().read_dir().unwrap().count(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("directories are gone", || temporary.path().read_dir().unwrap().next().is_none());
}

#[test]
fn only_paths_through_gateways_count_them() {
    let bench = Bench::new();
    let arguments = "--paths broker peer scistream --max-workers 3 --data-size-bytes 100kB --task-count 20 --repeat 1";
    let output = bench.compare_paths(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let results = bench.results();
    for trial in results["trials"].as_array().unwrap() {
        assert_complete(trial);
        assert_eq!(in_role(trial, "gateway").len(), if trial["path"] == "scistream" { 2 } else { 0 }, "{trial:#}");
    }
}

#[test]
fn named_gateways_are_used_and_given_back_and_their_secrets_are_kept() {
    let pair = Pair::new();
    let bench = Bench::new();
    let output = bench.run(&format!("{SHORT} --generators 1 {}", pair.options()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    bench.results()["trials"].as_array().unwrap().iter().for_each(assert_complete);
    assert_eq!(pair.all_sessions(), 0);
    for entry in bench.run_directory().read_dir().unwrap() {
        let written = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!written.contains("anns-token") && !written.contains("BEGIN CERTIFICATE"));
    }
    assert!(!text(&output).contains("anns-token"));
    let several = Bench::new();
    let trials = several.trials(&format!("{SHORT} --generators 2 --max-workers 5 {}", pair.options()));
    trials.iter().for_each(assert_complete);
    assert_eq!(pair.all_sessions(), 0);
}

/// The options for these control servers, which are without TLS.
fn between(producer: &str, consumer: &str) -> String {
    format!("--scistream-insecure --scistream-producer-s2cs {producer} --scistream-consumer-s2cs {consumer}")
}

#[test]
fn named_gateways_tell_what_they_use_with_their_programs_and_for_whom() {
    let (producer, consumer) = (Gateway::offering("copy"), Gateway::offering("haproxy,copy"));
    let run = |arguments: &str| {
        let bench = Bench::new();
        let through = between(producer.address(), consumer.address());
        bench.trials(&format!("{SHORT} --stream-method proxy {through} {arguments}")).remove(0)
    };
    let alone = run("");
    for (gateway, server) in both_gateways(&alone).into_iter().zip([&producer, &consumer]) {
        assert_eq!(gateway["sessions_of_others"], 0, "{gateway:#}");
        assert!(gateway["label"].as_str().unwrap().ends_with(server.address()), "{gateway:#}");
        assert!(gateway["pid"].is_null(), "another host's mean nothing here");
    }
    let all: f64 = alone["processes"].as_array().unwrap().iter().filter_map(|one| one["cpu_seconds"].as_f64()).sum();
    let gigabytes = alone["items"]["finished"].as_f64().unwrap() * alone["data_size_bytes"].as_f64().unwrap() / 1e9;
    let per_gb = alone["cpu_seconds_per_gb"].as_f64().unwrap();
    assert!((per_gb * gigabytes - all).abs() < 1e-6, "{per_gb} s/GB of {gigabytes} GB, {all} s");

    let memory = |trial: &Value| both_gateways(trial)[1]["peak_memory_bytes"].as_u64().unwrap();
    let target = echo();
    let mut connect = Command::new(env!("CARGO_BIN_EXE_psbench"));
    connect.args(["s2uc", "connect", "--insecure", "--producer-s2cs", producer.address(), "--consumer-s2cs"]);
    connect.args([consumer.address(), "--target", &target.to_string(), "--type", "copy"]);
    succeed(&mut connect);
    let told = consumer.status();
    assert_eq!(told["sessions_total"], 1, "{told:#}");
    assert!(told["usage"]["cpu_ns"].as_u64().unwrap() > 0, "{told:#}");
    let shared = run("--scistream-type copy");
    for gateway in both_gateways(&shared) {
        assert_eq!(gateway["sessions_of_others"], 1, "{gateway:#}");
    }
    // HAProxy takes more than what a session of the control server's own does.
    assert!(memory(&alone) > memory(&shared) + 4_000_000, "{} {}", memory(&alone), memory(&shared));
}

#[test]
fn the_references_gateways_tell_nothing_which_is_said_once() {
    let (producer, consumer) = (Reference::start(), Reference::start());
    let bench = Bench::new();
    let output = bench.run(&format!("{SHORT} {}", between(&producer.address(), &consumer.address())));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for trial in bench.results()["trials"].as_array().unwrap() {
        assert_complete(trial);
        assert!(in_role(trial, "gateway").is_empty() && trial["cpu_seconds_per_gb"].is_f64(), "{trial:#}");
    }
    for server in [&producer, &consumer] {
        let told = text(&output);
        let lines: Vec<_> = told.lines().filter(|line| line.contains(&server.address())).collect();
        assert_eq!(lines.len(), 1, "{told}");
        assert!(lines[0].contains("leave out what a gateway uses") && lines[0].contains("only psbench's"), "{told}");
        assert!(server.calls().contains(&"release".to_owned()), "{:?}", server.calls());
    }
}

#[test]
fn what_a_gateway_refuses_ends_psbench_ahead_of_the_run() {
    let pair = Pair::new();
    let bench = Bench::new();
    let address = pair.consumer.address();
    let other = Place::new();
    other.secret("token", "nobodys-token-0123456789\n");
    let (token, certificate) = (other.path("token"), other.path("server.crt"));
    let options = pair.options();
    for (arguments, problem) in [
        (
            format!("{options} --scistream-consumer-token-file {}", token.display()),
            format!("--scistream-consumer-s2cs {address}: "),
        ),
        (
            format!("{options} --scistream-consumer-cert {}", certificate.display()),
            format!(
                "--scistream-consumer-s2cs {address}: the control server at {address} can't be asked: its certificate is none of"
            ),
        ),
        (
            format!("{options} --scistream-consumer-s2cs 127.0.0.1:1"),
            "--scistream-consumer-s2cs 127.0.0.1:1: can't connect".to_owned(),
        ),
        (format!("{options} --scistream-type haproxy"), "haproxy".to_owned()),
        ("--scistream-type sockmap --scistream-stripes 0".to_owned(), "--scistream-stripes 0".to_owned()),
    ] {
        let output = bench.run(&format!("{SHORT} {arguments}"));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        let line = error.lines().last().unwrap_or_default();
        assert!(line.starts_with("error: ") && line.contains(&*problem), "{problem}\n{error}");
    }
    assert_eq!(pair.all_sessions(), 0);
    assert!(bench.directory.path().read_dir().unwrap().next().is_none(), "no run was begun");
}

#[test]
fn a_generator_that_is_killed_leaves_no_path() {
    let pair = Pair::new();
    let bench = Bench::new();
    let (child, workers) = started(&bench, &pair, &format!("{BUSY} {}", pair.options()));
    send_signal(workers[0], "KILL");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert_eq!(pair.all_sessions(), 0, "{}", problems(trial));
}

#[test]
fn an_interrupted_sweep_gives_back_its_paths() {
    let pair = Pair::new();
    for signals in [1, 2] {
        let bench = Bench::new();
        let (child, _) = started(&bench, &pair, &format!("{BUSY} {}", pair.options()));
        match signals {
            1 => send_signal(child.id(), "INT"),
            _ => interrupt_twice(&child, &bench),
        }
        let output = finish(child);
        assert_eq!(output.status.code(), Some(130), "{}", text(&output));
        if signals == 1 {
            assert_balanced(&bench.results()["trials"][0]);
            assert_eq!(pair.all_sessions(), 0);
        }
        // Whoever leaves at once leaves it to the generator's process.
        wait_until("the paths are given back", || pair.all_sessions() == 0);
    }
}

#[test]
fn a_gateway_that_is_lost_fails_items_by_name_and_not_the_sweep() {
    let pair = Pair::new();
    let bench = Bench::new();
    let (child, _) = started(&bench, &pair, &format!("{BUSY} {}", pair.options()));
    send_signal(pair.consumer.process.id(), "KILL");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    let items = &trial["items"];
    assert_eq!(items["finished"].as_u64().unwrap() + items["failed"].as_u64().unwrap(), 60, "{items}");
    assert!(items["finished"].as_u64().unwrap() > 0 && items["failed"].as_u64().unwrap() > 0, "{items}");
    let said = problems(trial);
    assert!(
        said.contains("scistream at 127.0.0.1:") && said.contains("connect to the gateway at 127.0.0.1:"),
        "{said}"
    );
    assert!(said.contains("its control server running? psbench s2uc status tells"), "{said}");
    assert!(!said.contains("the process that stored the objects"), "{said}");
    assert_eq!(pair.sessions(&pair.producer).len(), 0);
}

/// A run of this many items during which the control server at the workers' side, which has these options, is killed and started again.
/// Nothing is left at either.
fn with_a_restart(options: &str, items: u32) -> (Output, Value) {
    let place = Place::new();
    let ports = port_range();
    let (port, ports) = (ports.start(), format!("{}-{}", ports.start() + 1, ports.end()));
    let consumer = || S2cs::start(&mut place.psbench(&format!("s2cs --port {port} --port-range {ports} {options}")));
    let (producer, first) = (place.s2cs(""), consumer());
    let bench = Bench::new();
    let child = bench
        .command(&format!(
            "{} --scistream-producer-s2cs {} --scistream-consumer-s2cs {} --scistream-server-cert {}",
            BUSY.replace("--task-count 60", &format!("--task-count {items}")),
            producer.address(),
            first.address(),
            place.path("server.crt").display()
        ))
        .spawn()
        .unwrap();
    let sessions = || json(&mut place.s2uc(&format!("status --s2cs {}", first.address())))["sessions"].clone();
    wait_until("items go through", || carried(sessions().as_array().unwrap()) > 600_000);
    first.kill();
    let second = consumer();
    let output = finish(child);
    for server in [&producer, &second] {
        let status = json(&mut place.s2uc(&format!("status --s2cs {}", server.address())));
        assert_eq!(status["sessions"].as_array().unwrap().len(), 0);
    }
    (output, bench.results()["trials"][0].clone())
}

#[test]
fn a_gateway_that_starts_again_with_its_sessions_loses_nothing() {
    // In the directory of the test's own place.
    let (output, trial) = with_a_restart("--keep-sessions --state-dir kept", 60);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_complete(&trial);
}

#[test]
fn psbench_that_is_killed_takes_its_gateways_along() {
    let bench = Bench::new();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = bench.command(&format!("{BUSY} --scistream-type haproxy"));
    let mut child = command.env("TMPDIR", temporary.path()).spawn().unwrap();
    let forwarding = |pid: u32| descendants_of(pid).into_iter().any(|pid| command_line(pid).contains("haproxy"));
    wait_until("both gateways forward", || forwarding(child.id()));
    let all = descendants_of(child.id());
    send_signal(child.id(), "KILL");
    child.wait().unwrap();
    wait_until("all that psbench started has ended", || !all.iter().any(|pid| is_alive(*pid)));
    wait_until("their directories are gone", || is_empty(temporary.path()));
}

fn is_empty(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}

#[test]
fn a_dry_run_starts_no_gateway() {
    let output = Command::new(env!("CARGO_BIN_EXE_psbench"))
        .args(["stream-scaling", "--ps-connector", "scistream", "--dry-run"])
        .output()
        .unwrap();
    assert!(
        output.status.success() && text(&output).contains("scistream through private gateways"),
        "{}",
        text(&output)
    );
}

/// What takes long, or is held in full elsewhere.
mod slow {
    use super::*;

    #[test]
    fn private_gateways_leave_nothing_of_other_programs() {
        private_gateways(&["haproxy", "stunnel"]);
    }

    #[test]
    fn a_gateway_that_starts_again_without_its_sessions_loses_little() {
        const ITEMS: u32 = 150;
        let (output, trial) = with_a_restart("", ITEMS);
        assert_balanced(&trial);
        let items = &trial["items"];
        assert_eq!(items["generated"], ITEMS, "{items}");
        // Some are lost with the path, and more go over the next one.
        assert!(items["finished"].as_u64().unwrap() > u64::from(ITEMS) / 3, "{items} {}", problems(&trial));
        let said = text(&output);
        assert!(said.contains("a gateway had lost the path for workers at 127.0.0.1:"), "{said}");
        assert!(said.contains("start psbench s2cs with --keep-sessions"), "{said}");
    }

    #[test]
    fn psbench_that_is_killed_leaves_no_path_for_long() {
        let pair = Pair::new();
        let bench = Bench::new();
        let (mut child, workers) = started(&bench, &pair, &format!("{BUSY} {}", pair.options()));
        // All at once: whoever is left would give it back.
        send_signal(child.id(), "STOP");
        workers.iter().for_each(|worker| send_signal(*worker, "KILL"));
        send_signal(child.id(), "KILL");
        child.wait().unwrap();
        assert_eq!(pair.all_sessions(), 2, "nobody gave it back");
        wait_until("the gateways end it", || pair.all_sessions() == 0);
    }
}
