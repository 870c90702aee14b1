//! The data servers of the reference implementation, set up as it does it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::scene::{Process, Scene};

/// Which side a gateway serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

/// HAProxy: large buffers, no splicing, idle limits of 50 s.
pub(crate) fn haproxy(scene: &Scene, directory: &Path, target: &str) -> (Process, String) {
    let port = free_port();
    let configuration = directory.join(format!("haproxy-{}-{port}.cfg", scene.name()));
    let text = format!(
        "global\n tune.bufsize 100000\n tune.maxrewrite 32768\n\
         defaults\n mode tcp\n timeout connect 5000\n timeout client 50000\n timeout server 50000\n\
         frontend f\n bind 127.0.0.1:{port}\n default_backend b\n\
         backend b\n server s {target}\n"
    );
    fs::write(&configuration, text).unwrap();
    let mut command = scene.command("haproxy");
    command.arg("-db").arg("-f").arg(&configuration).stdout(Stdio::null());
    (Process::start(command), ready(scene, port))
}

/// stunnel: a key shared ahead, TLS 1.2, and the one cipher suite that its `eNULL` comes to, which does not encrypt.
pub(crate) fn stunnel(scene: &Scene, directory: &Path, side: Side, target: &str) -> (Process, String) {
    let port = free_port();
    let file = |suffix| directory.join(format!("stunnel-{}-{port}.{suffix}", scene.name()));
    let (configuration, key) = (file("conf"), file("key"));
    fs::write(&key, "client1:0123456789abcdef0123456789abcdef\n").unwrap();
    let client = if side == Side::Consumer { "yes" } else { "no" };
    let text = format!(
        "fips = no\nPSKsecrets = {key}\nsecurityLevel = 0\ndebug = 7\nforeground = yes\nsslVersionMax = TLSv1.2\npid = {pid}\n\
         [s]\nclient = {client}\naccept = 127.0.0.1:{port}\nconnect = {target}\nciphers = eNULL\n",
        key = key.display(),
        pid = file("pid").display(),
    );
    fs::write(&configuration, text).unwrap();
    let mut command = scene.command("stunnel");
    command.arg(&configuration).stdout(Stdio::null()).stderr(Stdio::null());
    (Process::start(command), ready(scene, port))
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until something listens there.
fn ready(scene: &Scene, port: u16) -> String {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let until = Instant::now() + Duration::from_secs(10);
    // From within another namespace there is nothing to connect to: a listener is known by the table of sockets.
    while !listens(scene, port) {
        assert!(Instant::now() < until, "nothing listens at {address}");
        sleep(Duration::from_millis(10));
    }
    address.to_string()
}

fn listens(scene: &Scene, port: u16) -> bool {
    let output = scene.command("cat").arg("/proc/self/net/tcp").output().unwrap();
    let local = format!("0100007F:{port:04X} 00000000:0000 0A");
    String::from_utf8_lossy(&output.stdout).contains(&local)
}
