//! Connections to a broker that others end in the middle of a stream: what they carry goes on over new ones.

use std::cell::Cell;
use std::fs;
use std::process::{Child, Command, Stdio};

use crate::support::{
    Bench, Redis, assert_balanced, assert_complete, finish, free_port, interrupt_twice, is_alive, problems,
    send_signal, text, wait_until, workers_of,
};

/// Longer between items than the servers here let a connection be idle.
const SPARSE: &str =
    "--executor process --max-workers 2 --stream-method default --data-size-bytes 1kB --task-count 3 --rate 0.4";

const STREAMS: [&str; 2] = ["redis", "redis-queue"];

#[test]
fn a_server_that_ends_idle_connections_ends_no_stream() {
    let server = Redis::start(&["--timeout", "1"]);
    for stream in STREAMS {
        assert_complete(&trial(&format!("{SPARSE} --stream {stream} --stream-servers {}", server.address())));
    }
}

#[test]
fn a_proxy_that_ends_idle_connections_ends_no_stream() {
    let server = Redis::start(&[]);
    let proxy = HaProxy::start(&server.address());
    for stream in STREAMS {
        assert_complete(&trial(&format!("{SPARSE} --stream {stream} --stream-servers 127.0.0.1:{}", proxy.port)));
    }
}

#[test]
fn what_was_published_while_a_subscriber_was_cut_off_comes_or_is_lost_by_number() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let run = busy(&bench, "redis", &server);
    for _ in 0..5 {
        let published = server.calls("publish");
        let killed: u64 =
            redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query(&mut server.connection()).unwrap();
        assert_eq!(killed, 1);
        wait_until("the stream goes on", || server.calls("publish") > published + 5);
        wait_until("somebody is subscribed", || subscribers(&server) == 1);
    }
    let output = finish(run);
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    let problems = problems(trial);
    let lost = trial["items"]["lost"].as_u64().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(lost > 0)), "{}", text(&output));
    assert_eq!(lost > 0, problems.contains("lost between generator and dispatcher: numbers "), "{problems}");
    assert!(!problems.contains("output buffer"), "{problems}");
    assert!(bench.log().contains("the subscription was cut"), "{}", bench.log());
}

#[test]
fn publishers_that_are_cut_off_lose_nothing() {
    for stream in STREAMS {
        let server = Redis::start(&[]);
        let bench = Bench::new();
        let run = busy(&bench, stream, &server);
        let command = if stream == "redis" { "publish" } else { "rpush" };
        for _ in 0..5 {
            let sent = server.calls(command);
            let id = Cell::new(None);
            wait_until("somebody publishes", || {
                let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.connection()).unwrap();
                // Those who wait for a list to fill are not touched.
                let last = [format!(" cmd={command} "), " cmd=expire ".into()];
                let publisher = clients.lines().find(|client| last.iter().any(|last| client.contains(last)));
                let found = publisher.and_then(|client| client.split(' ').find_map(|field| field.strip_prefix("id=")));
                id.set(found.and_then(|id| id.parse::<u64>().ok()));
                id.get().is_some()
            });
            let id = id.get().unwrap().to_string();
            let killed: u64 = redis::cmd("CLIENT").arg(&["KILL", "ID", &id]).query(&mut server.connection()).unwrap();
            assert_eq!(killed, 1);
            wait_until("the stream goes on", || server.calls(command) > sent + 5);
        }
        let output = finish(run);
        let trial = &bench.results()["trials"][0];
        assert_balanced(trial);
        assert_eq!(trial["items"]["lost"], 0, "{trial:#}");
        assert_eq!(trial["status"], "complete", "{}", text(&output));
    }
}

fn lists(server: &Redis) -> Vec<String> {
    server.keys().into_iter().filter(|key| key.starts_with("stream-benchmark-data")).collect()
}

/// A run whose list is never empty.
fn backed_up(bench: &Bench, server: &Redis) -> Child {
    let arguments = format!(
        "--executor process --max-workers 2 --stream-method default --data-size-bytes 100kB --task-count 4000 --task-sleep 1 --rate 1000 \
         --max-inflight-bytes 1MB --stream redis-queue --stream-servers {}",
        server.address()
    );
    let run = bench.command(&arguments).spawn().unwrap();
    wait_until("a list has filled", || server.calls("rpush") > 300 && !lists(server).is_empty());
    run
}

#[test]
fn the_list_of_a_killed_run_expires() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let mut run = backed_up(&bench, &server);
    let workers = workers_of(run.id());
    send_signal(run.id(), "KILL");
    run.wait().unwrap();
    wait_until("the workers have ended", || !workers.iter().any(|pid| is_alive(*pid)));
    let list = lists(&server).remove(0);
    let left: i64 = redis::cmd("TTL").arg(&list).query(&mut server.connection()).unwrap();
    assert!((1..=600).contains(&left), "{list}: {left}");
}

#[test]
fn the_list_goes_with_whoever_interrupts_twice() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let mut run = backed_up(&bench, &server);
    interrupt_twice(&run, &bench);
    run.wait().unwrap();
    // A worker may have sent something on its way out: that expires.
    for list in lists(&server) {
        let left: i64 = redis::cmd("TTL").arg(&list).query(&mut server.connection()).unwrap();
        let length: u64 = redis::cmd("LLEN").arg(&list).query(&mut server.connection()).unwrap();
        assert!(left > 0 && length < 200, "{list}: {left} s, {length} items");
    }
}

fn trial(arguments: &str) -> serde_json::Value {
    let bench = Bench::new();
    let output = bench.run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    bench.results()["trials"][0].clone()
}

/// A run that sends an item each few milliseconds, once it does.
fn busy(bench: &Bench, stream: &str, server: &Redis) -> Child {
    let arguments = format!(
        "--executor process --max-workers 3 --stream-method default --data-size-bytes 10kB --task-count 2000 --task-sleep 0 --rate 200 \
         --stream {stream} --stream-servers {}",
        server.address()
    );
    let run = bench.command(&arguments).spawn().unwrap();
    let command = if stream == "redis" { "publish" } else { "rpush" };
    wait_until("items are sent", || server.calls(command) > 20);
    run
}

fn subscribers(server: &Redis) -> u64 {
    let channels: Vec<String> = redis::cmd("PUBSUB").arg("CHANNELS").query(&mut server.connection()).unwrap();
    channels.len() as u64
}

/// HAProxy before a server, which ends connections over which nothing goes for two seconds.
struct HaProxy {
    port: u16,
    process: Child,
    _directory: tempfile::TempDir,
}

impl HaProxy {
    fn start(server: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, file) = (free_port(), directory.path().join("haproxy.cfg"));
        let configuration = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 2s\n timeout server 2s\nlisten redis\n bind 127.0.0.1:{port}\n \
             server redis {server}\n"
        );
        fs::write(&file, configuration).unwrap();
        let process = Command::new("/usr/sbin/haproxy").arg("-db").arg("-f").arg(&file).stderr(Stdio::null()).spawn();
        let proxy = Self { port, process: process.unwrap(), _directory: directory };
        wait_until("HAProxy listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        proxy
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
