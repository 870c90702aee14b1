//! What can go wrong with services.

use std::io;
use std::path::{Path, PathBuf};

use super::ServiceName;

/// Why a service could not be started, stopped or fetched.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The directory of all services can't be trusted.
    #[error("--dir {}: {problem}; choose another", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file or directory can't be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A program that a service needs is not there.
    #[error("no {program} on the PATH; get it with: apt-get install {packages}")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// Debian's packages.
        packages: &'static str,
    },
    /// There is no Kafka where it was looked for.
    #[error("no Kafka at {}: {problem}; get one with `psbench services fetch kafka`, or name an unpacked Kafka 4 with --kafka-home", path.display())]
    NoKafka {
        /// The home.
        path: PathBuf,
        /// What is not there.
        problem: &'static str,
    },
    /// Nothing tells where fetched programs are kept.
    #[error(
        "neither PSBENCH_CACHE nor XDG_CACHE_HOME nor HOME is set; set one of them, or name an unpacked Kafka with --kafka-home"
    )]
    NoCache,
    /// Maven could not get the jars.
    #[error(
        "mvn could not fetch Kafka: {0}; see that it reaches its repository, or name an unpacked Kafka with --kafka-home"
    )]
    Fetch(String),
    /// No port was free.
    #[error("no port of 127.0.0.1 between 10000 and 30000 is free")]
    NoPort,
    /// Another process has the port of a service that is to come back on it.
    #[error("{name}: another process has its port {port}; `psbench services down {name}` gives up port and data")]
    PortTaken {
        /// The service.
        name: ServiceName,
        /// The port.
        port: u16,
    },
    /// A service did not start.
    #[error("{name} did not start: {problem}; see {}", log.display())]
    Start {
        /// The service.
        name: ServiceName,
        /// What happened instead.
        problem: String,
        /// What it said.
        log: PathBuf,
    },
    /// A process does not end.
    #[error("{name}: process {pid} does not end, not even killed; its directory stays")]
    Stop {
        /// The service.
        name: ServiceName,
        /// The process.
        pid: u32,
    },
    /// What a service holds could not be saved.
    #[error("{name} can't save what it holds: {problem}; without --keep it is given up")]
    Save {
        /// The service.
        name: ServiceName,
        /// Its reason.
        problem: String,
    },
    /// The user left.
    #[error("interrupted; what was being started is stopped")]
    Interrupted,
}

impl ServicesError {
    /// The file at fault.
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
