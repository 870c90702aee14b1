//! What `psbench services` starts brokers from, and which brokers this build has.

use std::path::Path;
use std::process::{Command, Output};

use super::{Finding, Host};
use crate::services::{JAVA, Kafka, MAVEN, Needed, REDIS};

const UP_KAFKA: &str = "services up kafka";

/// `redis-server`.
pub(super) fn redis(host: &Host) -> Vec<Finding> {
    // Redis server v=7.0.15 sha=00000000:0 …
    let version = |told: &Output| {
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        text.split_whitespace().find_map(|word| word.strip_prefix("v=").map(str::to_owned)).unwrap_or(text)
    };
    vec![program(host, REDIS, "--version", version).needed_for("services up redis")]
}

/// `java`.
pub(super) fn java(host: &Host) -> Vec<Finding> {
    // openjdk version "17.0.15" 2025-04-15, on standard error.
    let version = |told: &Output| {
        String::from_utf8_lossy(&told.stderr)
            .lines()
            .next()
            .unwrap_or_default()
            .replace(" version", "")
            .replace('"', "")
    };
    vec![program(host, JAVA, "-version", version).needed_for(UP_KAFKA)]
}

/// Kafka, and what gets it.
pub(super) fn kafka(host: &Host) -> Vec<Finding> {
    const NAME: &str = "Kafka";
    let found = Kafka::new(None, Vec::new()).and_then(|kafka| Ok((kafka.version()?, kafka)));
    match found {
        Ok((version, kafka)) => {
            vec![Finding::present(NAME, format!("{version}, {}", kafka.home().display())).needed_for(UP_KAFKA)]
        }
        Err(error) => {
            let maven = match host.find(Path::new(MAVEN.program)) {
                Some(program) => Finding::present(MAVEN.program, program.display().to_string()),
                None => absent(MAVEN),
            };
            let otherwise = "name an unpacked Kafka 4 with --kafka-home";
            vec![
                Finding::refused(NAME, &error, otherwise).needed_for(UP_KAFKA),
                maven.needed_for("services fetch kafka"),
            ]
        }
    }
}

/// Those that were compiled along.
pub(super) fn clients(_host: &Host) -> Vec<Finding> {
    let client = match client_version() {
        Some(version) => Finding::present("Kafka's client", format!("librdkafka {version}")),
        None => Finding::missing(
            "Kafka's client",
            "not in this build",
            "cargo build --release, without --no-default-features",
        ),
    };
    let ssl = if cfg!(feature = "kafka-ssl") {
        Finding::present("Kafka by SSL", "OpenSSL, compiled along")
    } else {
        let remedy = "cargo build --release --features kafka-ssl (compiles OpenSSL, which takes Perl)";
        Finding::missing("Kafka by SSL", "not in this build", remedy)
    };
    vec![client.needed_for("--stream kafka"), ssl.needed_for("SSL, SASL by --kafka-option")]
}

#[cfg(feature = "kafka")]
fn client_version() -> Option<String> {
    Some(rdkafka::util::get_rdkafka_version().1)
}

#[cfg(not(feature = "kafka"))]
fn client_version() -> Option<String> {
    None
}

/// A program that a service needs.
fn program(host: &Host, needed: Needed, option: &str, version: impl Fn(&Output) -> String) -> Finding {
    let Some(program) = host.find(Path::new(needed.program)) else { return absent(needed) };
    match host.ask(Command::new(program).arg(option)) {
        Ok(told) => Finding::present(needed.program, version(&told).trim()),
        Err(error) => {
            Finding::missing(needed.program, error.to_string(), format!("apt-get install {}", needed.packages))
        }
    }
}

fn absent(Needed { program, packages }: Needed) -> Finding {
    Finding::missing(program, "not on the PATH", format!("apt-get install {packages}"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::host::tests::host;
    use super::*;

    #[test]
    fn versions_are_cut_out_of_what_is_said() {
        let (_directory, host) = host(&[
            ("redis-server", "echo Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"),
            ("java", r#"echo 'openjdk version "17.0.15" 2025-04-15' >&2; echo more >&2"#),
        ]);
        assert_eq!(redis(&host)[0].what, "7.0.15");
        assert_eq!(java(&host)[0].what, "openjdk 17.0.15 2025-04-15");
    }

    #[test]
    fn what_is_not_there_is_a_package_away() {
        let (_directory, host) = host(&[("java", "echo no JVM >&2; exit 1")]);
        let told = [redis(&host), java(&host)].concat();
        assert!(told.iter().all(|finding| finding.state == State::Missing));
        assert_eq!(told[0].remedy.as_deref(), Some("apt-get install redis-server"));
        assert_eq!(
            (&*told[1].what, told[1].remedy.as_deref()),
            ("no JVM", Some("apt-get install default-jre-headless"))
        );
    }
}
