//! A connector of one's own: an object is a file, in a directory that every worker sees.
//!
//!     cargo run --release --example own_connector -- stream-scaling --ps-connector scratch --ps-place /dev/shm/scratch
use std::io::{self, ErrorKind};
use std::{fs, path::PathBuf, process::ExitCode, sync::Arc};

use bytes::Bytes;
use psbench_connectors::{Address, Connector, ConnectorError, ConnectorFactory, Key, KeySource};

#[derive(Debug)]
struct Scratch {
    dir: PathBuf,
    keys: KeySource,
    address: Address,
}
pub(crate) struct Factory;

/// A file that is not there is `None`.
fn found<T>(result: io::Result<T>) -> Result<Option<T>, ConnectorError> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(ConnectorError::own),
    }
}

impl Connector for Scratch {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let key = self.keys.next(object.len() as u64);
        // No proxy names it before it is whole.
        fs::write(self.dir.join(key.to_string()), object).map_err(ConnectorError::own)?;
        Ok(key)
    }
    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(found(fs::read(self.dir.join(key.to_string())))?.map(Bytes::from))
    }
    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(found(fs::metadata(self.dir.join(key.to_string())))?.is_some())
    }
    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(found(fs::remove_file(self.dir.join(key.to_string())))?.is_some())
    }
    fn address(&self) -> Address {
        self.address.clone()
    }
}
impl ConnectorFactory for Factory {
    fn open(&self, place: &str, keys: KeySource) -> Result<Arc<dyn Connector>, ConnectorError> {
        fs::create_dir_all(place).map_err(|error| ConnectorError::own(format!("--ps-place {place}: {error}")))?;
        Ok(Arc::new(Scratch { dir: place.into(), keys, address: Address::own("scratch", place) }))
    }
    fn outlives_process(&self) -> bool {
        true
    }
}
fn main() -> ExitCode {
    psbench::Program::new().connector("scratch", Factory).run()
}
