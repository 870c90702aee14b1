//! Sweeps between two facilities, each a network that nothing of the other's reaches: examples/two-facilities.sh, as people run it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{Bench, assert_complete, finish, in_role, problems, send_signal, strays, text, wait_until};
use rustix::process::geteuid;
use serde_json::Value;
use tempfile::TempDir;

const HOSTS: [&str; 4] = ["instrument", "instrument-gateway", "compute-gateway", "compute"];

/// The script while it runs.
struct Facilities {
    script: Option<Child>,
    pid: u32,
    /// What the script makes is in it, and whatever it starts has its path in the environment.
    directory: TempDir,
}

impl Facilities {
    /// `None` where this process may not have them, which is then said by the name of the test.
    fn start(test: &str, arguments: &[&str]) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("skipped: {test} takes root, who alone makes network namespaces");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-facilities.sh"))
            .args(arguments)
            .env("PSBENCH", env!("CARGO_BIN_EXE_psbench"))
            .env("TMPDIR", directory.path())
            // As the shell of a terminal does, whose Ctrl-C reaches all of it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self { pid: script.id(), script: Some(script), directory })
    }

    /// A sweep between them, whose results go to `bench`.
    fn sweep(test: &str, bench: &Bench, options: &str) -> Option<Self> {
        let mut arguments: Vec<_> = options.split_whitespace().collect();
        arguments.extend(["--run-dir", bench.directory.path().to_str().unwrap()]);
        Self::start(test, &arguments)
    }

    fn is_running(&mut self) -> bool {
        self.script.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    fn output(&mut self) -> Output {
        finish(self.script.take().unwrap())
    }

    fn namespaces(&self) -> Vec<String> {
        let names = HOSTS.map(|host| format!("psbench-{}-{host}", self.pid));
        names.into_iter().filter(|name| Path::new("/run/netns").join(name).exists()).collect()
    }

    /// A file that the script made.
    fn file(&self, name: &str) -> Option<PathBuf> {
        let made = fs::read_dir(self.directory.path()).unwrap();
        made.map(|entry| entry.unwrap().path().join(name)).find(|path| path.exists())
    }

    /// What a gateway tells of its sessions; `None` where it does not serve, yet or any more.
    fn status(&self, site: &str, address: &str) -> Option<Value> {
        let (certificate, tokens) =
            (self.file(&format!("{site}.crt"))?, fs::read_to_string(self.file("tokens")?).ok()?);
        let output = Command::new("ip")
            .args(["netns", "exec", &format!("psbench-{}-instrument", self.pid), env!("CARGO_BIN_EXE_psbench")])
            .args(["s2uc", "status", "--json", "--s2cs", address, "--server-cert"])
            .arg(certificate)
            .env("PSBENCH_S2CS_TOKEN", tokens.split_whitespace().last()?)
            .output()
            .unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.namespaces(), [""; 0]);
        assert_eq!(strays(self.directory.path()), [0_u32; 0]);
        assert!(self.file("tokens").is_none(), "secrets stay behind");
    }
}

impl Drop for Facilities {
    fn drop(&mut self) {
        if let Some(script) = &mut self.script {
            let _ = script.kill();
            let _ = script.wait();
        }
        for name in self.namespaces() {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

/// The most bytes that each session at a gateway has been seen to have carried to clients, by its name.
#[derive(Default)]
struct Carried(BTreeMap<String, u64>);

impl Carried {
    fn note(&mut self, status: &Value, kind: &str) {
        let sessions = status["sessions"].as_array().unwrap().iter();
        for session in sessions.filter(|session| session["stage"] == "forwarding") {
            assert_eq!(session["type"], kind, "{session}");
            let most = self.0.entry(session["uid"].as_str().unwrap().to_owned()).or_default();
            *most = session["traffic"]["bytes_to_client"].as_u64().unwrap().max(*most);
        }
    }

    /// Sessions that carried more than this.
    fn more_than(&self, bytes: u64) -> usize {
        self.0.values().filter(|carried| **carried > bytes).count()
    }
}

#[test]
fn a_sweep_runs_from_one_to_the_other() {
    const BYTES: u64 = 100_000 * 150;
    let bench = Bench::new();
    let options = "--type tls --max-workers 4 --data-size-bytes 100kB --task-count 150 --rate 30/s --verify";
    let Some(mut facilities) = Facilities::sweep("a_sweep_runs_from_one_to_the_other", &bench, options) else { return };
    let gateways = [("instrument", "10.1.0.1:5000"), ("compute", "192.0.2.2:5000")];
    let mut carried = [Carried::default(), Carried::default()];
    while facilities.is_running() {
        for (carried, (site, address)) in carried.iter_mut().zip(gateways) {
            if let Some(status) = facilities.status(site, address) {
                carried.note(&status, "tls");
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    let output = facilities.output();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let results = bench.results();
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 2);
    for trial in trials {
        assert_complete(trial);
        let workers = in_role(trial, "worker");
        assert_eq!(workers.len(), 4);
        assert!(workers.iter().all(|worker| worker["host"] == "compute" && worker["clock"].is_object()), "{workers:?}");
        assert!(in_role(trial, "generator").iter().all(|generator| generator["host"].is_null()));
    }
    assert_eq!((&trials[0]["connector"], &trials[1]["connector"]), (&Value::Null, &"scistream".into()));
    // Items in full went with their tasks, over the path of the workers' connections; objects over their own. Metadata are less than a
    // hundredth.
    for carried in carried {
        assert_eq!(carried.more_than(BYTES / 10), 2, "{:?} of {BYTES} bytes were seen at a gateway", carried.0);
    }
    facilities.nothing_is_left();
}

/// Signals a sweep once its workers are there, and returns what it and the script said in the end.
fn interrupted(test: &str, bench: &Bench, signal: impl FnOnce(u32)) -> Option<(Facilities, Output)> {
    let options = "--max-workers 3 --data-size-bytes 1kB --task-count 1000 --rate 20/s --stream-method default";
    let mut facilities = Facilities::sweep(test, bench, options)?;
    let workers = || {
        strays(facilities.directory.path())
            .into_iter()
            .filter(|pid| crate::support::command_line(*pid).contains(" worker --connect 10.2.0.1:"))
    };
    wait_until("the workers are there", || workers().count() == 3);
    wait_until("items go to them", || {
        let Some(status) = facilities.status("compute", "192.0.2.2:5000") else { return false };
        let mut carried = Carried::default();
        carried.note(&status, "copy");
        carried.more_than(20_000) > 0
    });
    signal(facilities.pid);
    let output = facilities.output();
    Some((facilities, output))
}

#[test]
fn an_interrupted_sweep_is_saved_and_leaves_nothing() {
    let bench = Bench::new();
    let ctrl_c =
        |pid| assert!(Command::new("kill").args(["-INT", "--", &format!("-{pid}")]).status().unwrap().success());
    let test = "an_interrupted_sweep_is_saved_and_leaves_nothing";
    let Some((facilities, output)) = interrupted(test, &bench, ctrl_c) else { return };
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let items = bench.results()["trials"][0]["items"].clone();
    assert!(items["finished"].as_u64().unwrap() > 0 && items["lost"] == 0, "{items}");
    facilities.nothing_is_left();
}

/// What takes long, or is held in full elsewhere.
mod slow {
    use super::*;

    /// Those of the addresses that accept connections from a host.
    fn reached(test: &str, from: &str, addresses: &[&str]) -> Option<Vec<String>> {
        let script = r#"
        for address; do
            timeout 30 bash -c "exec 3<>/dev/tcp/$address && echo $address" 2>/dev/null &
        done
        wait"#;
        let arguments = [&["--at", from, "bash", "-c", script, "reached"], addresses].concat();
        let output = Facilities::start(test, &arguments)?.output();
        assert!(output.status.success(), "{}", text(&output));
        let mut reached: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        reached.sort_unstable();
        Some(reached)
    }

    #[test]
    fn nothing_else_leads_from_one_to_the_other() {
        let all = [
            "10.1.0.1/5000", // Instrument's gateway, LAN
            "10.1.0.2/6379", // Redis
            "10.2.0.1/5000", // Compute site's gateway, LAN
            "192.0.2.1/5000",
            "192.0.2.2/5000",
        ];
        let check = |from: &str, reachable: &[usize]| {
            let Some(found) = reached("nothing_else_leads_from_one_to_the_other", from, &all) else { return };
            assert_eq!(found, reachable.iter().map(|index| all[*index]).collect::<Vec<_>>(), "from {from}");
        };
        // What is not reached is waited for, together.
        thread::scope(|scope| {
            scope.spawn(|| check("instrument", &[0, 1, 3, 4]));
            scope.spawn(|| check("instrument-gateway", &[0, 1, 3, 4]));
            scope.spawn(|| check("compute-gateway", &[2, 3, 4]));
            scope.spawn(|| check("compute", &[2, 3, 4]));
        });
    }

    #[test]
    fn going_direct_fails_by_name() {
        let test = "going_direct_fails_by_name";
        let bench = Bench::new();
        let options = "--max-workers 3 --data-size-bytes 100kB --task-count 20 --rate 40/s --stream-method proxy --ps-connector peer";
        let direct = format!("{options} --ps-address 10.1.0.2");
        let Some(mut facilities) = Facilities::sweep(test, &bench, &direct) else { return };
        let output = facilities.output();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = bench.results()["trials"][0].clone();
        let items = &trial["items"];
        assert_eq!((&items["generated"], &items["failed"]), (&20.into(), &20.into()), "{items}");
        let said = problems(&trial);
        assert!(said.contains("20 of 20 items failed") && said.contains("peer 10.1.0.2:"), "{said}");
        assert!(
            said.contains("reachable from this host? --ps-connector scistream leads there")
                && said.contains("timed out"),
            "{said}"
        );
        facilities.nothing_is_left();
        // And where not even an address leads there, nothing runs.
        let mut facilities = Facilities::sweep(test, &Bench::new(), options).unwrap();
        let output = facilities.output();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(
            text(&output).contains("--ps-connector peer: workers of --executor ssh can't reach it"),
            "{}",
            text(&output)
        );
        facilities.nothing_is_left();
    }

    #[test]
    fn packets_take_their_time_between_the_gateways() {
        const DELAY_NS: f64 = 30e6;
        let bench = Bench::new();
        let options =
            "--delay 0.03 --max-workers 2 --data-size-bytes 1kB --task-count 20 --rate 20/s --stream-method default";
        let test = "packets_take_their_time_between_the_gateways";
        let Some(mut facilities) = Facilities::sweep(test, &bench, options) else { return };
        let output = facilities.output();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let trial = bench.results()["trials"][0].clone();
        assert_complete(&trial);
        // There and back again, by whatever clock the worker's times in between are told.
        let least = |stage: &str| trial["latency"][stage]["min_ns"].as_f64().unwrap();
        let there_and_back = least("end_to_end") + least("report");
        assert!(there_and_back > 2.0 * DELAY_NS * 0.99, "{there_and_back} ns: {}", trial["latency"]);
        let error = in_role(&trial, "worker")[0]["clock"]["error_ns"].as_f64().unwrap();
        assert!(error > DELAY_NS * 0.99, "a clock can't be known to {error} ns over such a wire");
        facilities.nothing_is_left();
    }

    #[test]
    fn servers_do_not_outlive_a_killed_script() {
        let bench = Bench::new();
        let kill = |pid| send_signal(pid, "KILL");
        let Some((facilities, _)) = interrupted("servers_do_not_outlive_a_killed_script", &bench, kill) else { return };
        wait_until("the end of all that it started", || strays(facilities.directory.path()).is_empty());
    }
}
