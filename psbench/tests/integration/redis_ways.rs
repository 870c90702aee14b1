//! How people get to a Redis: passwords, users, TLS, Unix sockets, databases, sentinels; and what they are told where they do not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use bytes::Bytes;
use psbench::brokers::{BrokerChoice, Message, MessageFormat};
use psbench_connectors::redis::{RedisConnector, RedisServer};
use psbench_connectors::{Connector, Key, KeySource};
use tempfile::TempDir;

use crate::support::{Bench, HANGS, Redis, assert_complete, free_port, text, wait_until};

const PASSWORD: &str = "hunter2-of-this-test";

impl Redis {
    fn order(&self, words: &[&str]) {
        redis::cmd(words[0]).arg(&words[1..]).exec(&mut self.connection()).unwrap();
    }
}

/// A short sweep of both methods at this server.
fn arguments(stream: &str, server: &str) -> String {
    format!(
        "--executor thread --data-size-bytes 20kB --task-count 8 --rate max --task-sleep 0s --max-workers 2 --stream {stream} \
         --stream-servers {server} --ps-connector redis --ps-host {server}"
    )
}

fn run_as(bench: &Bench, user: Option<&str>, password: Option<&str>, arguments: &str) -> Output {
    let mut command = bench.command(arguments);
    command.env_remove("PSBENCH_REDIS_USERNAME").env_remove("PSBENCH_REDIS_PASSWORD");
    command.envs(user.map(|user| ("PSBENCH_REDIS_USERNAME", user)));
    command.envs(password.map(|password| ("PSBENCH_REDIS_PASSWORD", password)));
    command.output().unwrap()
}

fn assert_runs(user: Option<&str>, password: Option<&str>, arguments: &str) {
    let bench = Bench::new();
    let output = run_as(&bench, user, password, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let trials = bench.results();
    let trials = trials["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 2);
    trials.iter().for_each(assert_complete);
    for entry in walk(bench.directory.path()) {
        let kept = String::from_utf8_lossy(&std::fs::read(&entry).unwrap()).into_owned();
        assert!(!kept.contains(PASSWORD), "{}", entry.display());
    }
    assert!(!text(&output).contains(PASSWORD));
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// What a run says that can't begin.
fn refusal(user: Option<&str>, password: Option<&str>, arguments: &str) -> String {
    let output = run_as(&Bench::new(), user, password, arguments);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    said
}

#[test]
fn a_password_lets_in_and_is_asked_for() {
    let redis = Redis::start(&[]);
    redis.order(&["CONFIG", "SET", "requirepass", PASSWORD]);
    for stream in ["redis", "redis-queue"] {
        assert_runs(None, Some(PASSWORD), &arguments(stream, &format!("redis://{}", redis.address())));
    }
    let arguments = arguments("redis", &redis.address().replace("127.0.0.1", "redis://127.0.0.1"));
    let said = refusal(None, None, &arguments);
    assert!(said.contains("Authentication required") && said.contains("PSBENCH_REDIS_PASSWORD"), "{said}");
    let said = refusal(None, Some("wrong"), &arguments);
    assert!(said.contains("WRONGPASS") && said.contains("PSBENCH_REDIS_PASSWORD"), "{said}");
    let memory = arguments.replace("--stream redis", "--stream memory");
    let memory = memory.replace(&format!("--stream-servers redis://{}", redis.address()), "");
    let said = refusal(None, None, &memory);
    assert!(said.contains("Authentication required") && said.contains("PSBENCH_REDIS_PASSWORD"), "{said}");
}

#[test]
fn processes_get_the_password_and_nobody_sees_it() {
    let redis = Redis::start(&[]);
    redis.order(&["CONFIG", "SET", "requirepass", PASSWORD]);
    let arguments = arguments("redis-queue", &format!("redis://{}", redis.address()));
    let arguments =
        arguments.replace("--executor thread", "--executor process").replace("--max-workers 2", "--max-workers 3");
    assert_runs(None, Some(PASSWORD), &format!("{arguments} --generator local"));
}

#[test]
fn a_password_in_a_url_is_refused() {
    for option in ["--stream redis --stream-servers", "--ps-connector redis --ps-host"] {
        let said = refusal(None, None, &format!("{option} redis://me:{PASSWORD}@localhost"));
        assert!(said.contains("redis://…@localhost") && said.contains("PSBENCH_REDIS_PASSWORD"), "{said}");
    }
}

#[test]
fn a_user_with_few_rights_is_told_which_are_missing() {
    let redis = Redis::start(&[]);
    let user = |rights: &[&str]| {
        redis.order(&[&["ACL", "SETUSER", "bench", "reset", "on", &format!(">{PASSWORD}")], rights].concat());
    };
    let all = ["~*", "&*", "+@read", "+@write", "+@pubsub", "+@connection"];
    user(&all);
    let server = redis.address();
    for stream in ["redis", "redis-queue"] {
        assert_runs(None, Some(PASSWORD), &arguments(stream, &format!("redis://bench@{server}")));
    }
    let server = format!("redis://{server}");
    for (stream, missing) in [
        ("redis", "publish"),
        ("redis", "subscribe"),
        ("redis-queue", "rpush"),
        ("redis-queue", "blpop"),
        ("redis-queue", "lpop"),
        ("redis", "set"),
        ("redis", "getdel"),
        ("redis", "unlink"),
    ] {
        user(&[&all[..], &[&format!("-{missing}")]].concat());
        let said = refusal(Some("bench"), Some(PASSWORD), &arguments(stream, &server));
        assert!(said.to_lowercase().contains(&format!("no permissions to run the '{missing}' command")), "{said}");
        assert!(said.contains("ACL SETUSER"), "{said}");
    }
}

#[test]
fn a_server_without_getdel_serves() {
    let redis = Redis::start(&["--rename-command", "GETDEL", ""]);
    assert_runs(None, None, &arguments("redis", &format!("redis://{}", redis.address())));
    assert_eq!(redis.keys(), [""; 0]);
}

#[test]
fn a_unix_socket_and_a_database_are_reached() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis.sock");
    let redis = Redis::start(&["--unixsocket", socket.to_str().unwrap()]);
    let url = format!("redis+unix://{}?db=3", socket.display());
    assert_runs(None, None, &format!("{} --ps-lifetime static", arguments("redis-queue", &url)));
    assert_runs(None, None, &arguments("redis", &format!("redis://{}/3", redis.address())));
    let info: String = redis::cmd("INFO").arg("keyspace").query(&mut redis.connection()).unwrap();
    assert!(info.contains("db3:keys=8,") && !info.contains("db0"), "{info}");
    let said = refusal(None, None, &arguments("redis", &format!("redis://{}/99", redis.address())));
    assert!(said.contains("DB index is out of range"), "{said}");
}

/// An authority, and what it signed for 127.0.0.1.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        made.openssl(&[&key[..], &["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"]].concat());
        for name in ["server", "client"] {
            let names = ["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"];
            let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key"];
            let files = ["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")];
            made.openssl(&[&key[..], &names, &leaf, &files].concat());
        }
        made
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A server that has TLS at a port of its own.
    fn server(&self, clients: &str) -> (Redis, u16) {
        let port = free_port();
        let files = [("cert", "server.pem"), ("key", "server.key"), ("ca-cert", "ca.pem")];
        let files = files.map(|(option, name)| [format!("--tls-{option}-file"), self.file(name)]).concat();
        let mut options: Vec<&str> = files.iter().map(String::as_str).collect();
        let port_text = port.to_string();
        options.extend(["--tls-port", &port_text, "--tls-auth-clients", clients]);
        (Redis::start(&options), port)
    }
}

#[test]
fn tls_trusts_whom_it_is_told_and_shows_its_certificate() {
    let certificates = Certificates::new();
    let (redis, port) = certificates.server("yes");
    redis.order(&["CONFIG", "SET", "requirepass", PASSWORD]);
    let arguments = |stream| arguments(stream, &format!("rediss://127.0.0.1:{port}"));
    let ca = format!("--redis-ca-file {}", certificates.file("ca.pem"));
    let client = format!(
        "--redis-cert-file {} --redis-key-file {}",
        certificates.file("client.pem"),
        certificates.file("client.key")
    );
    for stream in ["redis", "redis-queue"] {
        assert_runs(None, Some(PASSWORD), &format!("{} {ca} {client}", arguments(stream)));
    }
    let processes = arguments("redis").replace("--executor thread", "--executor process");
    assert_runs(
        None,
        Some(PASSWORD),
        &format!("{processes} --generator local --max-workers 3 {ca} {client}").replace("--max-workers 2", ""),
    );
    let said = refusal(None, Some(PASSWORD), &format!("{} {client}", arguments("redis")));
    assert!(said.contains("its certificate is none of"), "{said}");
    refusal(None, Some(PASSWORD), &format!("{} {ca}", arguments("redis")));
    let plain = self::arguments("redis", &format!("redis://127.0.0.1:{port}"));
    let said = refusal(None, Some(PASSWORD), &plain);
    assert!(said.contains("it speaks TLS there: write rediss://"), "{said}");
    let secure = self::arguments("redis", &format!("rediss://{}", redis.address()));
    let said = refusal(None, Some(PASSWORD), &format!("{secure} {ca}"));
    assert!(said.contains("write redis://"), "{said}");
}

/// A Sentinel, until it is dropped.
struct Sentinel {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Sentinel {
    fn of(redis: &Redis) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let file = directory.path().join("sentinel.conf");
        let lines = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\n",
            directory.path().display(),
            redis.port
        );
        std::fs::write(&file, lines).unwrap();
        let process = Command::new("redis-server").arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        wait_until("the sentinel listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, port, _directory: directory }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn sentinels_name_the_master() {
    let redis = Redis::start(&[]);
    let sentinel = Sentinel::of(&redis);
    // The first of them is not there.
    let servers = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), sentinel.port);
    let urls = servers.replace("127.0.0.1", "redis://127.0.0.1");
    let arguments = arguments("redis-queue", "S").replace("--stream-servers S", &format!("--stream-servers {servers}"));
    let arguments = arguments.replace("--ps-host S", &format!("--ps-host {urls}"));
    assert_runs(None, None, &format!("{arguments} --redis-sentinel main"));
    assert!(redis.calls("rpush") > 0 && redis.calls("set") > 0);
    let said = refusal(None, None, &format!("{arguments} --redis-sentinel other"));
    assert!(said.contains("knows no master `other`"), "{said}");
    let said = refusal(None, None, &arguments);
    assert!(said.contains("--redis-sentinel"), "{said}");
}

#[test]
fn a_replica_is_refused_with_its_masters_address() {
    let (master, replica) = (Redis::start(&[]), Redis::start(&[]));
    replica.order(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    let server = format!("redis://{}", replica.address());
    let said = refusal(None, None, &arguments("redis-queue", &server));
    assert!(said.contains("it is a replica") && said.contains(&master.address()), "{said}");
    let of_the_connector = format!("--ps-connector redis --ps-host {server} --stream memory --task-count 4");
    let said = refusal(None, None, &of_the_connector);
    assert!(said.contains("it is a replica") && said.contains(&master.address()), "{said}");
}

/// Something else at a port, which answers each connection in this way.
fn double(answer: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    port
}

/// Takes the first request, so that what is not read does not cut off the answer.
fn read_some(mut client: &TcpStream) {
    let _ = client.read(&mut [0; 1024]);
}

#[test]
fn what_a_server_says_as_it_hangs_up_is_told() {
    let port = double(|mut client| {
        let _ = client.write_all(b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n");
    });
    let said = refusal(None, None, &arguments("redis", &format!("redis://127.0.0.1:{port}")));
    assert!(said.contains("protected mode is enabled") && said.contains("PSBENCH_REDIS_PASSWORD"), "{said}");
}

#[test]
fn a_web_server_is_no_redis() {
    let port = double(|mut client| {
        read_some(&client);
        let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n");
    });
    for stream in ["redis", "redis-queue"] {
        let said = refusal(None, None, &arguments(stream, &format!("redis://127.0.0.1:{port}")));
        assert!(said.contains("this is no Redis: it answered HTTP"), "{said}");
    }
    let said = refusal(None, None, &format!("--ps-connector redis --ps-host redis://127.0.0.1:{port}"));
    assert!(said.contains("this is no Redis: it answered HTTP"), "{said}");
}

#[test]
fn a_line_without_an_end_is_not_read_for_ever() {
    for begin in ["+", "$", "*", "-"] {
        let port = double(move |mut client| {
            read_some(&client);
            let _ = client.write_all(begin.as_bytes());
            while client.write_all(&[b'1'; 64 << 10]).is_ok() {}
        });
        let said = refusal(None, None, &arguments("redis", &format!("redis://127.0.0.1:{port}")));
        assert!(said.contains("a line without its end"), "{said}");
    }
}

#[test]
fn a_server_that_drops_objects_is_named_ahead_of_the_run() {
    let redis = Redis::start(&["--maxmemory", "200mb", "--maxmemory-policy", "allkeys-lru"]);
    let output = run_as(&Bench::new(), None, None, &arguments("redis-queue", &format!("redis://{}", redis.address())));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for who in ["redis-queue at", "redis 127"] {
        let warning = said.lines().find(|line| line.contains(who) && line.contains("maxmemory-policy is allkeys-lru"));
        assert!(warning.is_some(), "{said}");
    }
}

#[test]
fn an_item_larger_than_the_servers_values_is_refused_ahead_of_the_run() {
    let redis = Redis::start(&["--proto-max-bulk-len", "2mb"]);
    let arguments = "--executor thread --data-size-bytes 10kB 3MB --task-count 4 --task-sleep 0s --max-workers 2";
    for stream in ["redis", "redis-queue"] {
        let servers = format!("--stream {stream} --stream-servers {}", redis.address());
        let said = refusal(None, None, &format!("{arguments} {servers}"));
        assert!(said.contains("an item of 3MB") && said.contains("proto-max-bulk-len"), "{said}");
        let output = Bench::new().run(&format!("{arguments} {servers} --stream-method proxy"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
}

/// A cluster, and its nodes' files.
struct Cluster {
    nodes: Vec<Redis>,
    _files: TempDir,
}

impl Cluster {
    fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let nodes: Vec<Redis> = (0..3)
            .map(|index| {
                let file = files.path().join(format!("nodes-{index}.conf"));
                Redis::start(&["--cluster-enabled", "yes", "--cluster-config-file", file.to_str().unwrap()])
            })
            .collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create", "--cluster-yes"])
            .args(nodes.iter().map(Redis::address))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made));
        for node in &nodes {
            wait_until("the cluster is there", || {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut node.connection()).unwrap();
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            });
        }
        Self { nodes, _files: files }
    }

    /// Its URL: the first node named is not there.
    fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{},redis+cluster://{}", free_port(), self.nodes[0].address())
    }

    /// Moves the slot of this key, and what it holds, from the node that has it to another one.
    fn move_slot_of(&self, key: &str) {
        let exists = |node: &&Redis| redis::cmd("EXISTS").arg(key).exec(&mut node.connection()).is_ok();
        let (from, to) =
            (self.nodes.iter().find(exists).unwrap(), self.nodes.iter().find(|node| !exists(node)).unwrap());
        let slot: u32 = redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut from.connection()).unwrap();
        let slot = slot.to_string();
        let id = |node: &Redis| redis::cmd("CLUSTER").arg("MYID").query::<String>(&mut node.connection()).unwrap();
        to.order(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        from.order(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        let held: Vec<String> =
            redis::cmd("CLUSTER").arg(&["GETKEYSINSLOT", &slot, "1000"]).query(&mut from.connection()).unwrap();
        for key in held {
            from.order(&["MIGRATE", "127.0.0.1", &to.port.to_string(), &key, "0", "10000"]);
        }
        for node in [to, from] {
            node.order(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
        }
        // The third one hears of it from them; before, it would send askers on to the former one.
        for node in self.nodes.iter().filter(|node| !std::ptr::eq(*node, to)) {
            wait_until("all nodes know where the slot is", || {
                let said = redis::cmd("EXISTS").arg(key).exec(&mut node.connection()).unwrap_err().to_string();
                said.contains(&format!(":{}", to.port))
            });
        }
    }
}

#[test]
fn a_cluster_is_used_by_its_slots() {
    let cluster = Cluster::start();
    let servers = cluster.url();
    for stream in ["redis", "redis-queue"] {
        let arguments = arguments(stream, &servers).replace("--task-count 8", "--task-count 60");
        assert_runs(None, None, &arguments);
        assert_runs(None, None, &format!("{arguments} --ps-lifetime run"));
    }
    for node in &cluster.nodes {
        assert!(node.calls("set") > 5, "objects are at all nodes");
        assert_eq!(node.keys(), [""; 0]);
    }
}

#[test]
fn what_moves_within_a_cluster_is_found_where_it_went() {
    let cluster = Cluster::start();
    let server = RedisServer::from_url(&format!("redis+cluster://{}", cluster.nodes[0].address()), 0).unwrap();
    let keys = KeySource::random();
    let connector = RedisConnector::open(&server, KeySource::starting_at(keys.start())).unwrap();
    let objects = || (0..20).map(|n| Bytes::from(vec![n; 100])).collect::<Vec<_>>();
    let mut stored = connector.put_batch(objects()).unwrap();
    let moved = |key: &Key| cluster.move_slot_of(&key.id.to_string());
    moved(&stored[0]);
    assert_eq!(connector.get(&stored[0]).unwrap().unwrap(), [0; 100][..]);
    moved(&stored[1]);
    assert_eq!(connector.take(&stored[1]).unwrap().unwrap(), [1; 100][..]);
    cluster.move_slot_of(&keys.nth(27).to_string());
    stored.extend(connector.put_batch(objects()).unwrap());
    assert_eq!(stored[27].id, keys.nth(27));
    assert_eq!(connector.get(&stored[27]).unwrap().unwrap(), [7; 100][..]);
    moved(&stored[30]);
    assert!(connector.evict_batch(&stored).unwrap() > 0);
    assert!(cluster.nodes.iter().all(|node| node.keys().is_empty()));

    let broker = BrokerChoice::RedisQueue { server, format: MessageFormat::Psbench }.open().unwrap();
    let mut subscriber = broker.subscribe("topic").unwrap();
    let mut publisher = broker.config().publisher("topic").unwrap();
    let sent: Vec<Message> =
        (0..3).map(|n| Message { head: Bytes::from(vec![n]), payload: Bytes::from_static(b"payload") }).collect();
    let mut received = Vec::new();
    for (n, message) in sent.iter().enumerate() {
        publisher.publish(std::slice::from_ref(message)).unwrap();
        while received.len() <= n {
            subscriber.receive(&mut received, HANGS).unwrap();
        }
        // While it is waited at the list.
        cluster.move_slot_of("topic");
    }
    assert_eq!(received, sent);
}
