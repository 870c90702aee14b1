//! Where gateways are tried: directories with certificates, control servers, applications.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{ports, send_signal, text};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A directory with certificates, keys and tokens.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    /// With `server.crt` and `server.key`, as psbench makes them.
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        succeed(&mut place.psbench("s2cs init"));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// psbench with these arguments, split at white space, in this directory.
    pub(crate) fn psbench(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        // State of those that are killed goes with this, too.
        command.env("TMPDIR", self.0.path());
        for variable in ["PSBENCH_S2CS_TOKEN", "PSBENCH_GLOBUS_CLIENT_SECRET"] {
            command.env_remove(variable);
        }
        command
    }

    pub(crate) fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(self.0.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    pub(crate) fn s2cs(&self, arguments: &str) -> S2cs {
        S2cs::start(&mut self.psbench(&format!("s2cs --port 0 --port-range {} {arguments}", ports())))
    }

    pub(crate) fn s2uc(&self, arguments: &str) -> Command {
        self.psbench(&format!("s2uc {arguments}"))
    }
}

/// A control server, which ends with it.
pub(crate) struct S2cs {
    pub(crate) process: Child,
    pub(crate) report: Value,
}

impl S2cs {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command.arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{}", process.wait().unwrap());
        Self { process, report: serde_json::from_str(&line).unwrap() }
    }

    pub(crate) fn address(&self) -> &str {
        self.report["address"].as_str().unwrap()
    }

    pub(crate) fn is_at(&self, address: &str) -> bool {
        TcpStream::connect(address).is_ok()
    }

    /// Ends it without a word.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn end(mut self, signal: &str) -> i32 {
        send_signal(self.process.id(), signal);
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for S2cs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An application that says back what it hears, until its peer has said all.
pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || {
                let _ = std::io::copy(&mut &stream, &mut &stream);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

/// What comes back of `sent`.
pub(crate) fn through(address: &str, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    })
}

pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeed(command.arg("--json"))).unwrap()
}

/// The one line of an error that ends with this code.
#[track_caller]
pub(crate) fn refusal(command: &mut Command, code: i32) -> String {
    let output: Output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    let error = String::from_utf8(output.stderr).unwrap();
    let line = error.lines().last().unwrap_or_default().to_owned();
    let errors = error.lines().filter(|line| line.starts_with("error: ")).count();
    assert!(line.starts_with("error: ") && errors == 1, "{error}");
    line
}
