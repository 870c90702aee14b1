//! A private Apache Kafka: one node that is broker and controller (KRaft), so that there is nothing beside it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::{Needed, Service, ServiceName, ServicesError, failure, fetch, log_of, process};

/// What it runs in.
pub(crate) const JAVA: Needed = Needed { program: "java", packages: "default-jre-headless" };

const CONFIGURATION: &str = "server.properties";
const LOGGING: &str = "log4j2.properties";

/// What the broker says once it takes clients: the last line of `KafkaRaftServer.startup`.
const STARTED: &str = "Kafka Server started";

/// What Kafka's own start script gives the JVM.
const JVM: [&str; 6] = [
    "-Xms1g",
    "-Xmx1g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// For a JVM that lives for a second: compiling well would take longer than it gains.
const SHORT_LIVED_JVM: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// Of a broker that is alone and has just started: no second replica, no wait for more members of a group; and the disk of topics that are
/// deleted is free in a second, not a minute.
const PROPERTIES: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=data
num.partitions=1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.bytes=134217728
log.segment.delete.delay.ms=1000
log.retention.minutes=60
";

/// One setting of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    key: String,
    value: String,
}

impl FromStr for Property {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() && !text.contains('\n') => {
                Ok(Self { key: key.trim().into(), value: value.trim().into() })
            }
            _ => Err("not a property: write KEY=VALUE, as in server.properties"),
        }
    }
}

/// A Kafka of version 4, with settings of the user's.
#[derive(Clone, Debug)]
pub struct Kafka {
    home: PathBuf,
    properties: Vec<Property>,
}

impl Kafka {
    /// From the jars in `libs` of a home: the one given, else `PSBENCH_KAFKA_HOME`, else that which was fetched. Later properties win over
    /// earlier ones, and all over psbench's.
    ///
    /// # Errors
    /// Nothing tells where to look.
    pub fn new(home: Option<PathBuf>, properties: Vec<Property>) -> Result<Self, ServicesError> {
        let named =
            home.or_else(|| env::var_os("PSBENCH_KAFKA_HOME").filter(|home| !home.is_empty()).map(PathBuf::from));
        let home = match named {
            // Absolute, since it runs in another directory.
            Some(home) => std::path::absolute(&home).map_err(ServicesError::file(&home))?,
            None => fetch::cached_kafka()?,
        };
        Ok(Self { home, properties })
    }

    /// Where it is, whether it is there or not.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Its version, if it is there.
    pub(crate) fn version(&self) -> Result<String, ServicesError> {
        fetch::check_home(&self.home)
    }

    /// Runs a class of Kafka's with a log of its own.
    fn java(&self, options: &[&str], class: &str) -> Command {
        let mut classpath = OsString::from(self.home.join("libs"));
        classpath.push("/*");
        let mut java = Command::new("java");
        java.args(options)
            .arg(format!("-Dlog4j2.configurationFile={LOGGING}"))
            .arg("-Djava.awt.headless=true")
            .arg("-cp")
            .arg(classpath)
            .arg(class);
        java
    }

    /// At the end of the file, where they win; with `{port}` and `{controller-port}` for its ports.
    fn own_properties(&self, ports: &[u16]) -> String {
        let named: Vec<_> = ["{port}", "{controller-port}"].into_iter().zip(ports.iter().map(u16::to_string)).collect();
        let with_ports =
            |value: &str| named.iter().fold(value.to_owned(), |value, (name, port)| value.replace(name, port));
        self.properties.iter().map(|Property { key, value }| format!("{key}={}\n", with_ports(value))).collect()
    }
}

impl Service for Kafka {
    fn name(&self) -> ServiceName {
        ServiceName::Kafka
    }

    fn check(&self) -> Result<(), ServicesError> {
        JAVA.check()?;
        self.version().map(|_| ())
    }

    fn ports(&self) -> usize {
        2
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn prepare(&self, directory: &Path, ports: &[u16], interrupted: &AtomicBool) -> Result<(), ServicesError> {
        let &[port, controller] = ports else { return Err(ServicesError::NoPort) };
        let listeners = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n"
        );
        let properties = format!("{PROPERTIES}{listeners}{}", self.own_properties(ports));
        for (name, text) in [(CONFIGURATION, &*properties), (LOGGING, include_str!("kafka-log4j2.properties"))] {
            let file = directory.join(name);
            fs::write(&file, text).map_err(ServicesError::file(&file))?;
        }
        let cluster = BASE64_URL_SAFE_NO_PAD.encode(Uuid::new_v4());
        let mut format = self.java(&SHORT_LIVED_JVM, "kafka.tools.StorageTool");
        format.args(["format", "--config", CONFIGURATION, &format!("--cluster-id={cluster}")]).current_dir(directory);
        let log = log_of(directory);
        match process::run(&mut format, &log, interrupted).map_err(ServicesError::file(&log))? {
            None => Err(ServicesError::Interrupted),
            Some(status) if status.success() => Ok(()),
            Some(_) => Err(failure(ServiceName::Kafka, "its storage can't be formatted", log)),
        }
    }

    fn reconfigure(&self, directory: &Path, ports: &[u16]) -> Result<(), ServicesError> {
        let file = directory.join(CONFIGURATION);
        let append = || OpenOptions::new().append(true).open(&file)?.write_all(self.own_properties(ports).as_bytes());
        append().map_err(ServicesError::file(&file))
    }

    fn command(&self) -> Command {
        let mut command = self.java(&JVM, "kafka.Kafka");
        command.arg(CONFIGURATION);
        command
    }

    fn answers(&self, port: u16, _pid: u32, log: &str) -> bool {
        /// On the loopback interface.
        const CONNECT: Duration = Duration::from_secs(2);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        log.contains(STARTED) && TcpStream::connect_timeout(&address, CONNECT).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_keys_and_values() {
        let property: Property = "log.dirs = a=b".parse().unwrap();
        assert_eq!((&*property.key, &*property.value), ("log.dirs", "a=b"));
        for wrong in ["log.dirs", "=x", "a=b\nc=d"] {
            wrong.parse::<Property>().unwrap_err();
        }
    }
}
