//! What a proxy carries of a connector.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::own::OwnLocation;
use crate::{Connector, ConnectorError, descriptor};

/// How another process reaches the objects of a connector: the connector's name and its [`Location`]. Small, since every proxy carries one,
/// and without secrets, but for one that its reader has to prove. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct Address(
    /// The name's length in one byte, the name, and the location in the connector's own form.
    Bytes,
);

/// Where the objects of one kind of connector are.
pub trait Location: fmt::Display {
    /// The connector's name.
    fn connector(&self) -> &str;

    /// For whoever resolves objects that another process stored. Makes nothing.
    ///
    /// # Errors
    /// The objects can't be reached from here.
    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError>;

    /// Whether the objects, or some of them, stay where they are when the process that stored them ends.
    fn outlives_process(&self) -> bool {
        false
    }

    /// The services that are shown credentials of this process's environment when it connects.
    fn shown(&self) -> Vec<Shown> {
        Vec::new()
    }

    /// Notes that processes elsewhere could not reach the objects, where finding that out takes long: here it is tried once for each then,
    /// until one is reached.
    fn doubt(&self) {}
}

/// A service that is shown credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The service.
    pub service: Address,
    /// What is said where it is none of those that may see them.
    pub refusal: String,
}

/// Why bytes are no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a connector")]
pub struct BadAddress;

impl Address {
    /// Of a location.
    ///
    /// # Errors
    /// It can't be written: a path is not UTF-8.
    pub fn of<L: Location + Serialize>(location: &L) -> Result<Self, ConnectorError> {
        let unwritable = || ConnectorError::Unreachable {
            connector: format!("{} {location}", location.connector()),
            reason: "its path is not UTF-8, so that other processes can't be told of it".into(),
        };
        postcard::to_extend(location, named(location.connector())).map(Self::from_parts).map_err(|_| unwritable())
    }

    /// Of a connector that a program brings with it: the name it is [registered](crate::OWN_CONNECTORS) under, and what it needs to find its
    /// objects, in a form of its own.
    pub fn own(name: &str, place: &str) -> Self {
        let mut parts = named(name);
        parts.extend_from_slice(place.as_bytes());
        Self::from_parts(parts)
    }

    fn from_parts(parts: Vec<u8>) -> Self {
        Self(parts.into())
    }

    /// The connector's name.
    pub fn name(&self) -> &str {
        self.parts().map_or("", |(name, _)| name)
    }

    /// Reaches the objects, see [`Location::connect`].
    ///
    /// # Errors
    /// They can't be reached from here.
    pub fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        match self.location() {
            Some(location) => location.connect(),
            None => Err(ConnectorError::Unreachable {
                connector: self.name().into(),
                reason: "this is no location of its, or one of another psbench version".into(),
            }),
        }
    }

    /// See [`Location::outlives_process`].
    pub fn outlives_process(&self) -> bool {
        self.location().is_some_and(|location| location.outlives_process())
    }

    /// See [`Location::doubt`].
    pub fn doubt(&self) {
        if let Some(location) = self.location() {
            location.doubt();
        }
    }

    /// See [`Location::shown`].
    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.location().map_or_else(Vec::new, |location| location.shown())
    }

    /// The location, if it is one of the connector of this name.
    pub fn location_of<L: DeserializeOwned>(&self, connector: &str) -> Option<L> {
        let (name, location) = self.parts()?;
        (name == connector).then(|| read(location))?
    }

    fn location(&self) -> Option<Box<dyn Location>> {
        let (name, location) = self.parts()?;
        match descriptor::named(name) {
            Some(connector) => (connector.read)(location),
            None => Some(Box::new(OwnLocation { name: name.into(), place: str::from_utf8(location).ok()?.into() })),
        }
    }

    fn parts(&self) -> Option<(&str, &[u8])> {
        let (&length, rest) = self.0.split_first()?;
        let (name, location) = rest.split_at_checked(length.into())?;
        Some((str::from_utf8(name).ok()?, location))
    }
}

/// The beginning of an address. A longer name would be cut, and then is none that anything is registered under.
fn named(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let mut parts = vec![length];
    parts.extend_from_slice(&name.as_bytes()[..length.into()]);
    parts
}

/// A location, and nothing after it.
pub(crate) fn read<L: DeserializeOwned>(bytes: &[u8]) -> Option<L> {
    postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(location, _)| location)
}

impl TryFrom<Bytes> for Address {
    type Error = BadAddress;

    fn try_from(bytes: Bytes) -> Result<Self, BadAddress> {
        let address = Self(bytes);
        if address.parts().is_some() { Ok(address) } else { Err(BadAddress) }
    }
}

impl From<Address> for Bytes {
    fn from(address: Address) -> Self {
        address.0
    }
}

/// The connector's name and its location, as errors name it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location() {
            Some(location) => write!(f, "{} {location}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

/// As [`Display`](fmt::Display): a secret is not shown.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeySource;

    #[test]
    fn what_is_no_address_is_refused() {
        for bytes in [&b""[..], b"\x05file", b"\x01\xff"] {
            assert_eq!(Address::try_from(Bytes::copy_from_slice(bytes)), Err(BadAddress), "{bytes:?}");
        }
        // Of a connector that there is, but nothing that it could have written.
        for rest in [&b""[..], b"\x7f", b"\x01/x"] {
            let address = Address::try_from(Bytes::from([&b"\x04file"[..], rest].concat())).unwrap();
            let error = address.connect().unwrap_err().to_string();
            assert!(error.starts_with("file: this is no location of its"), "{error}");
        }
    }

    #[test]
    fn a_name_that_nobody_registered_is_an_error() {
        let address = Address::own("nowhere", "x");
        assert_eq!(address.to_string(), "nowhere x");
        let spec = crate::ConnectorSpec::own("nowhere", "x");
        for error in [address.connect().unwrap_err(), spec.open(KeySource::random()).unwrap_err()] {
            assert!(error.to_string().starts_with("nowhere: this program has no connector"), "{error}");
        }
        assert!(!address.outlives_process() && !spec.outlives_process());
    }
}
