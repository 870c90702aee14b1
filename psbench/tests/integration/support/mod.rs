//! Private servers and runs of psbench for the tests.

mod gateways;
mod kafka;
mod nobody;
mod opened;
#[path = "../../../../connectors/scistream/tests/control/own.rs"]
mod own;
pub(crate) mod place;
mod ports;
mod processes;
mod reference;
#[path = "../../../../connectors/tests/support/mod.rs"]
mod server;
mod slurm;
mod sshd;
mod strays;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) use gateways::{Gateway, gateways};
pub(crate) use kafka::Kafka;
pub(crate) use nobody::NOBODY;
pub(crate) use opened::Opened;
pub(crate) use own::{PATIENCE, own_address};
pub(crate) use ports::{port_range, ports};
pub(crate) use processes::{command_line, descendants_of};
pub(crate) use reference::Reference;
pub(crate) use server::endpoint::Endpoint;
pub(crate) use server::python::python;
pub(crate) use server::{RedisServer as Redis, free_port};
pub(crate) use slurm::Slurm;
pub(crate) use sshd::Sshd;
pub(crate) use strays::strays;
pub(crate) use wire::Wire;

impl Redis {
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn signal(&self, signal: &str) {
        send_signal(self.pid(), signal);
    }

    pub(crate) fn connection(&self) -> redis::Connection {
        redis::Client::open(("127.0.0.1", self.port)).unwrap().get_connection().unwrap()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        redis::cmd("KEYS").arg("*").query(&mut self.connection()).unwrap()
    }

    /// How many objects workers have taken from it: so many tasks have begun.
    pub(crate) fn resolved(&self) -> u64 {
        // One is psbench's own, which tries whether it may.
        self.calls("getdel").saturating_sub(1)
    }

    /// How often it was given this command.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut self.connection()).unwrap();
        let calls = stats.split_once(&format!("cmdstat_{command}:calls="));
        calls.and_then(|(_, rest)| rest.split(',').next()?.parse().ok()).unwrap_or(0)
    }

    /// The options that put objects there.
    pub(crate) fn as_connector(&self) -> String {
        format!("--ps-connector redis --ps-host 127.0.0.1 --ps-port {}", self.port)
    }
}

pub(crate) fn send_signal(pid: u32, signal: &str) {
    let signal = match signal {
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        other => panic!("{other} is no signal of the tests"),
    };
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// For what ends, unless it hangs: a busy machine may take a while over what an idle one does at once.
pub(crate) const HANGS: Duration = Duration::from_secs(180);

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + HANGS;
    while !condition() {
        assert!(Instant::now() < until, "not within {HANGS:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Stops one of several workers and waits until it has a task for sure, which it may not have begun. Killed then, it takes one along.
/// There have to be more tasks than workers, at `--rate max`, whose items are in `server`.
pub(crate) fn stop_with_a_task(worker: u32, server: &Redis) {
    // The dispatcher gives tasks in the order in which workers ask: after some more tasks of the others it has heard this one, too.
    const MORE: u64 = 4;
    send_signal(worker, "STOP");
    let before = server.resolved();
    wait_until("the other workers take more tasks", || server.resolved() >= before + MORE);
}

/// Interrupts a run twice, so that it leaves at once.
pub(crate) fn interrupt_twice(run: &Child, bench: &Bench) {
    send_signal(run.id(), "INT");
    // Two that come at the same time are one.
    wait_until("the first interrupt is seen", || bench.log().contains("interrupt again to leave at once"));
    send_signal(run.id(), "INT");
}

/// The process with this number is there and not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// The children of a process that are psbench's workers.
pub(crate) fn workers_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let children = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let mut pids: Vec<u32> = children
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.sort_unstable();
    pids
}

/// Runs of psbench whose results go to a directory of their own.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// `psbench stream-scaling` with these arguments, split at white space.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_psbench")), arguments)
    }

    /// The same of a program that adds to psbench.
    pub(crate) fn command_of(&self, program: &Path, arguments: &str) -> Command {
        self.sweep(program, "stream-scaling", arguments)
    }

    /// `psbench compare-paths`, likewise.
    pub(crate) fn compare_paths(&self, arguments: &str) -> Command {
        self.sweep(Path::new(env!("CARGO_BIN_EXE_psbench")), "compare-paths", arguments)
    }

    fn sweep(&self, program: &Path, subcommand: &str, arguments: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg(subcommand)
            .args(arguments.split_whitespace())
            .arg("--run-dir")
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The one run directory.
    pub(crate) fn run_directory(&self) -> PathBuf {
        let mut runs = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let run = runs.next().expect("a run directory");
        assert_eq!(runs.next(), None, "one run directory");
        run
    }

    /// What the run has logged so far.
    pub(crate) fn log(&self) -> String {
        let runs = std::fs::read_dir(self.directory.path()).unwrap().flatten();
        runs.filter_map(|run| std::fs::read_to_string(run.path().join("log.txt")).ok()).collect()
    }

    /// The whole results.json.
    pub(crate) fn results(&self) -> Value {
        read_json(&self.run_directory().join("results.json"))
    }

    /// Runs to success and returns the trials.
    pub(crate) fn trials(&self, arguments: &str) -> Vec<Value> {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments}\n{}", text(&output));
        self.results()["trials"].as_array().unwrap().clone()
    }
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

/// All that a run said.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every planned item of a trial finished, and nothing was amiss.
pub(crate) fn assert_complete(trial: &Value) {
    let items = &trial["items"];
    assert_eq!(trial["status"], "complete", "{trial:#}");
    assert_eq!(items["finished"], items["planned"], "{items}");
    for amiss in ["failed", "lost", "duplicated", "reordered", "corrupt", "orphaned"] {
        assert_eq!(items[amiss], 0, "{amiss}: {items}");
    }
}

/// Every item that was generated finished, failed or was lost.
pub(crate) fn assert_balanced(trial: &Value) {
    let items = &trial["items"];
    let count = |name: &str| items[name].as_u64().unwrap();
    assert_eq!(count("generated"), count("finished") + count("failed") + count("lost"), "{items}");
}

/// The processes of a trial in one role.
pub(crate) fn in_role<'a>(trial: &'a Value, role: &str) -> Vec<&'a Value> {
    trial["processes"].as_array().unwrap().iter().filter(|process| process["role"] == role).collect()
}

/// What a run said in the end, which comes, or the test fails and the run with it.
pub(crate) fn finish(mut child: Child) -> Output {
    let until = Instant::now() + HANGS;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("still running after {HANGS:?}: {}", text(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

pub(crate) fn problems(trial: &Value) -> String {
    trial["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}
