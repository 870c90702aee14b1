//! How checks know that tasks run, and let them go on, whichever process they are in.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs, io, process};

use super::{Command, SOON};
use crate::TaskId;

const LOOK: Duration = Duration::from_millis(2);

/// A directory in which tasks leave a file when they begin, and wait for another one.
#[derive(Debug)]
pub struct Gate(PathBuf);

impl Gate {
    /// A closed one.
    ///
    /// # Panics
    ///
    /// If there is no place for its directory.
    #[expect(clippy::new_without_default, reason = "it takes a directory of its own")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("psbench-gate-{}-{number}", process::id()));
        // Of a process that had the same number and was killed.
        let _ = fs::remove_dir_all(&directory);
        if let Err(error) = fs::create_dir(&directory) {
            panic!("{}: {error}", directory.display());
        }
        Self(directory)
    }

    /// What a task does that begins and waits until this is open.
    pub fn hold(&self) -> Command {
        Command::Hold(self.0.clone())
    }

    /// What an exclusive task does that begins and waits to be cancelled.
    pub fn stay(&self) -> Command {
        Command::Stay(self.0.clone())
    }

    /// Waits until so many tasks have begun.
    ///
    /// # Panics
    ///
    /// If they don't within a minute.
    pub fn wait_for(&self, tasks: usize) {
        let begun = || fs::read_dir(&self.0).map_or(0, Iterator::count);
        let until = Instant::now() + SOON;
        while begun() < tasks {
            assert!(Instant::now() < until, "{} tasks have begun, not {tasks}", begun());
            sleep(LOOK);
        }
    }

    /// Lets all tasks go on, those that come later, too.
    ///
    /// # Panics
    ///
    /// If the directory is gone.
    pub fn open(&self) {
        if let Err(error) = fs::write(self.0.join(OPEN), "") {
            panic!("{}: {error}", self.0.display());
        }
    }
}

impl Drop for Gate {
    /// Tasks that still wait go on.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const OPEN: &str = "open";

/// Says that a task has begun.
pub(super) fn enter(directory: &Path, task: TaskId) -> io::Result<()> {
    fs::write(directory.join(task.0.to_string()), "")
}

/// Waits until a gate is open, or gone.
pub(super) fn pass(directory: &Path) {
    while directory.exists() && !directory.join(OPEN).exists() {
        sleep(LOOK);
    }
}
