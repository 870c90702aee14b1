//! What private gateways use.

use procfs::process::{ClearRefs, Process, Stat};

use super::PrivateGateways;
use crate::results::record::ProcessUsage;

/// What the private gateways of a sweep use in one trial, the programs included that forward for them.
pub(crate) struct GatewayMeter<'a> {
    gateways: &'a PrivateGateways,
    /// Clock ticks of each.
    before: Vec<u64>,
    /// The most memory of each, bytes.
    memory: Vec<u64>,
}

impl<'a> GatewayMeter<'a> {
    /// From now on.
    pub(crate) fn start(gateways: &'a PrivateGateways) -> Self {
        let trees: Vec<_> = gateways.processes().iter().map(|(_, pid)| tree(*pid)).collect();
        for process in trees.iter().flatten() {
            // As this process does for its own.
            let _ = process.process.clear_refs(ClearRefs::PeakRSS);
        }
        Self { gateways, before: trees.iter().map(|tree| ticks(tree)).collect(), memory: vec![0; trees.len()] }
    }

    /// Looks at memory, while the programs are there that end with their sessions.
    pub(crate) fn look_at_memory(&mut self) {
        for ((_, pid), most) in self.gateways.processes().iter().zip(&mut self.memory) {
            *most = (*most).max(memory(&tree(*pid)));
        }
    }

    /// Until now.
    pub(crate) fn finish(mut self) -> Vec<ProcessUsage> {
        self.look_at_memory();
        let per_second = procfs::ticks_per_second() as f64;
        let processes = self.gateways.processes();
        let usage = processes.iter().zip(&self.before).zip(&self.memory).map(|(((name, pid), before), memory)| {
            let tree = tree(*pid);
            let ended = tree.first().is_none_or(|root| matches!(root.stat.state, 'Z' | 'X'));
            ProcessUsage {
                role: "gateway".into(),
                label: format!("{name} (pid {pid})"),
                pid: Some(*pid),
                tasks: 0,
                cpu_seconds: (!tree.is_empty()).then(|| ticks(&tree).saturating_sub(*before) as f64 / per_second),
                peak_memory_bytes: Some(*memory).filter(|bytes| *bytes > 0),
                host: None,
                clock: None,
                end: ended.then(|| "ended ahead of the trial".to_owned()),
            }
        });
        usage.collect()
    }
}

struct Member {
    process: Process,
    stat: Stat,
}

/// A process and its descendants.
fn tree(pid: u32) -> Vec<Member> {
    let mut found: Vec<Member> = Vec::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        let Some(member) = i32::try_from(pid).ok().and_then(member) else { continue };
        if let Ok(tasks) = member.process.tasks() {
            next.extend(tasks.flatten().filter_map(|task| task.children().ok()).flatten());
        }
        found.push(member);
    }
    found
}

/// `None` for one that is gone. One that has ended, and only waits for its parent to notice, has used what it used.
fn member(pid: i32) -> Option<Member> {
    let process = Process::new(pid).ok()?;
    let stat = process.stat().ok()?;
    Some(Member { process, stat })
}

/// User and system time, of descendants that have ended, too: these are counted by who waited for them.
fn ticks(tree: &[Member]) -> u64 {
    let own = |Member { stat, .. }: &Member| {
        let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
        stat.utime + stat.stime + ended
    };
    tree.iter().map(own).sum()
}

/// The largest resident memory of each, added up.
fn memory(tree: &[Member]) -> u64 {
    tree.iter().filter_map(|member| member.process.status().ok()?.vmhwm).map(|kib| kib * 1024).sum()
}
