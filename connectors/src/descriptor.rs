//! The list of connectors.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::address::{Location, read};
use crate::{endpoint, file, memory, multi, peer, redis, s3, scistream, shm};

/// What a connector is.
#[derive(Debug)]
pub struct Descriptor {
    /// Its name on the command line and in proxies.
    pub name: &'static str,
    /// What it is, in a few words, for help texts.
    pub summary: &'static str,
    /// Reads its location.
    pub(crate) read: fn(&[u8]) -> Option<Box<dyn Location>>,
}

impl Descriptor {
    /// Of a connector whose objects are at such locations.
    pub(crate) const fn of<L>(name: &'static str, summary: &'static str) -> Self
    where
        L: Location + Serialize + DeserializeOwned + 'static,
    {
        Self { name, summary, read: |bytes| Some(Box::new(read::<L>(bytes)?)) }
    }
}

/// All connectors of this crate, by name.
pub static CONNECTORS: [Descriptor; 9] = [
    endpoint::DESCRIPTOR,
    file::DESCRIPTOR,
    memory::DESCRIPTOR,
    multi::DESCRIPTOR,
    peer::DESCRIPTOR,
    redis::DESCRIPTOR,
    s3::DESCRIPTOR,
    scistream::DESCRIPTOR,
    shm::DESCRIPTOR,
];

/// The connector of this name.
pub(crate) fn named(name: &str) -> Option<&'static Descriptor> {
    CONNECTORS.iter().find(|connector| connector.name == name)
}
