//! How each launcher starts psbench's workers.
//!
//! What they have in common was found out with each: that the end of a launcher tells nothing of the workers', so these are counted by their
//! connections and end by themselves when theirs ends; and that a rank which ends badly takes all others with it, unless a shell of its own
//! ends well in its place.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use psbench_executors::ask;
use psbench_executors::pilot::launch::{CommandLauncher, LaunchCommand};
use psbench_executors::pilot::{Invitation, TOKEN_VARIABLE};

use crate::plan::{EnginePlan, Launch, LauncherKind};

/// Runs its arguments, and ends well however they do. Neither OpenMPI nor Hydra has an option that has others go on when one is killed.
const ALONE: [&str; 3] = ["sh", "-c", r#""$0" "$@"; exit 0"#];

/// For a launcher to tell its version, from a file system that may be another host's.
const PATIENCE: Duration = Duration::from_secs(30);

/// A launcher that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Launcher {
    launch: Launch,
    /// What it says of its version.
    pub(super) version: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("{program} can't be run ({source}); {instead}")]
pub struct NoLauncher {
    program: String,
    source: std::io::Error,
    instead: &'static str,
}

impl Launcher {
    /// Asks a launcher for its version.
    pub(super) fn find(launch: &Launch) -> Result<Self, NoLauncher> {
        let told = ask(&mut version_question(launch.kind, launch.program.as_ref()), PATIENCE);
        let told = told.map_err(|source| NoLauncher {
            program: launch.program.clone(),
            source,
            instead: remedy(launch.kind),
        })?;
        Ok(Self { launch: launch.clone(), version: version(&told) })
    }

    /// What starts the workers of an executor.
    pub(super) fn launcher(&self, engine: &EnginePlan) -> CommandLauncher {
        let (launcher, program) = (self.clone(), engine.worker_program.clone());
        CommandLauncher::new(move |invitation, workers| launcher.commands(invitation, workers, &program))
    }

    fn commands(&self, invitation: &Invitation, workers: u32, program: &str) -> Vec<LaunchCommand> {
        let worker = [program, "worker", "--connect", &invitation.address];
        match self.launch.kind {
            LauncherKind::Mpi => vec![self.command("mpiexec", &self.mpi(workers), &[&ALONE[..], &worker].concat())],
            LauncherKind::Slurm => vec![self.command("srun", &slurm(workers), &[&ALONE[..], &worker].concat())],
            LauncherKind::Ssh => (0..workers as usize).map(|number| self.ssh(number, invitation, &worker)).collect(),
        }
    }

    fn command(&self, name: &str, own: &[String], worker: &[&str]) -> LaunchCommand {
        let words = std::iter::once(&self.launch.program).chain(&self.launch.options).chain(own).map(String::as_str);
        LaunchCommand {
            name: name.to_owned(),
            command: words.chain(worker.iter().copied()).map(OsString::from).collect(),
            env: if self.launch.kind == LauncherKind::Mpi { openmpi() } else { Vec::new() },
            input: None,
        }
    }

    fn mpi(&self, workers: u32) -> Vec<String> {
        let mut own = vec!["-n".into(), workers.to_string()];
        // The others hand the whole environment to all ranks.
        if ["OpenRTE", "Open MPI", "PRRTE"].iter().any(|name| self.version.contains(name)) {
            own.extend(["-x".into(), TOKEN_VARIABLE.into()]);
        }
        own
    }

    /// The token goes by standard input, since neither the command line is private nor the environment carried over. While that stays open
    /// the worker is left alone; it reads no more of it.
    fn ssh(&self, number: usize, invitation: &Invitation, worker: &[&str]) -> LaunchCommand {
        let host = &self.launch.hosts[number % self.launch.hosts.len()];
        let worker = worker.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let remote = format!("IFS= read -r {TOKEN_VARIABLE} && export {TOKEN_VARIABLE} && exec {worker}");
        let own = vec!["-o".into(), "BatchMode=yes".into(), "-T".into(), host.clone()];
        let input = Some(format!("{}\n", invitation.token).into_bytes());
        LaunchCommand { input, ..self.command(&format!("ssh {host}"), &own, &[&remote]) }
    }
}

/// What tells the version of a launcher.
pub(crate) fn version_question(kind: LauncherKind, program: &Path) -> Command {
    let mut question = Command::new(program);
    question.arg(if kind == LauncherKind::Ssh { "-V" } else { "--version" });
    question
}

/// The version that a launcher told.
pub(crate) fn version(told: &Output) -> String {
    // ssh tells on standard error.
    let text = String::from_utf8_lossy(if told.stdout.is_empty() { &told.stderr } else { &told.stdout });
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    // Hydra's first line is a title.
    match lines.find_map(|line| line.strip_prefix("Version:")).filter(|_| first.ends_with(':')) {
        Some(version) => format!("{first} {}", version.trim()),
        None => first.to_owned(),
    }
}

/// What to do where a launcher can't be run.
pub(crate) fn remedy(kind: LauncherKind) -> &'static str {
    match kind {
        LauncherKind::Mpi => "install an MPI, as by apt-get install openmpi-bin, or name it by --launcher",
        LauncherKind::Slurm => "run psbench where Slurm's commands are, or name srun by --launcher",
        LauncherKind::Ssh => "install it, as by apt-get install openssh-client, or name it by --launcher",
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// More ranks than cores are meant, and each may use all of these. Told by the environment, since others refuse OpenMPI's options.
fn openmpi() -> Vec<(OsString, OsString)> {
    let mut variables =
        vec![("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("OMPI_MCA_hwloc_base_binding_policy", "none")];
    if rustix::process::geteuid().is_root() {
        // Whoever runs psbench as root, as in a container, has decided that.
        variables.extend([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    }
    variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Within an allocation, or making one.
fn slurm(workers: u32) -> Vec<String> {
    let mut own = vec!["-n".to_owned(), workers.to_string()];
    own.extend(
        // A site's defaults may end all tasks with the first, keep the environment back, or hand them this process's standard input.
        ["--kill-on-bad-exit=0", "--wait=0", "--export=ALL", "--input=none", "--unbuffered", "--quiet"].map(Into::into),
    );
    if std::env::var_os("SLURM_JOB_ID").is_some() {
        // Beside whatever else runs in the allocation.
        own.push("--overlap".into());
    }
    own
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    fn commands(kind: LauncherKind, version: &str, hosts: &[&str]) -> Vec<String> {
        let launch = Launch {
            kind,
            program: "launch".into(),
            options: vec!["--option".into()],
            hosts: hosts.iter().map(ToString::to_string).collect(),
        };
        let invitation = Invitation { address: "head:1234".into(), token: "s3cret".into() };
        let launcher = Launcher { launch, version: version.into() };
        let commands = launcher.commands(&invitation, 3, "/opt/it's/psbench");
        assert!(commands.iter().all(|command| command.env.iter().all(|(_, value)| value != "s3cret")));
        commands.iter().map(|launch| launch.command.join(" ".as_ref()).into_string().unwrap()).collect()
    }

    #[test]
    fn each_launcher_is_told_in_its_own_way() {
        let worker = r#"sh -c "$0" "$@"; exit 0 /opt/it's/psbench worker --connect head:1234"#;
        let openmpi = commands(LauncherKind::Mpi, "mpiexec (OpenRTE) 4.1.4", &[]);
        assert_eq!(openmpi, [format!("launch --option -n 3 -x PSBENCH_TOKEN {worker}")]);
        assert_eq!(
            commands(LauncherKind::Mpi, "HYDRA build details:", &[]),
            [format!("launch --option -n 3 {worker}")]
        );
        let slurm = commands(LauncherKind::Slurm, "slurm-wlm 22.05.8", &[]);
        assert!(
            slurm[0].starts_with("launch --option -n 3 --kill-on-bad-exit=0") && slurm[0].ends_with(worker),
            "{slurm:?}"
        );
        let ssh = commands(LauncherKind::Ssh, "OpenSSH", &["n1", "n2"]);
        assert_eq!(ssh.len(), 3);
        assert!(ssh[1].starts_with("launch --option -o BatchMode=yes -T n2 IFS= read -r PSBENCH_TOKEN"), "{ssh:?}");
        assert!(
            ssh[2].ends_with(r"exec '/opt/it'\''s/psbench' 'worker' '--connect' 'head:1234'")
                && ssh[2].contains(" n1 ")
        );
    }

    #[test]
    fn a_version_is_one_line() {
        let told = |stdout: &str, stderr: &str| {
            version(&Output { status: ExitStatus::default(), stdout: stdout.into(), stderr: stderr.into() })
        };
        assert_eq!(told("mpiexec (OpenRTE) 4.1.4\n\nReport bugs to …\n", ""), "mpiexec (OpenRTE) 4.1.4");
        assert_eq!(told("", "OpenSSH_9.2p1\n"), "OpenSSH_9.2p1");
        let hydra = "HYDRA build details:\n    Version:                                 4.0.2\n    CC: gcc\n";
        assert_eq!(told(hydra, ""), "HYDRA build details: 4.0.2");
    }

    #[test]
    fn a_launcher_that_is_not_there_is_named() {
        let launch = Launch {
            kind: LauncherKind::Slurm,
            program: "/nowhere/srun".into(),
            options: Vec::new(),
            hosts: Vec::new(),
        };
        let error = Launcher::find(&launch).unwrap_err().to_string();
        assert!(
            error.starts_with("/nowhere/srun can't be run (No such file") && error.contains("--launcher"),
            "{error}"
        );
    }
}
