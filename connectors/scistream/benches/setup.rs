//! What a path costs: both sides of it, over fresh TLS channels, until its listeners accept; its release; and the memory of a control
//! server that does nothing.
//!
//! `cargo bench -p scistream --bench setup`. The reference: 25 ms with HAProxy until it answers and 55 ms until its listeners accept,
//! 40 ms with stunnel, release 5 ms, 77 MB.

#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell its errors")]

use std::env::{args, current_exe};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scistream::auth::Anonymous;
use scistream::client::{ClientOptions, ConnectRequest, Wishes, connect_path, disconnect};
use scistream::dataserver::{DataServerSettings, DataServerType, Target};
use scistream::tls::{ClientTls, NewCertificate, ServerTls};
use scistream::{ControlConfig, ControlServer, DataPlane, UserClient};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 100;
/// As many as the reference's user client asks for.
const PORTS: u16 = 5;
const TYPES: [DataServerType; 4] =
    [DataServerType::Copy, DataServerType::Splice, DataServerType::Tls, DataServerType::Quic];

fn main() {
    let arguments: Vec<_> = args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match &arguments[1..] {
        [role, directory, ip] if role == "s2cs" => runtime.block_on(serve(Path::new(directory), ip)),
        _ => runtime.block_on(measure()),
    }
}

/// A control server, as a process of its own.
async fn serve(directory: &Path, ip: &str) {
    let plane = Arc::new(DataPlane::new(None).unwrap());
    let mut config = ControlConfig::new(DataServerSettings { plane, directory: directory.join(ip) });
    config.listener_ip = ip.parse().unwrap();
    config.types = TYPES.into();
    let tls = ServerTls::load(&directory.join("crt"), &directory.join("key"), None).unwrap().acceptor();
    let server = ControlServer::new(config, Arc::new(Anonymous)).unwrap();
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    std::thread::spawn(move || {
        // Ends with whoever started it.
        let _ = std::io::stdin().read(&mut [0]);
        end.cancel();
    });
    server.serve(listener, Some(tls), shutdown).await.unwrap();
}

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(directory: &Path, ip: &str) -> Self {
        let mut process = Command::new(current_exe().unwrap())
            .args(["s2cs".as_ref(), directory.as_os_str(), ip.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().into() }
    }

    /// Resident, in MB.
    fn memory(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

async fn measure() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("crt"), directory.path().join("key"));
    let names = vec!["127.0.0.1".into(), "127.0.0.2".into()];
    NewCertificate { names, valid: Duration::from_secs(86_400) }.write(&certificate, &key, false).unwrap();
    let (producer, consumer) =
        (Server::start(directory.path(), "127.0.0.1"), Server::start(directory.path(), "127.0.0.2"));
    println!("idle: {:.1} MB", producer.memory());

    let tls = ClientTls::pinned(&certificate, None).unwrap().config();
    let options = ClientOptions { tls: Some(tls), ..ClientOptions::default() };
    let connect = async || {
        tokio::try_join!(
            UserClient::connect(&producer.address, &options),
            UserClient::connect(&consumer.address, &options),
        )
        .unwrap()
    };
    let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target: Target = application.local_addr().unwrap().to_string().parse().unwrap();
    println!("{ROUNDS} paths of {PORTS} ports each, ms: mean / median");
    for kind in TYPES {
        let (mut setups, mut releases, mut fresh_releases) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..2 * ROUNDS {
            let wishes = Wishes { kind: Some(kind), ..Wishes::default() };
            let targets = vec![target.clone()];
            let request = ConnectRequest { uid: Uuid::new_v4(), targets, num_conn: PORTS, rate: 0, wishes };
            let begun = Instant::now();
            let (at_producer, at_consumer) = connect().await;
            let path = connect_path(&at_producer, &at_consumer, &request).await.unwrap();
            for listener in &path.listeners {
                TcpStream::connect((listener.host(), listener.port())).await.unwrap();
            }
            setups.push(begun.elapsed());
            let begun = Instant::now();
            if round % 2 == 0 {
                disconnect(&at_producer, &at_consumer, path.uid).await.unwrap();
                releases.push(begun.elapsed());
            } else {
                let (at_producer, at_consumer) = connect().await;
                disconnect(&at_producer, &at_consumer, path.uid).await.unwrap();
                fresh_releases.push(begun.elapsed());
            }
        }
        print!("{kind:8} setup {}", figures(&mut setups));
        print!("   release {}   over fresh channels {}", figures(&mut releases), figures(&mut fresh_releases));
        println!("   then {:.1} MB", producer.memory());
        std::io::stdout().flush().unwrap();
    }
}

fn figures(times: &mut [Duration]) -> String {
    times.sort();
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!("{:.2} / {:.2}", ms(mean), ms(times[times.len() / 2]))
}
