//! CPU time and memory of a process.

use std::time::Duration;

use procfs::process::Process;
use serde::{Deserialize, Serialize};

use crate::clock::process_cpu_time;

/// What a process used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Largest resident memory since its start, or since [`reset_peak_memory`], bytes; absent where the system does not tell.
    pub peak_memory: Option<u64>,
}

impl Usage {
    /// Of this process, until now.
    pub fn of_this_process() -> Self {
        let peak_memory = Process::myself()
            .and_then(|process| process.status())
            .ok()
            .and_then(|status| status.vmhwm)
            .map(|kib| kib * 1024);
        Self { cpu: process_cpu_time(), peak_memory }
    }

    /// What was used since `earlier`; the memory is that of now.
    pub fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(earlier.cpu), ..self }
    }
}

/// Lets the peak of memory begin anew: gives back to the system what the allocator keeps of what was freed, so that what ran before
/// does not count.
pub fn reset_peak_memory() {
    collect_freed_memory();
    /// What the kernel takes for it: proc(5), `/proc/[pid]/clear_refs`.
    const RESET_PEAK: &str = "5";
    if let Err(error) = std::fs::write("/proc/self/clear_refs", RESET_PEAK) {
        tracing::debug!(%error, "the peak of memory counts from the start of psbench");
    }
}

#[expect(unsafe_code, reason = "the allocator has no safe way to ask for this")]
fn collect_freed_memory() {
    // SAFETY: it may be called at any time, from any thread; it touches only memory that nobody holds.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_grows_with_use() {
        reset_peak_memory();
        let before = Usage::of_this_process();
        let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = Usage::of_this_process().since(before);
        assert!(after.cpu > Duration::ZERO);
        assert!(after.peak_memory.unwrap() >= 64 << 20, "{after:?} with {} bytes", memory.len());
    }
}
