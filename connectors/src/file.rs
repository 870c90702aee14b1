//! Objects as files, laid out as ProxyStore's `FileConnector` does.
//!
//! `<dir>/<id>` holds the object behind ProxyStore's prefix; the empty `<dir>/<id>.ready` is made last and removed first, so that
//! no reader, on whichever host, sees half an object. Nothing is synced to disk: the objects outlive the process, not the machine.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::{Address, Location};
use crate::descriptor::Descriptor;
use crate::io::{read_full, write_full};
use crate::proxystore::{PREFIX, strip_prefix};
use crate::{Connector, ConnectorError, Key, KeySource};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor::of::<FileLocation>(NAME, "Files in a directory");

const NAME: &str = "file";

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLocation {
    /// An absolute path, the same on every host.
    pub dir: PathBuf,
}

impl fmt::Display for FileLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.display().fmt(f)
    }
}

impl Location for FileLocation {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(Arc::new(FileConnector::connect(&self.dir)?))
    }

    fn outlives_process(&self) -> bool {
        true
    }
}

/// Stores each object as a file.
#[derive(Debug)]
pub struct FileConnector {
    address: Address,
    dir: PathBuf,
    keys: KeySource,
}

impl FileConnector {
    /// Stores in `dir`, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Io`] where it can't be made, or is not a directory.
    pub fn open(dir: &Path, keys: KeySource) -> Result<Self, ConnectorError> {
        // Other processes may have another working directory.
        let absolute =
            fs::create_dir_all(dir).and_then(|()| fs::canonicalize(dir)).map_err(|source| ConnectorError::Io {
                connector: format!("{NAME} {}", dir.display()),
                action: "open the directory".into(),
                source,
            })?;
        let location = FileLocation { dir: absolute };
        Ok(Self { address: Address::of(&location)?, dir: location.dir, keys })
    }

    /// For whoever resolves what another process stored in `dir`: makes nothing, as the name may be a stranger's.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Unreachable`] where there is no such directory; others where it can't be looked at.
    pub fn connect(dir: &Path) -> Result<Self, ConnectorError> {
        let address = Address::of(&FileLocation { dir: dir.into() })?;
        let there = absent_as(false, fs::metadata(dir).map(|found| found.is_dir())).map_err(|source| {
            ConnectorError::Io { connector: address.to_string(), action: "look at the directory".into(), source }
        })?;
        if !there {
            return Err(ConnectorError::Unreachable {
                connector: address.to_string(),
                reason: "there is no such directory here: the objects are gone, or this host does not mount it".into(),
            });
        }
        Ok(Self { address, dir: dir.into(), keys: KeySource::random() })
    }

    fn object_path(&self, id: Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn marker_path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.ready"))
    }

    fn failed(&self, action: &str, key: &Key) -> impl FnOnce(io::Error) -> ConnectorError {
        let (connector, action) = (self.address.to_string(), format!("{action} {key}"));
        move |source| ConnectorError::Io { connector, action, source }
    }

    fn write(&self, id: Uuid, object: &[u8]) -> io::Result<()> {
        // Truncates, for names that are used again after an interrupted run.
        let file = File::create(self.object_path(id))?;
        write_full(&mut [IoSlice::new(PREFIX), IoSlice::new(object)], |parts| rustix::io::writev(&file, parts))?;
        File::create(self.marker_path(id)).map(drop)
    }

    /// Nothing is allocated for an object that is not of the size it was stored with.
    fn read(&self, key: &Key) -> io::Result<Bytes> {
        // A pipe of that name would have the reader wait for a writer, and a link lead anywhere.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(self.object_path(key.id), flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is no regular file"));
        }
        let len = metadata.len();
        if let Some(stored) = key.size
            && len != stored.saturating_add(PREFIX.len() as u64)
        {
            let reason = format!("the file has {len} bytes, the object was stored with {stored} and {}", PREFIX.len());
            return Err(io::Error::new(ErrorKind::InvalidData, reason));
        }
        let len = usize::try_from(len).map_err(|_| ErrorKind::OutOfMemory)?;
        read_full(&file, len).map(Bytes::from)
    }

    /// Removes all there is of an object, half-written ones included, and says whether it was whole.
    fn remove(&self, id: Uuid) -> io::Result<bool> {
        let whole = removed(&self.marker_path(id))?;
        removed(&self.object_path(id))?;
        Ok(whole)
    }
}

/// Removes a file; `false` where there was none.
fn removed(path: &Path) -> io::Result<bool> {
    absent_as(false, fs::remove_file(path).map(|()| true))
}

/// `absent` where the file was not found.
fn absent_as<T>(absent: T, result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(absent),
        other => other,
    }
}

impl Connector for FileConnector {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let key = self.keys.next(object.len() as u64);
        self.write(key.id, &object).map_err(|error| {
            let left = match self.remove(key.id) {
                Ok(_) => "what was written of it is removed",
                Err(_) => "what was written of it could not be removed",
            };
            self.failed(&format!("write {} bytes ({left}) as", object.len()), &key)(error)
        })?;
        Ok(key)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        if !self.exists(key)? {
            return Ok(None);
        }
        // Absent after all: evicted since.
        let value = absent_as(None, self.read(key).map(Some)).map_err(self.failed("read", key))?;
        value.as_ref().map(strip_prefix).transpose().map_err(|reason| ConnectorError::Protocol {
            connector: self.address.to_string(),
            action: format!("read {key}"),
            reason,
        })
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.marker_path(key.id).try_exists().map_err(self.failed("look for", key))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.remove(key.id).map_err(self.failed("evict", key))
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector() -> (tempfile::TempDir, FileConnector) {
        let dir = tempfile::tempdir().unwrap();
        let connector = FileConnector::open(dir.path(), KeySource::random()).unwrap();
        (dir, connector)
    }

    fn names(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn files_are_proxystores() {
        let (dir, connector) = connector();
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        assert_eq!(fs::read(dir.path().join(key.id.to_string())).unwrap(), b"BS\nabc");
        assert_eq!(fs::read(dir.path().join(format!("{key}.ready"))).unwrap(), b"");
        assert!(connector.evict(&key).unwrap());
        assert_eq!(names(dir.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn without_its_marker_an_object_is_not_there() {
        let (dir, connector) = connector();
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        fs::remove_file(dir.path().join(format!("{key}.ready"))).unwrap();
        assert_eq!(connector.get(&key).unwrap(), None);
        assert!(!connector.exists(&key).unwrap());
        assert!(!connector.evict(&key).unwrap());
        assert_eq!(names(dir.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_full_disk_leaves_nothing_behind() {
        let (dir, connector) = connector();
        std::os::unix::fs::symlink("/dev/full", dir.path().join(connector.keys.nth(0).to_string())).unwrap();
        let error = connector.put(Bytes::from_static(b"abc")).unwrap_err().to_string();
        assert!(error.contains("No space left") && error.contains("is removed"), "{error}");
        assert_eq!(names(dir.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = FileConnector::open(file.path(), KeySource::random()).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn the_directory_is_made_and_named_in_full() {
        let parent = tempfile::tempdir().unwrap();
        let connector = FileConnector::open(&parent.path().join("a/../b/c"), KeySource::random()).unwrap();
        let dir = parent.path().canonicalize().unwrap().join("b/c");
        assert_eq!(connector.address(), Address::of(&FileLocation { dir }).unwrap());
    }

    #[test]
    fn another_serialisation_stays_as_it_is_and_what_is_none_is_refused() {
        let (dir, connector) = connector();
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        let file = dir.path().join(key.id.to_string());
        fs::write(&file, b"PK\nabc").unwrap();
        assert_eq!(connector.get(&key).unwrap().unwrap(), "abc");
        fs::write(&file, b"PK\npickled").unwrap();
        let by_name = Key::named(key.id);
        assert_eq!(connector.get(&by_name).unwrap().unwrap(), "pickled");
        fs::write(&file, b"abcdef").unwrap();
        assert!(matches!(connector.get(&key).unwrap_err(), ConnectorError::Protocol { .. }));
    }

    #[test]
    fn who_resolves_makes_no_directory() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("made/by/proxy");
        let address = Address::of(&FileLocation { dir: dir.clone() }).unwrap();
        let error = address.connect().unwrap_err();
        assert!(matches!(error, ConnectorError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
        assert_eq!(names(parent.path()), Vec::<PathBuf>::new());
        fs::create_dir_all(&dir).unwrap();
        address.connect().unwrap();
    }

    #[test]
    fn an_object_of_another_size_is_refused_unread() {
        let (dir, connector) = connector();
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        // More than there is memory.
        File::create(dir.path().join(key.id.to_string())).unwrap().set_len(1 << 42).unwrap();
        let error = connector.get(&key).unwrap_err().to_string();
        assert!(error.contains("has 4398046511104 bytes, the object was stored with 3 and 3"), "{error}");
    }

    #[test]
    fn only_regular_files_are_objects() {
        let (dir, connector) = connector();
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        let file = dir.path().join(key.id.to_string());
        fs::rename(&file, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        assert!(matches!(connector.get(&key).unwrap_err(), ConnectorError::Io { .. }));
        fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, Mode::RUSR | Mode::WUSR).unwrap();
        let error = connector.get(&key).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
}
