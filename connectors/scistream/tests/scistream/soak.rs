//! Hundreds of sessions, or ten thousand, through two control servers and their clients, leave nothing behind: no port, no task, no descriptor, no
//! process, no file.
//!
//! The types that forward in this process are mixed, those that cost least most often: each type shares most of what could leak with the
//! others, and `quic` and `tls` make keys and handshakes for every session. Those of the programs are fewer, since each is a process or
//! three.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scistream::auth::Anonymous;
use scistream::client::{ClientOptions, ConnectRequest, SessionRequest, Wishes, connect_path, disconnect};
use scistream::dataserver::{DataServerSettings, DataServerType, Target};
use scistream::{ControlConfig, ControlServer, DataPlane, Role, UserClient};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::own_address;

/// Given to anything that is to happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Sessions at a time, of each kind of user.
const USERS: usize = 8;
/// Those of a gateway that carry data.
const THREADS: usize = 2;
/// Both ends of eight pipes for each of two gateways' threads.
const KEPT_PIPES: usize = 2 * 8 * 2 * THREADS;

use DataServerType::{Copy, Haproxy, Nginx, Quic, Sockmap, Splice, Stunnel, Tls};

const IN_PROCESS: [DataServerType; 20] = [
    Copy, Splice, Copy, Tls, Copy, Splice, Copy, Splice, Copy, Quic, Copy, Splice, Copy, Tls, Copy, Splice, Copy,
    Splice, Copy, Sockmap,
];
const PROGRAMS: [DataServerType; 3] = [Haproxy, Stunnel, Nginx];

/// A gateway's control server.
struct Gateway {
    server: ControlServer,
    plane: Arc<DataPlane>,
    address: String,
    directory: TempDir,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Gateway {
    /// At an address of its own, so that nothing else takes its ports.
    async fn start() -> Self {
        let ip = own_address();
        let directory = TempDir::new().unwrap();
        let plane = Arc::new(DataPlane::new(NonZero::new(THREADS)).unwrap());
        let settings = DataServerSettings { plane: Arc::clone(&plane), directory: directory.path().join("s2cs") };
        let config = ControlConfig {
            listener_ip: ip,
            ports: "20000-20199".parse().unwrap(),
            types: DataServerType::ALL.to_vec(),
            ..ControlConfig::new(settings)
        };
        let server = ControlServer::new(config, Arc::new(Anonymous)).unwrap();
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let serve = {
            let (server, shutdown) = (server.clone(), shutdown.clone());
            async move { server.serve(listener, None, shutdown).await.unwrap() }
        };
        Self { server, plane, address, directory, shutdown, serving: tokio::spawn(serve) }
    }

    async fn client(&self) -> UserClient {
        let options = ClientOptions { time_limit: SOON, ..ClientOptions::default() };
        UserClient::connect(&self.address, &options).await.unwrap()
    }
}

/// What is not to grow.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    sessions: usize,
    free_ports: usize,
    /// Less the pipes.
    descriptors: usize,
    /// A thread of `splice` keeps some for later.
    pipes: usize,
    tasks: usize,
    children: usize,
    files: Vec<PathBuf>,
}

impl Holdings {
    fn of(gateways: [&Gateway; 2]) -> Self {
        let sum = |count: &dyn Fn(&Gateway) -> usize| gateways.iter().map(|gateway| count(gateway)).sum::<usize>();
        let control = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let mut files = Vec::new();
        for gateway in gateways {
            list(gateway.directory.path(), &mut files);
        }
        let (descriptors, pipes) = descriptors();
        Self {
            sessions: sum(&|gateway| gateway.server.sessions().len()),
            free_ports: sum(&|gateway| gateway.server.ports().free),
            descriptors,
            pipes,
            tasks: control + sum(&|gateway| gateway.plane.tasks()),
            children: children(),
            files,
        }
    }
}

/// Those that are no pipes, and those that are.
fn descriptors() -> (usize, usize) {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| fs::read_link(entry.unwrap().path()));
    // That of the directory itself may be gone again.
    let is_pipe =
        |link: &std::io::Result<PathBuf>| link.as_ref().is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"));
    let (pipes, others): (Vec<_>, Vec<_>) = open.partition(is_pipe);
    (others.len(), pipes.len())
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        }
        files.push(path);
    }
    files.sort();
}

/// Zombies too.
fn children() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    threads.map(|thread| of(thread).split_whitespace().count()).sum()
}

/// Answers everybody with what they say.
async fn echo(listener: TcpListener) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut reader, mut writer) = socket.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
    }
}

/// One path, from its request to its release, as the `n`th user would have it.
async fn path(n: usize, kind: DataServerType, [producer, consumer]: [&UserClient; 2], target: &Target) {
    let wishes = Wishes { kind: Some(kind), ..Wishes::default() };
    if n % 10 == 8 {
        // Both requests are given up before anybody says hello.
        let uid = Uuid::new_v4();
        for (client, role) in [(producer, Role::Producer), (consumer, Role::Consumer)] {
            let request = SessionRequest { uid, role, num_conn: 2, rate: 0, wishes: wishes.clone() };
            // Nobody ever says it.
            let _ = timeout(Duration::from_millis(5), client.req(&request)).await;
        }
        return;
    }
    let request =
        ConnectRequest { uid: Uuid::new_v4(), targets: vec![target.clone()], num_conn: 2, rate: 10_000, wishes };
    let path = connect_path(producer, consumer, &request).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    let mut open = None;
    if n % 10 < 8 {
        let entrance = &path.listeners[n % 2];
        let mut socket = TcpStream::connect((entrance.host(), entrance.port())).await.unwrap();
        let said = [n as u8; 1000];
        socket.write_all(&said).await.unwrap();
        let mut heard = [0; 1000];
        let read = timeout(SOON, socket.read_exact(&mut heard)).await;
        read.unwrap_or_else(|_| panic!("{kind} does not answer")).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(heard == said, "{kind}: another session's bytes");
        open = (n % 10 < 4).then_some(socket);
    }
    disconnect(producer, consumer, path.uid).await.unwrap();
    if let Some(mut socket) = open {
        // Whoever is still connected learns of the end.
        let ended = timeout(SOON, socket.read(&mut [0])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{kind}: a connection outlives its session");
    }
}

/// So many paths of these types, by several users at a time.
async fn paths(count: usize, kinds: &'static [DataServerType], gateways: [&Gateway; 2], target: &Target) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut users = JoinSet::new();
    for _ in 0..USERS {
        let (next, target) = (Arc::clone(&next), target.clone());
        let clients = [gateways[0].client().await, gateways[1].client().await];
        users.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    break;
                }
                let kind = kinds[n % kinds.len()];
                path(n / kinds.len(), kind, [&clients[0], &clients[1]], &target).await;
            }
        });
    }
    while let Some(user) = users.join_next().await {
        user.unwrap();
    }
}

#[test]
fn hundreds_of_sessions_leave_nothing_behind() {
    leave_nothing_behind(200, PROGRAMS.len());
}

mod slow {
    #[test]
    fn thousands_of_sessions_leave_nothing_behind() {
        super::leave_nothing_behind(5000, 60);
    }
}

/// So many paths of the types that forward in this process, and of the programs. Each is two sessions: at the producer's control server
/// and at the consumer's.
fn leave_nothing_behind(in_process: usize, programs: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let gateways = [Gateway::start().await, Gateway::start().await];
        let both = [&gateways[0], &gateways[1]];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target: Target = listener.local_addr().unwrap().to_string().parse().unwrap();
        let echo = tokio::spawn(echo(listener));
        // What is made once for all sessions is there from now on.
        paths(4 * IN_PROCESS.len(), &IN_PROCESS, both, &target).await;
        paths(PROGRAMS.len(), &PROGRAMS, both, &target).await;
        let settled = async {
            let mut last = Holdings::of(both);
            loop {
                sleep(Duration::from_millis(300)).await;
                let now = Holdings::of(both);
                if now == last && now.sessions == 0 {
                    break now;
                }
                last = now;
            }
        };
        let before = timeout(SOON, settled).await.unwrap();

        tokio::join!(paths(in_process, &IN_PROCESS, both, &target), paths(programs, &PROGRAMS, both, &target));

        let until = Instant::now() + SOON;
        loop {
            let now = Holdings::of(both);
            let pipes = now.pipes > before.pipes + KEPT_PIPES;
            let grown = now.descriptors > before.descriptors || pipes || now.tasks > before.tasks;
            let same = |holdings: &Holdings| (holdings.sessions, holdings.free_ports, holdings.children);
            if !grown && same(&now) == same(&before) && now.files == before.files {
                break;
            }
            assert!(Instant::now() < until, "something is left: {now:?}; before: {before:?}");
            sleep(Duration::from_millis(20)).await;
        }
        echo.abort();
        for gateway in gateways {
            gateway.shutdown.cancel();
            timeout(SOON, gateway.serving).await.unwrap().unwrap();
        }
    });
}
