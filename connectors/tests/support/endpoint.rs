//! A private endpoint of ProxyStore for one test.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use psbench_connectors::endpoint::EndpointLocation;
use psbench_connectors::{ConnectorSpec, KeySource};
use tempfile::TempDir;
use uuid::Uuid;

use super::free_port;
use super::python::python;

/// The endpoint's name.
pub(crate) const NAME: &str = "private";

/// Runs until it is dropped, with a directory of ProxyStore of its own and no relay server.
pub(crate) struct Endpoint {
    home: TempDir,
    process: Option<Child>,
    pub(crate) port: u16,
    pub(crate) id: Uuid,
}

impl Endpoint {
    /// Starts one that takes objects up to ProxyStore's own limit.
    pub(crate) fn start() -> Self {
        Self::start_with(|config| config)
    }

    /// Starts one whose `config.toml` was changed.
    pub(crate) fn start_with(change: impl Fn(String) -> String) -> Self {
        // A port that is free now may be another test's in a moment.
        (0..5).find_map(|_| Self::try_start(&change)).expect("the endpoint did not start")
    }

    fn try_start(change: impl Fn(String) -> String) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let port = free_port();
        let options = ["--host", "127.0.0.1", "--no-relay-server", "--port", &port.to_string()];
        let configured = command(home.path()).args(["configure", NAME]).args(options).status().unwrap();
        assert!(configured.success());
        let file = home.path().join(NAME).join("config.toml");
        let config = change(fs::read_to_string(&file).unwrap());
        let id = config.lines().find_map(|line| line.strip_prefix("uuid = ")).unwrap().trim_matches('"');
        let id = id.parse().unwrap();
        fs::write(file, &config).unwrap();
        let mut endpoint = Self { home, process: None, port, id };
        endpoint.run().then_some(endpoint)
    }

    /// Starts it again after [`stop`](Self::stop).
    pub(crate) fn restart(&mut self) {
        assert!(self.run(), "another process took the port");
    }

    /// `false` where it ends at once, as when another process has the port.
    fn run(&mut self) -> bool {
        let config = self.config();
        let process =
            self.process.insert(command(self.home.path()).args(["start", "--no-detach", NAME]).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while process.try_wait().unwrap().is_none() {
            if config.open(KeySource::random()).is_ok() {
                return true;
            }
            assert!(Instant::now() < deadline, "the endpoint did not come up on port {}", self.port);
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// The directory in which it is configured.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn location(&self) -> EndpointLocation {
        EndpointLocation { host: "127.0.0.1".into(), port: self.port, id: self.id }
    }

    pub(crate) fn config(&self) -> ConnectorSpec {
        ConnectorSpec::Endpoint(self.location())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `proxystore-endpoint` of the tests' Python.
fn command(home: &Path) -> Command {
    let mut command = Command::new(python());
    command
        .args(["-c", "from proxystore.endpoint.cli import cli; cli()"])
        .env("PROXYSTORE_HOME", home)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
