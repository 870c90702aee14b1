//! What the data servers of SciStream's gateways need, beyond psbench.

use std::env;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use scistream::DataPlane;
use scistream::client::{Code, GatewayAccess};
use scistream::dataserver::{DataServerError, DataServerSettings, DataServerType, data_server};
use scistream::proto::gateway::StatusReply;

use super::{Finding, Host};
use crate::threads;

/// Where programs for administrators are, which users' shells don't look into.
const ADMINISTRATORS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// What the connector can be between here: psbench's own types, HAProxy, stunnel, nginx, and whether the kernel lets psbench redirect between
/// sockets.
pub(super) fn look(host: &Host) -> Vec<Finding> {
    let plane = match DataPlane::new(NonZero::new(1)) {
        Ok(plane) => Arc::new(plane),
        Err(error) => return vec![Finding::missing("data servers", error.to_string(), "more processes: ulimit -u")],
    };
    let settings = DataServerSettings { plane, directory: env::temp_dir() };
    let (beyond, own): (Vec<_>, Vec<_>) =
        DataServerType::ALL.into_iter().partition(|kind| takes_more_than_psbench(*kind));
    let of = |kind| of(kind, host, &settings).needed_for(format!("--scistream-type {kind}, s2cs --type {kind}"));
    std::iter::once(pair(&own, &settings)).chain(beyond.into_iter().map(of)).collect()
}

fn takes_more_than_psbench(kind: DataServerType) -> bool {
    kind.is_program() || kind == DataServerType::Sockmap
}

/// Whether private gateways can forward here by what psbench brings with it.
fn pair(kinds: &[DataServerType], settings: &DataServerSettings) -> Finding {
    const NAME: &str = "private gateways";
    let works = |kind: &DataServerType| data_server(*kind, settings).and_then(|server| server.check());
    let finding = match kinds.iter().try_for_each(works) {
        Ok(()) => Finding::present(NAME, kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        Err(error) => Finding::refused(NAME, &error, "gateways of other hosts: --scistream-producer-s2cs"),
    };
    finding.needed_for("--ps-connector scistream")
}

/// Whether the control servers that the user named answer, each within its time limits.
pub(super) fn named(host: &Host) -> Vec<Finding> {
    threads::all(&host.gateways, answer)
}

fn answer(gateway: &GatewayAccess) -> Finding {
    let name = format!("S2CS {}", gateway.address);
    let finding = match gateway.status() {
        Ok(StatusReply { version, types, ports_free, ports_total, .. }) => Finding::present(
            name,
            format!("psbench {version}, types {}, {ports_free} of {ports_total} ports free", types.join(", ")),
        ),
        // It was reached, and let this client in or asks nobody who it is.
        Err(error) if error.code() == Some(Code::Unimplemented) => {
            Finding::present(name, "answers, and is not psbench's: it tells neither its types nor what it uses")
        }
        Err(error) => Finding::refused(name, &error, "see that psbench s2cs runs there, and who is let in"),
    };
    finding.needed_for("--s2cs")
}

fn of(kind: DataServerType, host: &Host, settings: &DataServerSettings) -> Finding {
    let name = if kind == DataServerType::Sockmap { "eBPF sockmap" } else { kind.as_str() };
    match data_server(kind, settings).and_then(|server| server.check()) {
        Ok(()) => Finding::present(name, version(kind, host).unwrap_or_else(|| "works".to_owned())),
        Err(DataServerError::Unavailable { problem, .. }) => {
            let finding = Finding::refused(name, &problem, "another --type");
            let remedy = finding.remedy.map(|remedy| remedy.trim_start_matches("get it by: ").to_owned());
            Finding { remedy, ..finding }
        }
        Err(error) => Finding::missing(name, error.to_string(), "another --type"),
    }
}

/// As the program tells it; `None`: it is none, or does not.
fn version(kind: DataServerType, host: &Host) -> Option<String> {
    let (names, option): (&[&str], _) = match kind {
        DataServerType::Haproxy => (&["haproxy"], "-v"),
        DataServerType::Stunnel => (&["stunnel4", "stunnel"], "-version"),
        DataServerType::Nginx => (&["nginx"], "-v"),
        _ => return None,
    };
    let program = names.iter().find_map(|name| program(name, host))?;
    let told = host.ask(Command::new(program).arg(option)).ok()?;
    number(&told)
}

fn program(name: &str, host: &Host) -> Option<PathBuf> {
    let administrators = || ADMINISTRATORS.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
    host.find(Path::new(name)).or_else(administrators)
}

/// The first of `HAProxy version 2.6.12-1 2023/12/16 - …`, `stunnel 5.68 on x86_64-pc-linux-gnu platform`, which has a line without any in
/// front, `nginx version: nginx/1.22.1`.
fn number(told: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&[&*told.stdout, &*told.stderr].concat()).into_owned();
    let mut words = text.split(|separator: char| separator.is_whitespace() || separator == '/');
    words.find(|word| word.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::host::tests::host;
    use super::*;

    #[test]
    fn versions_are_cut_out_of_what_is_said() {
        let (_directory, host) = host(&[
            ("haproxy", "echo 'HAProxy version 2.6.12-1+deb12u1 2023/12/16 - https://haproxy.org/'; echo more"),
            (
                "stunnel4",
                "printf 'Initializing inetd mode configuration\\nstunnel 5.68 on x86_64-pc-linux-gnu platform\\n' >&2",
            ),
            ("nginx", "echo 'nginx version: nginx/1.22.1' >&2"),
        ]);
        for (kind, expected) in [
            (DataServerType::Haproxy, "2.6.12-1+deb12u1"),
            (DataServerType::Stunnel, "5.68"),
            (DataServerType::Nginx, "1.22.1"),
        ] {
            assert_eq!(version(kind, &host).as_deref(), Some(expected));
        }
        assert_eq!(version(DataServerType::Sockmap, &host), None);
    }

    #[test]
    fn each_is_there_or_has_a_remedy() {
        let (_directory, host) = host(&[]);
        let findings = look(&host);
        assert_eq!(findings.len(), 5);
        let own = &findings[0];
        assert_eq!(
            (&*own.what, own.needed_for.as_deref()),
            ("copy, splice, quic, tls", Some("--ps-connector scistream"))
        );
        assert!(
            findings.iter().all(|finding| (finding.state == State::Present) == finding.remedy.is_none()),
            "{findings:#?}"
        );
    }
}
