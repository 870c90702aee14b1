//! Processes that a private server started and that outlive it, as a cluster's tasks and a login's commands do.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Kills those with a file below this directory open, or with its path in their environment, until there are none.
pub(crate) fn end_strays(directory: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let strays = strays(directory);
        // A drop must not panic: the test may be doing so already.
        if strays.is_empty() || Instant::now() > until {
            return;
        }
        let _ = Command::new("kill").arg("-KILL").args(strays.iter().map(u32::to_string)).output();
        thread::sleep(Duration::from_millis(10));
    }
}

/// Their process numbers. The directory must be the server's own, so that nothing else has to do with it.
pub(crate) fn strays(directory: &Path) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(pid, process)| *pid != std::process::id() && belongs(process, directory))
        .map(|(pid, _)| pid)
        .collect()
}

/// Processes of other users, whose files are not to be seen, do not.
fn belongs(process: &Path, directory: &Path) -> bool {
    let path = directory.as_os_str().as_bytes();
    let environment = std::fs::read(process.join("environ")).unwrap_or_default();
    if environment.windows(path.len()).any(|part| part == path) {
        return true;
    }
    // A slurmstepd has written its title over its environment, but its log is open.
    let Ok(files) = std::fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.starts_with(directory)))
}
