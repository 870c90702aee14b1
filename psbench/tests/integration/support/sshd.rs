//! Private SSH servers.

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::strays::end_strays;
use super::{HANGS, free_port, text};

/// Lets the user who runs the tests in, with a key of its own. Runs until it is dropped, and no session outlives it.
pub(crate) struct Sshd {
    process: Child,
    directory: TempDir,
    pub(crate) port: u16,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        // A port that is free now may be another test's in a moment.
        (0..20).find_map(|_| Self::try_start_on(free_port())).expect("found no port for sshd")
    }

    /// What `ssh` needs before the host, which is `127.0.0.1`: neither the user's configuration nor their keys or known hosts.
    pub(crate) fn options(&self) -> Vec<String> {
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        let known_hosts = format!("UserKnownHostsFile={}", file("known_hosts"));
        let mut options = ["-F", "none", "-p", &self.port.to_string(), "-i", &file("key")].map(str::to_owned).to_vec();
        let settings =
            ["IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=no", "LogLevel=ERROR", &known_hosts];
        options.extend(settings.into_iter().flat_map(|setting| ["-o".into(), setting.to_owned()]));
        options
    }

    /// `None` where another process has the port.
    fn try_start_on(port: u16) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        make_key(&path.join("host_key"));
        make_key(&path.join("key"));
        std::fs::write(path.join("sshd_config"), configuration(path, port)).unwrap();
        // Root's server wants this empty directory; the system's own makes it, too.
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let log = path.join("sshd.log");
        // It starts itself again for each connection, and so wants to know where it is.
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(path.join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("run ./test.sh once: it gets sshd");
        let mut sshd = Self { process, directory, port };
        let until = Instant::now() + HANGS;
        while sshd.process.try_wait().unwrap().is_none() {
            // It listens before it says so, and then the port is its own.
            if std::fs::read_to_string(&log).unwrap().contains("Server listening") && sshd.greets() {
                return Some(sshd);
            }
            assert!(Instant::now() < until, "sshd did not come up on port {port}");
            thread::sleep(Duration::from_millis(10));
        }
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.contains("Address already in use"), "sshd ended:\n{said}");
        None
    }

    fn greets(&self) -> bool {
        let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut greeting = [0; 4];
        connection.read_exact(&mut greeting).is_ok() && greeting == *b"SSH-"
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        end_strays(self.directory.path());
    }
}

fn make_key(path: &Path) {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "psbench", "-f"])
        .arg(path)
        .output()
        .expect("run ./test.sh once: it gets ssh-keygen");
    assert!(output.status.success(), "{}", text(&output));
}

fn configuration(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    // `StrictModes no`: the key lies below /tmp, where everybody may write. `SetEnv` marks what sessions start, to end it.
    format!(
        "ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/key.pub
SetEnv PSBENCH_TEST_SSHD={directory}
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
"
    )
}
