//! What there is on this host of what psbench's options need, and how to get what is missing.
//!
//! Programs are asked for their versions, all at once and each for a bounded time; no other is started, and nothing is sent over a
//! network but to control servers that the user named, and by what Slurm's `scontrol` does itself. Whether the kernel redirects between sockets is tried over loopback.

mod brokers;
mod directories;
mod engines;
mod finding;
mod gateways;
mod host;
mod kernel;
mod launchers;

pub use self::finding::{Diagnosis, Finding, Group, State};
pub use self::host::Host;
use crate::threads;

/// Looks at something. Called in a thread of its own.
type Look = fn(&Host) -> Vec<Finding>;

/// All that is looked at, in the order in which it is told. What takes a while is apart from the rest.
const GROUPS: [(&str, &[Look]); 6] = [
    ("Engines of Python", &[engines::look]),
    ("Launchers", &[launchers::mpi, launchers::slurm, launchers::ssh]),
    ("Brokers", &[brokers::redis, brokers::java, brokers::kafka, brokers::clients]),
    ("Gateways of SciStream", &[gateways::look, gateways::named]),
    ("Kernel and limits", &[kernel::look]),
    ("Directories", &[directories::look]),
];

/// Looks at everything, which takes as long as the slowest program does to tell its version.
pub fn look(host: &Host) -> Diagnosis {
    let looks = GROUPS.iter().flat_map(|(title, looks)| looks.iter().map(move |look| (*title, look)));
    let found = threads::all(looks, |(title, look)| (title, look(host)));
    let mut groups: Vec<Group> = Vec::new();
    for (title, findings) in found {
        match groups.last_mut().filter(|group| group.title == title) {
            Some(group) => group.findings.extend(findings),
            None => groups.push(Group { title: title.to_owned(), findings }),
        }
    }
    Diagnosis { psbench: env!("CARGO_PKG_VERSION").to_owned(), groups }
}
