//! The data servers that are programs: what becomes of them, and whether stunnel gets on with one that is configured as the reference
//! implementation's.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use scistream::Role;
use scistream::dataserver::{
    DataServer, External, ForwardOptions, ForwardPlan, Forwarding, Lane, Meter, ReservedPort, Secret, Target,
    Transport, end_leftovers,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Given to anything that is to happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn within(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < until, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A session's data server of one lane, and where it accepts.
fn start(
    runtime: &Runtime,
    server: &External,
    role: Role,
    target: Target,
    secret: Secret,
) -> (Box<dyn Forwarding>, SocketAddr) {
    let port = ReservedPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = port.address();
    let plan = ForwardPlan {
        uid: Uuid::new_v4(),
        role,
        lanes: vec![Lane { port, target }],
        transport: Transport::Tcp,
        secret,
        options: ForwardOptions::default(),
        rate: None,
        meter: Arc::new(Meter::default()),
    };
    (runtime.block_on(server.start(plan)).unwrap(), address)
}

fn host() -> (TcpListener, Target) {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = host.local_addr().unwrap().to_string().parse().unwrap();
    (host, target)
}

/// Whether what a client says reaches the target and is answered; an error means that it was told otherwise.
fn answers(entrance: SocketAddr, host: &TcpListener) -> io::Result<()> {
    let mut client = TcpStream::connect(entrance)?;
    client.set_read_timeout(Some(SOON))?;
    client.write_all(b"ping")?;
    // The target may never be reached.
    host.set_nonblocking(true)?;
    client.set_nonblocking(true)?;
    let mut target = loop {
        match host.accept() {
            Ok((target, _)) => break target,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        match client.peek(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(1)),
            Err(error) => return Err(error),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    client.set_nonblocking(false)?;
    target.set_nonblocking(false)?;
    target.set_read_timeout(Some(SOON))?;
    let mut heard = [0; 4];
    target.read_exact(&mut heard)?;
    assert_eq!(&heard, b"ping");
    target.write_all(b"pong")?;
    client.read_exact(&mut heard)?;
    assert_eq!(&heard, b"pong");
    Ok(())
}

/// Processes that work below a directory, those that others were started by first.
fn processes_in(directory: &Path) -> Vec<Pid> {
    let mut found: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory) && cwd != directory)
        })
        .collect();
    found.sort_unstable();
    found.into_iter().filter_map(Pid::from_raw).collect()
}

fn all(directory: &Path) -> [External; 3] {
    [External::haproxy(directory.into()), External::stunnel(directory.into()), External::nginx(directory.into())]
}

#[test]
fn a_program_that_dies_is_started_again() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    for server in all(directory.path()) {
        let kind = server.kind();
        let (host, target) = host();
        let secret = Secret::random([7; 32]);
        let (producer, entrance) = start(&runtime, &server, Role::Producer, target, secret.clone());
        let further = entrance.to_string().parse().unwrap();
        let (consumer, entrance) = start(&runtime, &server, Role::Consumer, further, secret);
        answers(entrance, &host).unwrap();
        let before = processes_in(directory.path());
        for pid in &before {
            let _ = kill_process(*pid, Signal::KILL);
        }
        // Those that are handed their listeners refuse nobody meanwhile, but what they had accepted is lost.
        within(&format!("{kind} is started again"), || {
            let answered = answers(entrance, &host);
            let refused = answered.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            assert!(!refused || kind.as_str() == "stunnel", "{kind} refuses while it is started again");
            answered.is_ok()
        });
        assert!(processes_in(directory.path()).iter().all(|pid| !before.contains(pid)));
        assert_eq!(consumer.problem(), None);
        runtime.block_on(consumer.release());
        runtime.block_on(producer.release());
        assert_eq!(processes_in(directory.path()), []);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{kind} leaves a file");
    }
}

#[test]
fn a_program_that_keeps_dying_is_given_up_and_its_listeners_refuse() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let server = External::haproxy(directory.path().into());
    let (_host, target) = host();
    let (forwarding, entrance) = start(&runtime, &server, Role::Producer, target, Secret::random([7; 32]));
    within("a problem is told", || {
        for pid in processes_in(directory.path()) {
            let _ = kill_process(pid, Signal::KILL);
        }
        forwarding.problem().is_some()
    });
    let problem = forwarding.problem().unwrap();
    assert!(problem.contains("haproxy ended 6 times") && problem.contains("SIGKILL"), "{problem}");
    within("its listener refuses", || {
        TcpStream::connect(entrance).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
    runtime.block_on(forwarding.release());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_program_that_does_not_start_says_why() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let server = External::nginx(directory.path().into());
    let port = ReservedPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let plan = ForwardPlan {
        uid: Uuid::new_v4(),
        role: Role::Producer,
        lanes: vec![Lane { port, target: "no-such-host.invalid:1".parse().unwrap() }],
        transport: Transport::Tcp,
        secret: Secret::random([7; 32]),
        options: ForwardOptions::default(),
        rate: None,
        meter: Arc::new(Meter::default()),
    };
    let Err(error) = runtime.block_on(server.start(plan)) else { panic!("it starts without its target") };
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("host not found in upstream \"no-such-host.invalid\""), "{source}");
    assert_eq!(processes_in(directory.path()), []);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn nobody_else_can_read_what_a_session_keeps() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for server in all(directory.path()) {
        let (_host, target) = host();
        let (forwarding, _) = start(&runtime, &server, Role::Producer, target, Secret::random([7; 32]));
        let session = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        assert_eq!(mode(&session), 0o700);
        let files: Vec<PathBuf> = fs::read_dir(&session).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files.iter().filter(|file| !file.ends_with("nginx.pid")) {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
        runtime.block_on(forwarding.release());
        assert!(!session.exists());
    }
}

/// Where the program of the next test has its files; without it, that is no test.
const LEAVER: &str = "SCISTREAM_TEST_LEAVES_PROGRAMS_IN";

#[test]
fn nothing_is_left_of_a_control_server_that_was_killed() {
    if let Some(directory) = std::env::var_os(LEAVER) {
        // This is the control server.
        let runtime = runtime();
        let directory = PathBuf::from(directory);
        let left: Vec<_> = all(&directory)
            .iter()
            .map(|server| {
                start(&runtime, server, Role::Producer, "127.0.0.1:9".parse().unwrap(), Secret::of(Uuid::nil()))
            })
            .collect();
        println!("listening:{}", left.iter().map(|(_, address)| format!(" {address}")).collect::<String>());
        sleep(SOON);
        panic!("nobody killed it");
    }
    let directory = TempDir::new().unwrap();
    assert_eq!(end_leftovers(&directory.path().join("none yet")).unwrap(), 0);
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "external::nothing_is_left_of_a_control_server_that_was_killed", "--nocapture"])
        .env(LEAVER, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let listening = lines.find_map(|line| Some(line.unwrap().split_once("listening: ")?.1.to_owned())).unwrap();
    let listeners: Vec<SocketAddr> = listening.split(' ').map(|address| address.parse().unwrap()).collect();
    server.kill().unwrap();
    server.wait().unwrap();
    // A directory that is somebody else's, and somebody who happens to be in one of ours.
    fs::create_dir(directory.path().join("other")).unwrap();
    let session = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let session = session.into_iter().find(|path| !path.ends_with("other")).unwrap();
    let mut guest = Command::new("sleep").arg("60").current_dir(&session).spawn().unwrap();

    let own = |pids: Vec<Pid>| {
        pids.into_iter().filter(|pid| pid.as_raw_nonzero().get().cast_unsigned() != guest.id()).count()
    };
    within("the programs end with their control server", || own(processes_in(directory.path())) == 0);
    // One that missed it.
    let stubborn = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let stubborn = stubborn
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nginx-")))
        .unwrap();
    let configuration = stubborn.join("stubborn.conf");
    fs::write(&configuration, "daemon off; pid stubborn.pid; error_log stderr; events {}").unwrap();
    let mut stubborn = Command::new("nginx").arg("-c").arg(&configuration).current_dir(&stubborn).spawn().unwrap();
    within("its workers are there", || own(processes_in(directory.path())) >= 2);
    assert!(end_leftovers(directory.path()).unwrap() >= 2);
    stubborn.wait().unwrap();
    for listener in &listeners {
        TcpListener::bind(listener).expect("its port is free");
    }
    assert!(guest.try_wait().unwrap().is_none(), "an innocent process was ended");
    guest.kill().unwrap();
    guest.wait().unwrap();
    assert_eq!(processes_in(directory.path()), []);
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["other"]);
}

/// A stunnel that is no data server of ours. It ends with this.
struct Stunnel {
    child: Child,
    _directory: TempDir,
    log: PathBuf,
}

impl Stunnel {
    /// With the lines that the reference implementation writes: any cipher of PSK, the session's UUID for a key.
    fn start(uid: Uuid, client: bool, accept: SocketAddr, connect: SocketAddr, further: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let log = directory.path().join("log");
        let (key, configuration) = (directory.path().join("psk"), directory.path().join("stunnel.conf"));
        fs::write(&key, format!("client1:{}\n", uid.simple())).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "foreground = yes\npid =\ndebug = info\n[s]\nclient = {}\naccept = {accept}\nconnect = {connect}\n\
             ciphers = PSK\nPSKsecrets = {}\nPSKidentity = client1\n{further}\n",
            if client { "yes" } else { "no" },
            key.display()
        );
        fs::write(&configuration, text).unwrap();
        let output = fs::File::create(&log).unwrap();
        let child = Command::new("stunnel4").arg(&configuration).stderr(output).spawn().unwrap();
        let started = Self { child, _directory: directory, log };
        within("stunnel accepts", || started.log().contains("Accepting new connections"));
        started
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Stunnel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn stunnel_gets_on_with_the_references_and_always_encrypts() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let server = External::stunnel(directory.path().into());
    let uid = Uuid::new_v4();
    for further in ["", "sslVersionMax = TLSv1.2", "sslVersionMax = TLSv1.2\nsecurityLevel = 0"] {
        let (host, target) = host();
        let (producer, gateway) = start(&runtime, &server, Role::Producer, target, Secret::of(uid));
        let theirs = Stunnel::start(uid, true, free(), gateway, further);
        let entrance = theirs.log();
        let entrance = entrance.lines().find_map(|line| line.split_once("bound to ")?.1.parse().ok()).unwrap();
        answers(entrance, &host).unwrap();
        encrypts(&theirs);
        drop(theirs);
        runtime.block_on(producer.release());

        let gateway = free();
        let theirs = Stunnel::start(uid, false, gateway, host.local_addr().unwrap(), further);
        let (consumer, entrance) =
            start(&runtime, &server, Role::Consumer, gateway.to_string().parse().unwrap(), Secret::of(uid));
        answers(entrance, &host).unwrap();
        encrypts(&theirs);
        runtime.block_on(consumer.release());
    }
}

/// `TLSv1.3 ciphersuite: TLS_AES_128_GCM_SHA256 (128-bit encryption)`.
fn encrypts(stunnel: &Stunnel) {
    let log = stunnel.log();
    let suite = log.lines().find(|line| line.contains("ciphersuite: ")).unwrap();
    assert!(suite.contains("28-bit encryption") || suite.contains("256-bit encryption"), "{suite}");
    assert!(!suite.contains("NULL"), "{suite}");
}

#[test]
fn stunnel_lets_nobody_in_without_the_key_nor_unencrypted() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let server = External::stunnel(directory.path().into());
    let uid = Uuid::new_v4();
    let (host, target) = host();
    let (producer, gateway) = start(&runtime, &server, Role::Producer, target, Secret::of(uid));
    let key = uid.simple().to_string();
    let other = Uuid::new_v4().simple().to_string();
    let psk = |key: &str| vec!["-psk_identity".to_owned(), "client1".to_owned(), "-psk".to_owned(), key.to_owned()];
    let any = "ALL:eNULL:aNULL:PSK:@SECLEVEL=0";
    let nulls = "eNULL:@SECLEVEL=0";
    let refused: [(&str, &str, Vec<String>); 6] = [
        ("-tls1_2", any, Vec::new()),
        ("-tls1_3", any, Vec::new()),
        ("-tls1_2", any, psk(&other)),
        ("-tls1_3", any, psk(&other)),
        ("-tls1_2", nulls, psk(&key)),
        ("-tls1_1", any, psk(&key)),
    ];
    let connect = |version: &str, ciphers: &str, psk: &[String]| {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &gateway.to_string(), version, "-cipher", ciphers, "-quiet"])
            .args(psk)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It may be gone already.
        let _ = client.stdin.take().unwrap().write_all(b"hello\n");
        client
    };
    for (version, ciphers, psk) in refused {
        let output = connect(version, ciphers, &psk).wait_with_output().unwrap();
        assert_eq!(output.stdout, b"", "{version} {ciphers} {psk:?}");
        assert!(!output.status.success(), "{version} {ciphers} {psk:?}");
    }
    host.set_nonblocking(true).unwrap();
    assert_eq!(host.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "the target was reached");
    host.set_nonblocking(false).unwrap();
    // The same with the key, so that it is the key that was missing.
    let mut client = connect("-tls1_2", "PSK", &psk(&key));
    let (mut target, _) = host.accept().unwrap();
    let mut heard = [0; 6];
    target.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello\n");
    drop(target);
    client.wait().unwrap();
    runtime.block_on(producer.release());
}
