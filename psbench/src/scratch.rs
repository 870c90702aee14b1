//! What psbench makes on the way to something else: directories of one process alone, which go with it (where it is killed, a later psbench
//! removes them), and files that take the place of others once they are whole.

use std::env;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::geteuid;
use tempfile::{Builder, NamedTempFile, TempDir};

/// How the names of those in the temporary directory begin.
const PREFIX: &str = "psbench-run-";

/// A directory, and the lock on it that tells others that its process is there: the system gives it back however that ends.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: TempDir,
    /// Absent where the file system has no locks; nobody else has one there, either.
    _lock: Option<File>,
}

impl Scratch {
    /// One in the temporary directory.
    pub(crate) fn new() -> io::Result<Self> {
        Self::new_in(&env::temp_dir(), PREFIX)
    }

    /// One in `parent`, where all directories of this user whose names begin with `prefix` are of this kind.
    pub(crate) fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        remove_abandoned(parent, prefix);
        loop {
            let directory =
                Builder::new().prefix(prefix).permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
            // Until it is locked, another psbench may take it for abandoned.
            let lock = match File::open(directory.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            match lock.try_lock() {
                Ok(()) if directory.path().exists() => return Ok(Self { directory, _lock: Some(lock) }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(_)) => return Ok(Self { directory, _lock: None }),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes it one that stays, by this name.
    pub(crate) fn keep_as(self, path: &Path) -> io::Result<()> {
        fs::rename(self.path(), path)?;
        let _ = self.directory.keep();
        Ok(())
    }
}

/// A file beside `path`, to be made the one there when it is whole. Where psbench is killed before, its name tells what it was to be:
/// `results.json.….part`.
pub(crate) fn unfinished(path: &Path) -> io::Result<NamedTempFile> {
    let mut beginning = path.file_name().unwrap_or_default().to_owned();
    beginning.push(".");
    Builder::new()
        .prefix(&beginning)
        .suffix(".part")
        // As any new file, less what the umask takes: results are for everybody.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))
}

/// Removes, as far as it can, what killed processes left.
fn remove_abandoned(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
    for path in entries.flatten().filter(named).map(|entry| entry.path()) {
        if let Some(_lock) = lock_abandoned(&path) {
            match fs::remove_dir_all(&path) {
                Ok(()) => tracing::debug!("removed {}, which a psbench left that was killed", path.display()),
                Err(error) => tracing::debug!("a psbench that was killed left {}: {error}", path.display()),
            }
        }
    }
}

/// The lock on a directory of this user's that nobody holds.
fn lock_abandoned(path: &Path) -> Option<File> {
    let found = path.symlink_metadata().ok()?;
    let lock = (found.is_dir() && found.uid() == geteuid().as_raw()).then(|| File::open(path).ok()).flatten()?;
    lock.try_lock().ok().map(|()| lock)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn names(parent: &Path) -> Vec<PathBuf> {
        fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_was_abandoned_goes_and_what_is_used_or_is_not_its_own_stays() {
        let parent = tempfile::tempdir().unwrap();
        let within = |name: &str| parent.path().join(name);
        fs::create_dir_all(within("x-killed/some/files")).unwrap();
        fs::create_dir(within("another")).unwrap();
        fs::write(within("x-file"), "").unwrap();
        std::os::unix::fs::symlink(within("another"), within("x-link")).unwrap();
        let used = Scratch::new_in(parent.path(), "x-").unwrap();
        let second = Scratch::new_in(parent.path(), "x-").unwrap();
        let mut left = names(parent.path());
        left.sort();
        let mut expected =
            vec![within("another"), within("x-file"), within("x-link"), used.path().into(), second.path().into()];
        expected.sort();
        assert_eq!(left, expected);
        drop(used);
        second.keep_as(&within("kept")).unwrap();
        assert_eq!(names(parent.path()).len(), 4);
    }

    #[test]
    fn many_at_once_take_nothing_from_each_other() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let own = Scratch::new_in(parent.path(), "x-").unwrap();
                        fs::write(own.path().join("file"), "").unwrap();
                    }
                });
            }
        });
        assert!(names(parent.path()).is_empty());
    }
}
