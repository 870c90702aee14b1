//! The directory of a control server.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FlockOperation, Mode, OFlags, fchmod, flock, fstat, open, openat};
use rustix::io::Errno;

use super::error::ControlError;
use crate::dataserver::end_leftovers;

/// The file that is locked. It also says whose directory it is: what else is in there is removed in time.
const MARK: &str = "psbench-s2cs";

/// A directory that is this control server's alone, as long as this is there: what a former one left in it can be ended.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes it, unless it is there, for this user alone. One that is there is empty or was a control server's before.
    pub(crate) fn lock(path: &Path) -> Result<Self, ControlError> {
        // A slash at the end would have a link followed.
        let path: PathBuf = path.components().collect();
        let wrong = |what| {
            let path = path.clone();
            move |source: io::Error| ControlError::Directory { path, what, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(wrong("can't make it"))?;
        // All is asked of what was opened, whatever becomes of its name.
        let directory =
            open(&path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
                match error {
                    Errno::NOTDIR | Errno::LOOP => {
                        wrong("it has keys of sessions")(io::Error::other("it is a link; name a directory itself"))
                    }
                    error => wrong("can't look at it")(error.into()),
                }
            })?;
        let metadata = fstat(&directory).map_err(|error| wrong("can't look at it")(error.into()))?;
        if metadata.st_uid != rustix::process::geteuid().as_raw() {
            let source = io::Error::other("it is another user's; name another");
            return Err(wrong("it has keys of sessions")(source));
        }
        if metadata.st_mode & 0o022 != 0 {
            let source = io::Error::other("others may write to it; make it yours by chmod 700, or name another");
            return Err(wrong("it has keys of sessions")(source));
        }
        let lock = mark(&directory).map_err(wrong("can't lock it"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ControlError::Locked(path)),
            Err(error) => return Err(wrong("can't lock it")(error.into())),
        }
        if metadata.st_mode & 0o077 != 0 {
            fchmod(&directory, Mode::RWXU).map_err(|error| wrong("can't make it this user's alone")(error.into()))?;
        }
        Ok(Self { path, _lock: lock.into() })
    }

    /// Ends the programs that a control server left which was killed, and removes their files.
    pub(crate) fn clear(&self) -> Result<(), ControlError> {
        let what = "can't end what a former control server left";
        let ended = end_leftovers(&self.path).map_err(|source| ControlError::Directory {
            path: self.path.clone(),
            what,
            source,
        })?;
        if ended > 0 {
            tracing::warn!("ended {ended} processes that a former control server left");
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens the mark of a control server's directory, and makes it in one that has nothing else.
fn mark(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(directory.as_fd(), MARK, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => return Ok(opened?),
    }
    for entry in Dir::read_from(directory)? {
        // Another control server may have made its mark meanwhile.
        if ![b".", &b".."[..], MARK.as_bytes()].contains(&entry?.file_name().to_bytes()) {
            let problem =
                "it has files that are no control server's; name an empty directory, or one that is to be made";
            return Err(io::Error::other(problem));
        }
    }
    Ok(openat(directory.as_fd(), MARK, flags | OFlags::CREATE, Mode::RUSR | Mode::WUSR)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_is_one_control_servers() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let directory = Directory::lock(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert!(matches!(Directory::lock(&path), Err(ControlError::Locked(locked)) if locked == path));
        drop(directory);
        Directory::lock(&path).unwrap();
    }

    #[test]
    fn what_a_former_control_server_left_is_cleared_away() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("haproxy-left");
        drop(Directory::lock(directory.path()).unwrap());
        std::fs::create_dir(&left).unwrap();
        Directory::lock(directory.path()).unwrap().clear().unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_directory_with_files_of_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("haproxy-data")).unwrap();
        let error = Directory::lock(directory.path()).unwrap_err();
        assert!(crate::control::causes(&error).contains("name an empty directory"), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let (place, link) = (parent.path().join("place"), parent.path().join("link/"));
        std::fs::create_dir(&place).unwrap();
        symlink(&place, parent.path().join("link")).unwrap();
        let error = Directory::lock(&link).unwrap_err();
        assert!(crate::control::causes(&error).contains("it is a link"), "{error}");
        assert_eq!(std::fs::read_dir(place).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_others_read_becomes_this_users_alone() {
        let directory = tempfile::tempdir().unwrap();
        set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let _directory = Directory::lock(directory.path()).unwrap();
        assert_eq!(directory.path().metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_others_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let error = Directory::lock(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&directory.path().display().to_string()), "{error}");
    }
}
