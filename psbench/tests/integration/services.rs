//! Private brokers: what `psbench services` starts it finds again, and stops nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Kafka, is_alive, read_json, send_signal, text, wait_until};

/// A directory of services, all of which go with it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `psbench services` with these arguments, split at white space.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
        command.arg("services").args(arguments.split_whitespace()).arg("--dir").arg(self.path());
        command
    }

    fn output(&self, arguments: &str) -> String {
        succeed(&mut self.command(arguments))
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.output(&format!("{arguments} --json"))).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.command("down").output();
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The one line of a command that ends with this code.
fn refusal(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    assert!(output.stdout.is_empty(), "{}", text(&output));
    let said = last_line(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end(), said);
    said
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

fn pid(report: &Value) -> u32 {
    report["pid"].as_u64().expect("it runs").try_into().unwrap()
}

fn set(port: &Value, key: &str) {
    redis::cmd("SET").arg(key).arg(1).exec(&mut connect(port)).unwrap();
}

fn exists(port: &Value, key: &str) -> bool {
    redis::cmd("EXISTS").arg(key).query(&mut connect(port)).unwrap()
}

fn connect(address: &Value) -> redis::Connection {
    redis::Client::open(format!("redis://{}", address.as_str().unwrap())).unwrap().get_connection().unwrap()
}

#[test]
fn redis_goes_up_once_and_down_whole() {
    let place = Place::new();
    let up = place.output("up redis redis");
    let server = &place.json("list")[0];
    assert_eq!(server["condition"], "running");
    assert_eq!(up, format!("redis: --stream redis --stream-servers {}\n", server["address"].as_str().unwrap()));
    assert_eq!(&place.json("up redis")[0], server, "the second does nothing");
    let connected = connect(&server["address"]);
    drop(connected);

    assert_eq!(place.output("down"), "redis: was running, is down\n");
    assert!(!is_alive(pid(server)));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left");
    assert_eq!(place.output("down redis"), format!("redis: is not up at {}\n", place.path().display()));
}

#[test]
fn what_is_kept_comes_back_with_address_and_data() {
    let place = Place::new();
    let first = place.json("up redis")[0].clone();
    set(&first["address"], "kept");
    place.output("down --keep");
    assert_eq!(place.json("list")[0]["condition"], "stopped");
    let second = place.json("up redis")[0].clone();
    assert_eq!(first["address"], second["address"]);
    assert!(exists(&second["address"], "kept"));

    send_signal(pid(&second), "KILL");
    wait_until("the list tells of its death", || place.json("list")[0]["condition"] == "dead");
    let third = place.json("up redis")[0].clone();
    assert_eq!(second["address"], third["address"]);
    assert_ne!(pid(&second), pid(&third));
}

#[test]
fn a_port_that_another_process_took_meanwhile_is_named() {
    let place = Place::new();
    let address = place.json("up redis")[0]["address"].as_str().unwrap().to_owned();
    place.output("down --keep");
    let _other = std::net::TcpListener::bind(&address).unwrap();
    let port = address.rsplit(':').next().unwrap();
    assert_eq!(
        refusal(&mut place.command("up redis"), 1),
        format!(
            "error: redis: another process has its port {port}; `psbench services down redis` gives up port and data"
        )
    );
}

#[test]
fn a_process_that_was_given_the_number_is_left_alone() {
    let place = Place::new();
    let mut unrelated = Command::new("sleep").arg("60").spawn().unwrap();
    let process = json!({ "pid": unrelated.id(), "start_time": 1 });
    let state = json!({ "name": "redis", "stage": "started", "ports": [12345], "process": process });
    fs::create_dir(place.path().join("redis")).unwrap();
    fs::write(place.path().join("redis/service.json"), state.to_string()).unwrap();
    assert_eq!(place.json("list")[0]["condition"], "dead");
    assert_eq!(place.output("down redis"), "redis: was dead, is down\n");
    assert!(is_alive(unrelated.id()));
    unrelated.kill().unwrap();
    unrelated.wait().unwrap();
}

#[test]
fn directories_of_others_are_refused() {
    let place = Place::new();
    let link = place.path().join("link");
    let own = tempfile::tempdir().unwrap();
    symlink(own.path(), &link).unwrap();
    let foreign = if rustix::process::getuid().is_root() {
        chown(own.path(), Some(1), None).unwrap();
        own.path()
    } else {
        Path::new("/usr")
    };
    for verb in ["up redis", "down", "list"] {
        for (directory, problem) in [(&*link, "a symbolic link"), (foreign, "belongs to user ")] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
            command.arg("services").args(verb.split(' ')).arg("--dir").arg(directory);
            let refused = refusal(&mut command, 2);
            assert!(refused.starts_with(&format!("error: --dir {}: {problem}", directory.display())), "{refused}");
        }
    }
    let refused = Place::new();
    fs::create_dir(refused.path().join("redis")).unwrap();
    assert!(
        refusal(&mut refused.command("up redis"), 2).ends_with("its redis was not made by psbench; choose another")
    );
}

#[test]
fn what_is_not_there_is_named_before_anything_starts() {
    let place = Place::new();
    let home = place.path().join("nowhere");
    let up = || place.command("up redis kafka");
    assert_eq!(
        refusal(up().arg("--kafka-home").arg(&home), 2),
        format!(
            "error: no Kafka at {}: it has no libs; get one with `psbench services fetch kafka`, or name an unpacked Kafka 4 with \
             --kafka-home",
            home.display()
        )
    );
    assert!(refusal(up().env("PSBENCH_KAFKA_HOME", &home), 2).contains("/nowhere: it has no libs"));
    let fetched = refusal(up().env_remove("PSBENCH_KAFKA_HOME").env("PSBENCH_CACHE", &home), 2);
    assert!(fetched.contains("/nowhere/kafka-"), "{fetched}");
    assert_eq!(
        refusal(place.command("up kafka").env("PATH", place.path()), 2),
        "error: no java on the PATH; get it with: apt-get install default-jre-headless"
    );
    assert_eq!(
        refusal(place.command("up redis").env("PATH", place.path()), 2),
        "error: no redis-server on the PATH; get it with: apt-get install redis-server"
    );
    assert_eq!(place.json("list"), json!([]));
}

/// A fetch with a `mvn` that is this script, into a cache of its own.
fn fetch(place: &Place, mvn: &str) -> Command {
    let programs = place.path().join("bin");
    fs::create_dir_all(&programs).unwrap();
    fs::write(programs.join("mvn"), format!("#!/bin/sh\n{mvn}")).unwrap();
    fs::set_permissions(programs.join("mvn"), fs::Permissions::from_mode(0o700)).unwrap();
    let path = std::env::join_paths([programs, PathBuf::from("/usr/bin"), PathBuf::from("/bin")]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
    command.args(["services", "fetch", "kafka"]).env("PSBENCH_CACHE", place.path().join("cache")).env("PATH", path);
    command
}

#[test]
fn kafka_is_fetched_once_and_whole() {
    let place = Place::new();
    let mut failing = fetch(&place, "mkdir libs; touch libs/kafka_2.13-1.jar; echo '[ERROR] no network'; exit 1");
    let refused = refusal(&mut failing, 1);
    assert!(refused.contains("mvn could not fetch Kafka: exit status: 1: no network; "), "{refused}");
    let cache = place.path().join("cache");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0, "half a Kafka is none");

    let jars = "mkdir libs; touch libs/kafka_2.13-1.jar libs/log4j-slf4j-impl-1.jar; grep -q kafka-tools pom.xml";
    let first = succeed(&mut fetch(&place, jars));
    assert!(first.starts_with(&format!("kafka: is in {}/kafka-", cache.display())), "{first}");
    let second = succeed(&mut fetch(&place, "exit 1"));
    assert!(second.starts_with("kafka: is already in "), "{second}");
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
}

#[test]
fn an_interrupt_stops_what_is_being_started() {
    let place = Place::new();
    let child = place.command("up kafka").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let state = place.path().join("kafka/service.json");
    wait_until("the broker starts", || state.exists() && read_json(&state)["process"].is_object());
    let broker = pid(&read_json(&state)["process"]);
    send_signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(!is_alive(broker));
    assert_eq!(place.json("list"), json!([]));
}

/// What takes long, or is held in full elsewhere.
mod slow {
    use super::*;

    /// Runs one of Kafka's own tools with the jars of a broker.
    fn kafka_tool(broker: &Kafka, class: &str, arguments: &str) -> String {
        let command_line = fs::read_to_string(format!("/proc/{}/cmdline", broker.pid())).unwrap();
        let classpath = command_line.split('\0').skip_while(|argument| *argument != "-cp").nth(1).unwrap();
        let mut java = Command::new("java");
        java.args(["-XX:TieredStopAtLevel=1", "-cp", classpath, class, "--bootstrap-server", &broker.address()]);
        succeed(java.args(arguments.split_whitespace()))
    }

    #[test]
    fn kafka_keeps_its_address_and_data_until_it_is_down() {
        let topics = "org.apache.kafka.tools.TopicCommand";
        let kafka = Kafka::start(&["num.partitions=3"]);
        let first = kafka.pid();
        kafka_tool(&kafka, topics, "--create --topic kept");
        kafka.stop();
        assert!(!is_alive(first));
        kafka.resume();
        assert_ne!(kafka.pid(), first);
        let described = kafka_tool(&kafka, topics, "--describe --topic kept");
        assert!(described.contains("PartitionCount: 3"), "{described}");

        let second = kafka.pid();
        send_signal(second, "KILL");
        wait_until("it is dead", || !is_alive(second));
        kafka.resume();
        kafka.resume();
        let (third, directory) = (kafka.pid(), kafka.directory().to_owned());
        drop(kafka);
        assert!(!is_alive(third));
        assert!(!directory.exists());
    }

    #[test]
    fn a_second_that_fails_leaves_the_first_and_says_so() {
        let place = Place::new();
        let failed = place.command("up redis kafka --kafka-property listeners=nonsense").output().unwrap();
        assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
        assert!(
            text(&failed).contains("WARNING redis runs nevertheless, until psbench services down redis\n"),
            "{failed:?}"
        );
        let error = last_line(&failed);
        assert!(error.starts_with("error: kafka did not start: its storage can't be formatted; it said: "), "{error}");
        assert!(error.contains("nonsense") && error.contains("kafka/log.txt"), "{error}");
        let list = place.json("list");
        assert_eq!((&list[0]["condition"], &list[1]["condition"]), (&json!("running"), &json!("failed")));
    }
}
