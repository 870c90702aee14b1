//! Gateways of SciStream's on this host: two control servers of psbench's.

use std::io::{BufRead, BufReader};
use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};

use scistream::client::{GatewayAccess, Gateways};
use serde_json::Value;

use super::{port_range, text};

/// A control server, without TLS. Runs until it is dropped.
pub(crate) struct Gateway {
    process: Child,
    address: String,
    /// Its own, and those of its sessions.
    ports: RangeInclusive<u16>,
}

impl Gateway {
    pub(crate) fn start() -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_psbench")))
    }

    /// With these types of data server, the first by default.
    pub(crate) fn offering(types: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
        let default = types.split(',').next().unwrap_or_default();
        command.args(["s2cs", "--type", default, "--allow-type", types]);
        Self::serve(command, port_range())
    }

    /// Started by a program that takes the rest of the command line.
    pub(crate) fn start_by(command: Command) -> Self {
        Self::start_at(command, port_range())
    }

    fn start_at(mut command: Command, ports: RangeInclusive<u16>) -> Self {
        command.arg("s2cs");
        Self::serve(command, ports)
    }

    /// With the rest of the command line.
    fn serve(mut command: Command, ports: RangeInclusive<u16>) -> Self {
        let (port, sessions) = (ports.start().to_string(), format!("{}-{}", ports.start() + 1, ports.end()));
        command.args(["--insecure", "--json", "--log-level", "ERROR", "--port", &port, "--port-range", &sessions]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{}", process.wait().unwrap());
        let report: Value = serde_json::from_str(&line).unwrap();
        Self { process, address: report["address"].as_str().unwrap().to_owned(), ports }
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts one that was killed again, at its address. It knows nothing of its former sessions.
    pub(crate) fn resume(&mut self) {
        let command = Command::new(env!("CARGO_BIN_EXE_psbench"));
        *self = Self::start_at(command, self.ports.clone());
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it tells of itself.
    pub(crate) fn status(&self) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
        command.args(["s2uc", "status", "--insecure", "--json", "--s2cs", &self.address]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Its sessions, and what went through them.
    pub(crate) fn sessions(&self) -> Vec<Value> {
        self.status()["sessions"].as_array().unwrap().clone()
    }

    /// Bytes that its sessions have brought towards clients.
    pub(crate) fn bytes_to_clients(&self) -> u64 {
        self.sessions().iter().filter_map(|session| session["traffic"]["bytes_to_client"].as_u64()).sum()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As psbench reaches both.
pub(crate) fn gateways(producer: &Gateway, consumer: &Gateway) -> Gateways {
    let access = |gateway: &Gateway| GatewayAccess::plain(gateway.address().parse().unwrap());
    Gateways { producer: access(producer), consumer: access(consumer) }
}
