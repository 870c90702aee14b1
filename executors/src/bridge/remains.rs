//! Sees to it that nothing of an engine outlives its bridge.
//!
//! Engines start processes in sessions of their own, and these others. All have inherited an environment variable that nobody else has.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::pilot::hex;

/// Looks in which nothing must be left: a process may start another just before it ends.
const LOOKS: u32 = 20;

/// A value that nobody else has.
pub(super) fn mark() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(hex(&bytes))
}

/// Any number.
pub(super) fn number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes))
}

/// User and system time of a process of this host, all threads together.
///
/// The system tells the whole in ticks of a hundredth of a second, and nanoseconds of threads that have not ended: what is more is nearer.
pub(super) fn cpu_time(pid: u32) -> Option<Duration> {
    let of_threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().filter_map(|thread| {
        let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<u64>().ok()
    });
    Some(ticks(pid)?.max(Duration::from_nanos(of_threads.sum())))
}

fn ticks(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): utime and stime, the 14th and 15th field. The name of the program, the second, may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The most resident memory that a process of this host had, bytes.
pub(super) fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<u64>().ok()? << 10)
}

/// Ends all processes of this host with the variable `marker` (`NAME=value`) in their environment.
pub(super) fn end_all(marker: &str) {
    for _ in 0..LOOKS {
        let left = marked(marker);
        if left.is_empty() {
            return;
        }
        for pid in left {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn marked(marker: &str) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has_it = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
    };
    numbers.filter(has_it).filter_map(Pid::from_raw).collect()
}
