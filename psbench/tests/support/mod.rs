//! Private servers and runs of psbench for the tests.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod gateways;
mod kafka;
mod opened;
#[path = "../../../connectors/scistream/tests/control/own.rs"]
mod own;
mod processes;
#[path = "../../../connectors/tests/support/mod.rs"]
mod server;
mod slurm;
mod sshd;
mod strays;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use gateways::{Gateway, gateways};
pub(crate) use kafka::Kafka;
pub(crate) use opened::Opened;
pub(crate) use own::{PATIENCE, own_address};
pub(crate) use processes::{command_line, descendants_of};
pub(crate) use server::endpoint::Endpoint;
pub(crate) use server::python::python;
pub(crate) use server::{RedisServer as Redis, free_port};
pub(crate) use slurm::Slurm;
pub(crate) use sshd::Sshd;
pub(crate) use strays::strays;

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
}

pub(crate) fn send_signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success());
}

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "not within 60 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
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

/// Ends within the time, or the test fails and the run with it.
pub(crate) fn output_within(mut child: Child, seconds: u64) -> Output {
    let until = Instant::now() + Duration::from_secs(seconds);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("still running after {seconds} s: {}", text(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

pub(crate) fn problems(trial: &Value) -> String {
    trial["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}
