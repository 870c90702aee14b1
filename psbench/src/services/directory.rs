//! Where services live, and what is known of each.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::getuid;
use serde::{Deserialize, Serialize};

use super::process::{LOOK, ProcessId};
use super::{ServiceName, ServicesError};
use crate::terminal::tell;

/// What is known of a service: `service.json` in its directory, which without one is not psbench's to touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The service.
    pub(super) name: ServiceName,
    /// How far it came.
    pub(super) stage: Stage,
    /// Its ports of 127.0.0.1; the first is that of its clients.
    pub(super) ports: Vec<u16>,
    /// Absent where it has none, as after `down --keep`.
    pub(super) process: Option<ProcessId>,
}

/// How far a service came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    /// It has never answered; its data are worth nothing.
    Starting,
    /// It has answered; without a process it comes back with its ports and data.
    Started,
}

impl State {
    /// Whether its process runs.
    pub(super) fn runs(&self) -> bool {
        self.process.is_some_and(ProcessId::runs)
    }

    /// That of its clients.
    pub(super) fn port(&self) -> u16 {
        self.ports.first().copied().unwrap_or_default()
    }
}

/// The directory of all services of one user.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The user's own in the temporary directory.
    pub(super) fn default_path() -> PathBuf {
        std::env::temp_dir().join(format!("psbench-services-{}", getuid().as_raw()))
    }

    /// Makes it where there is none.
    pub(super) fn create(path: &Path) -> Result<Self, ServicesError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(ServicesError::file(path)(error)),
            _ => Self::open(path)?.ok_or_else(|| ServicesError::file(path)(io::ErrorKind::NotFound.into())),
        }
    }

    /// `None` where there is none. What others can change, they could have psbench read, write and start things by.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, ServicesError> {
        let absolute = std::path::absolute(path).map_err(ServicesError::file(path))?;
        // Without a slash at the end, which would have the system follow a symbolic link.
        let path: PathBuf = absolute.components().collect();
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ServicesError::file(&path)(error)),
        };
        let problem = if found.is_symlink() {
            "a symbolic link".into()
        } else if !found.is_dir() {
            "not a directory".into()
        } else if found.uid() != getuid().as_raw() {
            format!("belongs to user {}", found.uid())
        } else if found.mode() & 0o022 != 0 {
            "others may write to it".into()
        } else {
            return Ok(Some(Self { path }));
        };
        Err(ServicesError::Directory { path, problem })
    }

    /// That of one service.
    pub(super) fn of(&self, name: ServiceName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Keeps other psbench from starting or stopping services here, until it is dropped.
    pub(super) fn lock(&self, interrupted: &AtomicBool) -> Result<File, ServicesError> {
        let lock = File::open(&self.path).map_err(ServicesError::file(&self.path))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(ServicesError::file(&self.path)(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !std::mem::replace(&mut told, true) {
                tell(format_args!("waiting for another psbench services at {}", self.path.display()));
            }
            if interrupted.load(Ordering::Relaxed) {
                return Err(ServicesError::Interrupted);
            }
            thread::sleep(LOOK);
        }
    }

    /// What is known of a service; `None` where it is not here.
    pub(super) fn state(&self, name: ServiceName) -> Result<Option<State>, ServicesError> {
        let directory = self.of(name);
        let file = state_file(&directory);
        let read = fs::read(&file).and_then(|text| Ok(serde_json::from_slice(&text)?));
        match read {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ServicesError::Directory {
                path: self.path.clone(),
                problem: format!("its {name} was not made by psbench"),
            }),
            Err(error) => Err(ServicesError::file(&file)(error)),
        }
    }

    /// Writes down what is known of a service, whole or not at all; makes its directory.
    pub(super) fn keep(&self, state: &State) -> Result<(), ServicesError> {
        let directory = self.of(state.name);
        let file = state_file(&directory);
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            let mut new = tempfile::NamedTempFile::new_in(&directory)?;
            serde_json::to_writer_pretty(&mut new, state)?;
            new.write_all(b"\n")?;
            new.persist(&file)?;
            Ok(())
        };
        write().map_err(ServicesError::file(&file))
    }

    /// Removes a service's directory with all that is in it.
    pub(super) fn remove(&self, name: ServiceName) -> Result<(), ServicesError> {
        let directory = self.of(name);
        fs::remove_dir_all(&directory).map_err(ServicesError::file(&directory))
    }
}

fn state_file(directory: &Path) -> PathBuf {
    directory.join("service.json")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn it_is_made_for_its_user_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("services");
        assert!(Directory::open(&path).unwrap().is_none());
        let made = Directory::create(&path).unwrap();
        assert_eq!(fs::metadata(&made.path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_others_can_change_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (target, link, file) = (root.path().join("target"), root.path().join("link"), root.path().join("file"));
        fs::create_dir(&target).unwrap();
        symlink(&target, &link).unwrap();
        fs::write(&file, "").unwrap();
        let refusal = |path: &Path| Directory::create(path).unwrap_err().to_string();
        for link in [link.clone(), link.join("")] {
            assert!(refusal(&link).ends_with("/link: a symbolic link; choose another"), "{}", refusal(&link));
        }
        assert!(refusal(&file).ends_with("/file: not a directory; choose another"), "{}", refusal(&file));
        fs::set_permissions(&target, Permissions::from_mode(0o777)).unwrap();
        assert!(refusal(&target).ends_with("/target: others may write to it; choose another"));
    }

    #[test]
    fn state_is_read_back_and_what_has_none_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::create(root.path()).unwrap();
        assert_eq!(directory.state(ServiceName::Redis).unwrap(), None);
        let process = ProcessId { pid: 7, start_time: 8 };
        let state =
            State { name: ServiceName::Redis, stage: Stage::Started, ports: vec![12_345], process: Some(process) };
        directory.keep(&state).unwrap();
        assert_eq!(directory.state(ServiceName::Redis).unwrap(), Some(state));
        fs::create_dir(root.path().join("kafka")).unwrap();
        let error = directory.state(ServiceName::Kafka).unwrap_err().to_string();
        assert!(error.ends_with("its kafka was not made by psbench; choose another"), "{error}");
    }
}
