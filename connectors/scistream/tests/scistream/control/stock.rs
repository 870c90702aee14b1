//! A Python client that does as the reference's, and our control server.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};

use scistream::auth::Anonymous;
use scistream::dataserver::Target;
use scistream::tls::ServerTls;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::tls::certificate_of_openssl;
use crate::support::{ByName, Gateway, PATIENCE, application, are_free, asks, heard, ports};

/// The interpreter: `$PSBENCH_TEST_PYTHON`, or that of the virtual environment that `test.sh` makes.
fn python() -> PathBuf {
    let python = match env::var_os("PSBENCH_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/python/bin/python"),
    };
    assert!(python.exists(), "no {}: run ./test.sh once: it makes target/python", python.display());
    python
}

/// What gRPC's compiler makes of our protocol.
fn generated() -> &'static Path {
    static GENERATED: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let directory = TempDir::new().unwrap();
        let out = |kind: &str| format!("--{kind}_out={}", directory.path().display());
        let made = std::process::Command::new(python())
            .args(["-m", "grpc_tools.protoc", "-I", concat!(env!("CARGO_MANIFEST_DIR"), "/proto")])
            .args([&out("python"), &out("grpc_python"), "scistream.proto"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        directory
    };
    GENERATED.get_or_init(make).path()
}

fn stock(arguments: &[&str]) -> Child {
    Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/stock_client.py"))
        .arg(generated())
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What it prints, or the error that it ends with.
async fn run(arguments: &[&str]) -> Result<String, String> {
    let output = timeout(PATIENCE, stock(arguments).wait_with_output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The session's name, from the line that workflows read it from, and the listeners from the line below.
fn read(printed: &str) -> (String, Vec<Target>) {
    let lines: Vec<_> = printed.lines().collect();
    let [first, second, listeners] = lines[..] else { panic!("{printed}") };
    assert_eq!(first, "uid; s2cs; access_token; role");
    let listeners = listeners.strip_prefix("Listeners: [").unwrap().strip_suffix(']').unwrap();
    let listeners = listeners.split(", ").map(|listener| listener.trim_matches('\'').parse().unwrap()).collect();
    (second.split(' ').next().unwrap().into(), listeners)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_client_makes_a_path_and_releases_it_over_a_certificate_of_openssl() {
    let (directory, certificate, key) = certificate_of_openssl();
    let tls = ServerTls::load(&certificate, &key, None).unwrap().acceptor();
    let (producer, consumer) = (
        Gateway::of(|_| {}, Arc::new(Anonymous), Some(tls.clone())).await,
        Gateway::of(|_| {}, Arc::new(Anonymous), Some(tls)).await,
    );
    let application = application("first").await;
    let port = application.port().to_string();
    let server_cert = certificate.to_str().unwrap();
    let at = |gateway: &Gateway| format!("localhost:{}", gateway.address.port());
    let (at_producer, at_consumer) = (at(&producer), at(&consumer));

    let inbound = ["inbound-request", "--s2cs", &at_producer, "--server_cert", server_cert, "--num_conn", "3"];
    let printed =
        run(&[&inbound[..], &["--remote_ip", "127.0.0.1", "--receiver_ports", &port]].concat()).await.unwrap();
    assert!(printed.lines().nth(1).unwrap().ends_with(&format!(" {at_producer} INVALID_TOKEN PROD")), "{printed}");
    let (uid, inbound) = read(&printed);
    assert_eq!(inbound.len(), 3);

    let given: Vec<_> = inbound.iter().map(ToString::to_string).collect();
    let outbound = ["outbound-request", "--s2cs", &at_consumer, "--server_cert", server_cert, "--num_conn", "3"];
    let printed = run(&[&outbound[..], &[&uid, &given.join(",")]].concat()).await.unwrap();
    let (_, outbound) = read(&printed);
    for listener in &outbound {
        assert_eq!(heard(listener, " heard").await, "first heard");
    }
    for (gateway, listeners) in [(&at_producer, inbound), (&at_consumer, outbound)] {
        run(&["release", &uid, "--s2cs", gateway, "--server_cert", server_cert]).await.unwrap();
        assert!(are_free(&listeners));
    }
    let error = run(&["release", &uid, "--s2cs", &at_producer, "--server_cert", server_cert]).await.unwrap_err();
    assert!(error.starts_with(&format!("NOT_FOUND: entry not found for uid '{uid}'")), "{error}");
    drop(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_clients_applications_say_hello_by_themselves() {
    let gateway = Gateway::start().await;
    let at = gateway.address.to_string();
    let mut request = stock(&["prod-req", "--s2cs", &at, "--num_conn", "1"]);
    let mut output = BufReader::new(request.stdout.take().unwrap());
    let mut printed = String::new();
    for _ in 0..2 {
        timeout(PATIENCE, output.read_line(&mut printed)).await.unwrap().unwrap();
    }
    // As a workflow does, by awk.
    let uid = printed.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let application = application("first").await.to_string();
    assert_eq!(run(&["hello", &uid, &application, "--s2cs", &at]).await.unwrap(), "Sending Prod listeners...\n");
    timeout(PATIENCE, output.read_to_string(&mut printed)).await.unwrap().unwrap();
    assert!(timeout(PATIENCE, request.wait()).await.unwrap().unwrap().success());
    assert_eq!(heard(&read(&printed).1[0], "!").await, "first!");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_client_is_told_in_grpcs_words_what_is_wrong() {
    let gateway = Gateway::of(|config| config.ports = ports(3), Arc::new(ByName), None).await;
    let at = gateway.address.to_string();
    let inbound = ["inbound-request", "--s2cs", &at];
    let ann = [&inbound[..], &["--token", "ann"]].concat();
    let error = run(&[&ann[..], &["--num_conn", "4"]].concat()).await.unwrap_err();
    // It hears of its request by its hello.
    assert!(error.starts_with("NOT_FOUND: entry not found for uid"), "{error}");
    assert!(error.contains("came to nothing: num_conn: 4 ports asked for, of 3"), "{error}");
    let error = run(&[&inbound[..], &["--token", "nobody"]].concat()).await.unwrap_err();
    assert!(error.contains("PERMISSION_DENIED: nobody may"), "{error}");
    let client = gateway.client_with(|options| options.token = Some("bob".into())).await;
    let others = asks(scistream::Role::Producer, 2);
    client.reserve(&others, scistream::Role::Producer, &[]).await.unwrap();
    let error = run(&["release", &others.uid.to_string(), "--s2cs", &at, "--token", "ann"]).await.unwrap_err();
    assert!(error.contains("PERMISSION_DENIED"), "{error}");
}
