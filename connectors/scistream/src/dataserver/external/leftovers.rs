//! Ends what a control server left that was killed.
//!
//! Its programs are told to end when it does ([`parent`](super::parent)); this ends those that did not, and removes their files.
//! Each session's program works in a directory of its own with a name that no other one ever had, and so do those that it starts. That is
//! how they are known, better than by pids, which other processes may have by now.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

use crate::dataserver::DataServerType;

/// The programs, as their processes are called.
const PROGRAMS: [(DataServerType, &[&str]); 3] = [
    (DataServerType::Haproxy, &["haproxy"]),
    (DataServerType::Stunnel, &["stunnel4", "stunnel"]),
    (DataServerType::Nginx, &["nginx"]),
];
/// Given to killed processes to be gone.
const KILLED: Duration = Duration::from_secs(5);

/// How the directories of a type's sessions begin.
pub(super) fn prefix(kind: DataServerType) -> String {
    format!("{kind}-")
}

/// Ends the programs whose sessions have their files in a directory, and removes these files. To be called before a control server
/// starts sessions there, never while another one has some. Returns how many processes there were.
///
/// # Errors
/// The directory can't be read, or one of its files not removed.
pub fn end_leftovers(directory: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // There never was a session.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut ended = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let of = |(kind, _): &&(DataServerType, _)| name.to_string_lossy().starts_with(&prefix(*kind));
        let Some((_, programs)) = PROGRAMS.iter().find(of) else { continue };
        if entry.file_type()?.is_dir() {
            ended += end_those_in(&fs::canonicalize(entry.path())?, programs);
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(ended)
}

/// Until there is none left: one may start another while it is ended.
fn end_those_in(directory: &Path, programs: &[&str]) -> usize {
    let until = Instant::now() + KILLED;
    let mut ended = 0;
    loop {
        let found = working_in(directory, programs);
        if found.is_empty() || Instant::now() > until {
            return ended;
        }
        ended = ended.max(found.len());
        for pid in found {
            // What it refers to can't become another process. Looked at once more, since the number could until now.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if is_at_work(pid, directory, programs) {
                let _ = pidfd_send_signal(&process, Signal::KILL);
            }
        }
        sleep(Duration::from_millis(2));
    }
}

fn working_in(directory: &Path, programs: &[&str]) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .filter(|pid| is_at_work(*pid, directory, programs))
        .collect()
}

/// Whether a process is this user's, of one of these programs, and works in this directory.
fn is_at_work(pid: Pid, directory: &Path, programs: &[&str]) -> bool {
    let place = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let program = |path: PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // As it is told where the program was upgraded meanwhile.
        programs.contains(&name.trim_end_matches(" (deleted)"))
    };
    // A program that root started may have changed its user.
    let ours = |owner: u32| geteuid().is_root() || owner == geteuid().as_raw();
    fs::metadata(&place).is_ok_and(|metadata| ours(metadata.uid()))
        && fs::read_link(place.join("exe")).is_ok_and(program)
        && fs::read_link(place.join("cwd")).is_ok_and(|cwd| cwd == directory)
}
