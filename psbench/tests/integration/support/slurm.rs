//! Private Slurm clusters: two nodes on this host.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::strays::end_strays;
use super::{HANGS, free_port, text};

/// Nodes n1 and n2 with four processors each, whatever the host has: 8 tasks fill it, and a ninth waits. Runs until it is dropped.
pub(crate) struct Slurm {
    daemons: Vec<Child>,
    config: PathBuf,
    directory: TempDir,
}

impl Slurm {
    /// Starts one, and waits until both nodes are idle.
    pub(crate) fn start() -> Self {
        // A port that is free now may be another test's in a moment.
        (0..5).find_map(|_| Self::try_start()).expect("found no ports for Slurm")
    }

    /// What `SLURM_CONF` has to say for `srun` and the others to reach it.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// One of Slurm's commands, at this cluster.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", &self.config).stdin(Stdio::null());
        // A test may itself run in an allocation, of another cluster.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("SLURM_") && name != "SLURM_CONF") {
                command.env_remove(name);
            }
        }
        command
    }

    /// The jobs that are there, as `1 RUNNING`.
    pub(crate) fn jobs(&self) -> Vec<String> {
        self.lines("squeue", &["--noheader", "--format=%i %T"])
    }

    /// `None` where a daemon ends: another process has its port.
    fn try_start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        // munged insists on a socket that every user can reach.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).unwrap();
        let config = directory.path().join("slurm.conf");
        // What has started is stopped even if the rest panics.
        let mut slurm = Self { daemons: Vec::new(), config, directory };
        std::fs::write(&slurm.config, slurm.configuration()).unwrap();
        slurm.start_munge();
        slurm.spawn("slurmctld", &["-D", "-i", "-f"]);
        slurm.spawn("slurmd", &["-D", "-N", "n1", "-f"]);
        slurm.spawn("slurmd", &["-D", "-N", "n2", "-f"]);
        slurm.wait_until_idle().then_some(slurm)
    }

    /// Authenticates the daemons and commands to each other.
    fn start_munge(&mut self) {
        let path = |name: &str| self.directory.path().join(name);
        let key = path("munge.key");
        std::fs::write(&key, [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat()).unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let socket = path("munge.socket");
        let options = [("key-file", "munge.key"), ("pid-file", "munged.pid"), ("log-file", "munged.log")];
        let options = options.into_iter().chain([("seed-file", "munged.seed"), ("socket", "munge.socket")]);
        let options: Vec<String> =
            options.map(|(option, name)| format!("--{option}={}", path(name).display())).collect();
        let mut command = self.daemon("munged");
        command.arg("--foreground").args(options);
        self.daemons.push(command.spawn().expect("run ./test.sh once: it gets Slurm"));
        let until = Instant::now() + HANGS;
        while !socket.exists() {
            assert!(self.all_run() && Instant::now() < until, "munged did not come up:\n{}", self.output("munged"));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts one in the foreground, its last option taking the configuration.
    fn spawn(&mut self, program: &str, options: &[&str]) {
        let mut command = self.daemon(program);
        command.args(options).arg(&self.config);
        self.daemons.push(command.spawn().expect("run ./test.sh once: it gets Slurm"));
    }

    fn daemon(&self, program: &str) -> Command {
        // Where only root looks for programs.
        let installed = Path::new("/usr/sbin").join(program);
        let program_or_path = if installed.exists() { installed } else { program.into() };
        let mut command = self.command(program_or_path.to_str().unwrap());
        let output = File::options().append(true).create(true).open(self.output_path(program)).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        command
    }

    /// `false` where a daemon ends.
    fn wait_until_idle(&mut self) -> bool {
        let until = Instant::now() + HANGS;
        while self.all_run() {
            if self.lines("sinfo", &["--noheader", "--Node", "--format=%N %t"]) == ["n1 idle", "n2 idle"] {
                return true;
            }
            let said = ["slurmctld", "slurmd"].map(|program| self.output(program)).concat();
            assert!(Instant::now() < until, "Slurm's nodes did not become idle:\n{said}");
            thread::sleep(Duration::from_millis(50));
        }
        let said = ["slurmctld", "slurmd"].map(|program| self.output(program)).concat();
        assert!(said.contains("in use"), "a daemon of Slurm ended:\n{said}");
        false
    }

    fn all_run(&mut self) -> bool {
        self.daemons.iter_mut().all(|daemon| daemon.try_wait().unwrap().is_none())
    }

    /// What a command prints; nothing, while the controller does not answer.
    fn lines(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let output = self.command(program).args(arguments).output().expect("run ./test.sh once: it gets Slurm");
        if !output.status.success() {
            return Vec::new();
        }
        text(&output).lines().map(str::to_owned).collect()
    }

    fn output_path(&self, program: &str) -> PathBuf {
        self.directory.path().join(format!("{program}.out"))
    }

    /// What the daemon said.
    fn output(&self, program: &str) -> String {
        std::fs::read_to_string(self.output_path(program)).unwrap_or_default()
    }

    fn configuration(&self) -> String {
        let directory = self.directory.path().display();
        // As the daemons see it, up to the first dot.
        let uname = rustix::system::uname();
        let host = uname.nodename().to_str().unwrap().split('.').next().unwrap_or_default();
        let user = rustix::process::geteuid().as_raw();
        let [controller, first, second] = [free_port(), free_port(), free_port()];
        // `config_overrides`: the processors are the ones written here. `linuxproc`, `task/none`: no cgroups, which need rights that
        // containers lack.
        format!(
            "ClusterName=psbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
MailProg=/bin/true
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=4
PartitionName=psbench Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"
        )
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // Without the daemons nothing new starts.
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Tasks, and the slurmstepd of each, are nobody's children.
        end_strays(self.directory.path());
    }
}
