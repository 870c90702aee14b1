//! Memory: the limit of a worker, and whether it was what ended one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What is known of a worker's memory at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// Its limit, in bytes.
    pub(super) limit: Option<u64>,
    /// Whether it said that an allocation failed; `None` if nobody listened.
    pub(super) said_so: Option<bool>,
    /// What it used when it was last looked at, in bytes.
    pub(super) used: Option<u64>,
    /// Processes that the kernel's out-of-memory killer ended while it ran; `None` if that can't be read.
    pub(super) killings: Option<u64>,
}

impl Evidence {
    /// What to add to the cause of an end by a signal, if memory has to do with it.
    pub(super) fn remark(&self, signal: i32) -> Option<String> {
        match (signal, self.limit) {
            (ABRT, Some(limit)) => match self.said_so {
                Some(true) => Some(format!("out of memory: its limit is {}", Size(limit))),
                Some(false) => None,
                None => Some(format!("out of memory? its limit is {}", Size(limit))),
            },
            (KILL, _) if self.killings != Some(0) => {
                let used = self.used.map(|used| format!(" its memory before was {}", Size(used)));
                Some(format!("was it the kernel's out-of-memory killer?{}", used.unwrap_or_default()))
            }
            _ => None,
        }
    }
}

const ABRT: i32 = rustix::process::Signal::ABORT.as_raw();
const KILL: i32 = rustix::process::Signal::KILL.as_raw();

/// A number of bytes, for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000_000_000 {
            write!(f, "{:.1} MB", self.0 as f64 / 1e6)
        } else {
            write!(f, "{:.1} GB", self.0 as f64 / 1e9)
        }
    }
}

/// Whether a line is what Rust's standard library says before it aborts for want of memory.
pub(super) fn tells_of_failed_allocation(line: &str) -> bool {
    line.starts_with("memory allocation of ") && line.ends_with(" bytes failed")
}

/// Processes that the kernel's out-of-memory killer ended so far: in this process's control group, with version 2 of
/// those, else on the whole machine.
pub(super) fn out_of_memory_killings() -> Option<u64> {
    let counter = |path: &Path| {
        let counters = fs::read_to_string(path).ok()?;
        counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    };
    control_group()
        .and_then(|folder| counter(&folder.join("memory.events")))
        .or_else(|| counter(Path::new("/proc/vmstat")))
}

fn control_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_memory_explains_is_remarked() {
        let limited = Evidence { limit: Some(2_000_000_000), ..Evidence::default() };
        let says = |said_so| Evidence { said_so, ..limited }.remark(ABRT);
        assert_eq!(says(Some(true)).as_deref(), Some("out of memory: its limit is 2.0 GB"));
        assert_eq!(says(None).as_deref(), Some("out of memory? its limit is 2.0 GB"));
        assert_eq!(says(Some(false)), None);
        assert_eq!(Evidence { said_so: Some(true), ..Evidence::default() }.remark(ABRT), None);

        let killed = |killings| Evidence { used: Some(12_300_000), killings, ..Evidence::default() }.remark(KILL);
        let question = "was it the kernel's out-of-memory killer? its memory before was 12.3 MB";
        assert_eq!(killed(Some(1)).as_deref(), Some(question));
        assert_eq!(killed(None).as_deref(), Some(question));
        assert_eq!(killed(Some(0)), None);
        assert_eq!(limited.remark(rustix::process::Signal::SEGV.as_raw()), None);
    }

    #[test]
    fn the_last_words_of_a_failed_allocation_are_known() {
        assert!(tells_of_failed_allocation("memory allocation of 4096 bytes failed"));
        assert!(!tells_of_failed_allocation("memory allocation is fine"));
    }
}
