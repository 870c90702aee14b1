//! Private Kafka brokers, by `psbench services`.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use psbench::brokers::{KafkaSettings, MessageFormat};
use serde_json::Value;
use tempfile::TempDir;

use super::text;

/// Where a broker is that all tests may use: `test.sh` starts one ahead of them.
const SHARED: &str = "PSBENCH_TEST_KAFKA";

/// Runs until it is dropped, unless others use it, too.
pub(crate) struct Kafka {
    /// Absent where others use it, too.
    directory: Option<TempDir>,
    address: String,
}

impl Kafka {
    /// Starts one with these properties (`key=value`) of `server.properties`.
    pub(crate) fn start(properties: &[&str]) -> Self {
        // What is made first is dropped even if the start panics, and whatever had started with it.
        let mut kafka = Self { directory: Some(tempfile::tempdir().unwrap()), address: String::new() };
        let properties = properties.iter().flat_map(|property| ["--kafka-property", property]);
        kafka.address = kafka.up(properties)["address"].as_str().unwrap().to_owned();
        kafka
    }

    /// The one at `$PSBENCH_TEST_KAFKA`, for whoever neither stops nor configures it and looks at no topics but its own; a private one
    /// where that is not set.
    pub(crate) fn shared() -> Self {
        match env::var(SHARED) {
            Ok(address) => Self { directory: None, address },
            Err(_) => Self::start(&[]),
        }
    }

    /// `host:port`, also of one that is stopped.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// What the options come to by default, but that a producer gives up after 8 s.
    pub(crate) fn settings(&self) -> KafkaSettings {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        KafkaSettings {
            servers: vec![(host.into(), port.parse().unwrap())],
            properties: [("message.timeout.ms".into(), "8000".into())].into(),
            format: MessageFormat::Psbench,
            partitions: 1,
            replication: None,
            retention: None,
            max_message_bytes: None,
            largest_message: 4 << 20,
        }
    }

    pub(crate) fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }

    /// The broker's process.
    pub(crate) fn pid(&self) -> u32 {
        let services = json(self.services("list").arg("--json"));
        services[0]["pid"].as_u64().expect("it runs").try_into().unwrap()
    }

    /// Where its log, configuration and data are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_ref().expect("a broker that is shared stays as it is").path()
    }

    /// Ends it in order; address and data stay.
    pub(crate) fn stop(&self) {
        let output = self.services("down").args(["kafka", "--keep"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Starts it again, after [`stop`](Self::stop) or its death, at its address and with its data.
    pub(crate) fn resume(&self) {
        assert_eq!(self.up([])["address"], self.address);
    }

    /// Makes it the second broker of another one's cluster; it forgets all it had.
    pub(crate) fn join(&self, first: &Self) {
        self.stop();
        let [own, others] = [self, first].map(|kafka| kafka.directory().join("kafka"));
        let line = |file: &str, key: &str| {
            let text = fs::read_to_string(others.join(file)).unwrap();
            text.lines().find(|line| line.starts_with(key)).expect(key).to_owned()
        };
        let identity = fs::read_to_string(own.join("data/meta.properties")).unwrap();
        let identity =
            identity.lines().filter(|line| !line.starts_with("cluster.id=") && !line.starts_with("node.id="));
        let cluster = line("data/meta.properties", "cluster.id=");
        let identity = identity.chain([&*cluster, "node.id=2"]).collect::<Vec<_>>().join("\n");
        fs::remove_dir_all(own.join("data")).unwrap();
        fs::create_dir(own.join("data")).unwrap();
        fs::write(own.join("data/meta.properties"), identity).unwrap();
        let properties = [
            "",
            "process.roles=broker",
            "node.id=2",
            &line("server.properties", "controller.quorum.voters="),
            &format!("listeners=PLAINTEXT://{}", self.address),
            "",
        ];
        let mut configuration = File::options().append(true).open(own.join("server.properties")).unwrap();
        configuration.write_all(properties.join("\n").as_bytes()).unwrap();
        self.resume();
    }

    fn up<'a>(&self, properties: impl IntoIterator<Item = &'a str>) -> Value {
        json(self.services("up").args(["kafka", "--json"]).args(properties))[0].clone()
    }

    fn services(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
        command.args(["services", verb, "--dir"]).arg(self.directory());
        // It starts in half the time, and no test is about how fast it becomes.
        command.env("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1");
        command
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.directory.is_some() {
            let _ = self.services("down").output();
        }
    }
}

/// What a command prints.
fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert_ne!(output.status.code(), Some(2), "run ./test.sh once: it gets Kafka and what it needs\n{}", text(&output));
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}
