//! What a control server uses, with the programs that forward for it.

use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::ClockId;
use nix::unistd::Pid;
use procfs::process::{ClearRefs, Process};

use crate::proto::gateway;

/// What this process and its descendants use.
pub(crate) struct UsageMeter {
    /// Since 1970. Tells servers apart that are at one address one after the other.
    began: Duration,
    /// The most memory at any look since the peak began, bytes. Programs that end with their sessions are looked at ahead of that.
    most: Mutex<u64>,
}

impl UsageMeter {
    pub(crate) fn new() -> Self {
        Self {
            began: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            most: Mutex::default(),
        }
    }

    fn most(&self) -> MutexGuard<'_, u64> {
        self.most.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the peak of memory begin anew.
    pub(crate) fn begin_peak(&self) {
        let mut most = self.most();
        for process in family() {
            // Where the system refuses, the peak counts from before.
            let _ = process.clear_refs(ClearRefs::PeakRSS);
        }
        *most = 0;
    }

    /// Looks at the memory of programs that are about to end.
    pub(crate) fn look(&self) {
        self.look_at(&family());
    }

    fn look_at(&self, family: &[Process]) -> u64 {
        let peak = |process: &Process| process.status().ok()?.vmhwm;
        let memory = family.iter().filter_map(peak).map(|kib| kib * 1024).sum();
        let mut most = self.most();
        *most = (*most).max(memory);
        *most
    }

    /// Until now; `None`: the system does not tell.
    pub(crate) fn report(&self) -> Option<gateway::Usage> {
        let family = family();
        let cpu = family.iter().filter_map(cpu_time).sum::<Duration>() + waited_for()?;
        Some(gateway::Usage {
            began_us: self.began.as_micros().try_into().unwrap_or(u64::MAX),
            cpu_ns: cpu.as_nanos().try_into().unwrap_or(u64::MAX),
            peak_memory_bytes: Some(self.look_at(&family)).filter(|bytes| *bytes > 0)?,
        })
    }
}

/// This process and its descendants.
fn family() -> Vec<Process> {
    let mut found = Vec::new();
    let mut next = vec![process::id()];
    while let Some(pid) = next.pop() {
        // One that is gone by now was waited for, and counts there.
        let Some(process) = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()) else { continue };
        if let Ok(threads) = process.tasks() {
            next.extend(threads.flatten().filter_map(|thread| thread.children().ok()).flatten());
        }
        found.push(process);
    }
    found
}

/// User and system time of a process that is there, or has ended and was not waited for yet.
fn cpu_time(process: &Process) -> Option<Duration> {
    ClockId::pid_cpu_clock_id(Pid::from_raw(process.pid())).and_then(ClockId::now).ok().map(Into::into)
}

/// User and system time of descendants that have ended, as far as those that started them waited for them.
fn waited_for() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let micros = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds().unsigned_abs());
    Some(Duration::from_micros(micros.iter().sum()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    /// A program that uses CPU time and 32 MB, and lives until its input ends.
    const USES: &str = "x=$(head -c 32000000 /dev/zero | tr '\\0' x); echo; read -r end";

    fn cpu(meter: &UsageMeter) -> u64 {
        meter.report().unwrap().cpu_ns
    }

    #[test]
    fn programs_count_while_they_are_there_and_when_they_have_ended() {
        let meter = UsageMeter::new();
        meter.begin_peak();
        let before = meter.report().unwrap();
        let mut program =
            Command::new("sh").args(["-c", USES]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        program.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = Pid::from_raw(program.id().try_into().unwrap());
        let used: Duration = ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now).unwrap().into();
        let used = u64::try_from(used.as_nanos()).unwrap();
        assert!(used > 0);
        let during = meter.report().unwrap();
        assert!(during.cpu_ns >= before.cpu_ns + used, "{before:?} {during:?} {used}");
        assert!(during.peak_memory_bytes >= before.peak_memory_bytes + 30_000_000, "{before:?} {during:?}");
        drop(program.stdin.take());
        program.wait().unwrap();
        // Of those that have ended microseconds are told.
        assert!(cpu(&meter) + 2_000 >= before.cpu_ns + used, "it does not count any more");
        assert_eq!(meter.report().unwrap().began_us, before.began_us);
        assert!(meter.report().unwrap().peak_memory_bytes >= during.peak_memory_bytes);
        meter.begin_peak();
        assert_eq!(meter.look_at(&[]), 0);
    }

    #[test]
    fn less_than_a_tick_of_the_systems_clock_shows() {
        let meter = UsageMeter::new();
        let before = cpu(&meter);
        std::hint::black_box((0..100_000_u64).map(|n| n.wrapping_mul(n)).sum::<u64>());
        assert!(cpu(&meter) > before);
    }
}
