//! What starts workers elsewhere.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Finding, Host, State};
use crate::plan::LauncherKind;
use crate::sweep::launchers::{remedy, version, version_question};

/// A controller that is there answers at once; without one the command goes on to try for longer.
const CONTROLLER: Duration = Duration::from_secs(2);

/// `mpiexec`.
pub(super) fn mpi(host: &Host) -> Vec<Finding> {
    vec![launcher(host, LauncherKind::Mpi, remedy(LauncherKind::Mpi)).needed_for("--executor mpi")]
}

/// `ssh`.
pub(super) fn ssh(host: &Host) -> Vec<Finding> {
    vec![launcher(host, LauncherKind::Ssh, remedy(LauncherKind::Ssh)).needed_for("--executor ssh")]
}

/// `srun`, and who gives it nodes.
pub(super) fn slurm(host: &Host) -> Vec<Finding> {
    let configure = "set SLURM_CONF, or run psbench where Slurm's commands work";
    let mut findings = vec![launcher(host, LauncherKind::Slurm, configure)];
    if findings.iter().all(|srun| srun.state == State::Present) {
        findings.push(controller(host));
    }
    findings.into_iter().map(|finding| finding.needed_for("--executor slurm")).collect()
}

/// What to do about one that is there and of no use is `otherwise`.
fn launcher(host: &Host, kind: LauncherKind, otherwise: &str) -> Finding {
    let name = kind.program();
    let Some(program) = host.find(Path::new(name)) else {
        return Finding::missing(name, "not on the PATH", remedy(kind));
    };
    match host.ask(&mut version_question(kind, &program)) {
        // ssh goes on with the libraries that it has.
        Ok(told) => Finding::present(name, version(&told).split(',').next().unwrap_or_default()),
        Err(error) => Finding::missing(name, error.to_string(), otherwise),
    }
}

fn controller(host: &Host) -> Finding {
    const NAME: &str = "slurmctld";
    let elsewhere = "see that it runs where Slurm's configuration says";
    let Some(program) = host.find(Path::new("scontrol")) else {
        return Finding::missing(NAME, "not asked: no scontrol on the PATH", remedy(LauncherKind::Slurm));
    };
    match host.ask_within(Command::new(program).arg("ping"), CONTROLLER) {
        Ok(told) => {
            let said = String::from_utf8_lossy(&told.stdout).trim().replace('\n', ", ");
            if said.contains("is UP") { Finding::present(NAME, said) } else { Finding::missing(NAME, said, elsewhere) }
        }
        Err(error) => Finding::missing(NAME, error.to_string(), elsewhere),
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::tests::host;
    use super::*;

    #[test]
    fn launchers_tell_their_versions() {
        let (_directory, host) = host(&[
            ("mpiexec", r#"[ "$1" = --version ] && echo "mpiexec (OpenRTE) 4.1.4""#),
            ("ssh", r#"[ "$1" = -V ] && echo OpenSSH_9.2p1, OpenSSL 3 >&2"#),
            ("srun", "echo slurm-wlm 22.05.8"),
            ("scontrol", r#"[ "$1" = ping ] && echo "Slurmctld(primary) at head is UP""#),
        ]);
        let findings = [mpi(&host), ssh(&host), slurm(&host)].concat();
        assert!(findings.iter().all(|finding| finding.state == State::Present), "{findings:#?}");
        let told: Vec<_> = findings.iter().map(|finding| &*finding.what).collect();
        let expected =
            ["mpiexec (OpenRTE) 4.1.4", "OpenSSH_9.2p1", "slurm-wlm 22.05.8", "Slurmctld(primary) at head is UP"];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_of_no_use_is_missing() {
        let (_directory, host) = host(&[
            ("srun", "echo 'srun: error: a' >&2; echo 'srun: fatal: no configuration' >&2; exit 1"),
            ("scontrol", "echo 'Slurmctld(primary) at head is DOWN'"),
        ]);
        let [srun] = &slurm(&host)[..] else { panic!("nobody to ask for a controller") };
        assert_eq!((srun.state, &*srun.what), (State::Missing, "srun: fatal: no configuration"));
        assert!(srun.remedy.as_deref().is_some_and(|remedy| remedy.contains("SLURM_CONF")));
        let controller = controller(&host);
        assert_eq!((controller.state, &*controller.what), (State::Missing, "Slurmctld(primary) at head is DOWN"));
        let mpi = &mpi(&host)[0];
        assert_eq!((mpi.state, &*mpi.what), (State::Missing, "not on the PATH"));
        assert!(mpi.remedy.as_deref().is_some_and(|remedy| remedy.contains("apt-get install openmpi-bin")));
    }
}
