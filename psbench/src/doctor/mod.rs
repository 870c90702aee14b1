//! What there is on this host of what psbench's options need, and how to get what is missing.
//!
//! Programs are asked for their versions, all at once and each for a bounded time; no other is started, and nothing is sent over a
//! network but to control servers that the user named, and by what Slurm's `scontrol` does itself. Whether the kernel redirects between sockets is tried over loopback.

mod brokers;
mod control_group;
mod directories;
mod engines;
mod finding;
mod gateways;
mod host;
mod kernel;
mod launchers;

use std::thread;

pub use self::finding::{Diagnosis, Finding, Group, State};
pub use self::host::Host;

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
    let groups = thread::scope(|scope| {
        let looking: Vec<Vec<_>> = GROUPS
            .iter()
            .map(|(_, looks)| looks.iter().map(|look| scope.spawn(move || look(host))).collect())
            .collect();
        let found = looking.into_iter().map(|looks| looks.into_iter().filter_map(|look| look.join().ok()).flatten());
        let groups = GROUPS.iter().zip(found);
        groups.map(|((title, _), found)| Group { title: (*title).to_owned(), findings: found.collect() }).collect()
    });
    Diagnosis { psbench: env!("CARGO_PKG_VERSION").to_owned(), groups }
}
