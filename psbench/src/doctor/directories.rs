//! Where psbench writes.

use std::path::{Path, absolute};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::{Finding, Host};
use crate::options::RUN_DIR;

/// The cache, and the default of `--run-dir`.
pub(super) fn look(host: &Host) -> Vec<Finding> {
    let cache = match &host.cache {
        Ok(cache) => directory("cache", cache, "set PSBENCH_CACHE to a directory that can be written"),
        Err(error) => Finding::refused("cache", error, "set PSBENCH_CACHE"),
    };
    let runs = absolute(RUN_DIR).unwrap_or_else(|_| RUN_DIR.into());
    let runs = directory("runs", &runs, "name a directory that can be written by --run-dir");
    vec![cache.needed_for("engines of Python, services"), runs.needed_for("stream-scaling")]
}

fn directory(name: &str, path: &Path, remedy: &str) -> Finding {
    match writable(path) {
        Ok(true) => Finding::present(name, path.display().to_string()),
        Ok(false) => Finding::present(name, format!("{}, which will be made", path.display())),
        Err(error) => Finding::missing(name, format!("{}: {}", path.display(), std::io::Error::from(error)), remedy),
    }
}

/// Whether a directory is there; where not, it can be made.
fn writable(path: &Path) -> Result<bool, Errno> {
    for (depth, path) in path.ancestors().enumerate() {
        match access(path, Access::WRITE_OK | Access::EXEC_OK) {
            Err(Errno::NOENT) => {}
            Ok(()) if !path.is_dir() => return Err(Errno::NOTDIR),
            Ok(()) => return Ok(depth == 0),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_is_there_or_can_be_made() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(writable(root.path()), Ok(true));
        assert_eq!(writable(&root.path().join("a/b")), Ok(false));
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        writable(&file).unwrap_err();
        assert_eq!(writable(&file.join("a")), Err(Errno::NOTDIR));
    }
}
