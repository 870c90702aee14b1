//! The name of an object together with the way to it.

use serde::{Deserialize, Serialize};

use crate::{Address, Key, Lifetime};

/// Stands for one object: what a broker or workflow engine carries in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// Where the object is.
    pub address: Address,
    /// The object's name and size.
    pub key: Key,
    /// The object's [`checksum`], where whoever stored it made one.
    pub checksum: Option<u64>,
    /// How long the object stays.
    pub lifetime: Lifetime,
}

/// Why bytes are no proxy, or a proxy can't become bytes.
#[derive(Debug, thiserror::Error)]
pub enum BadProxy {
    /// Its fields can't be read.
    #[error("not a proxy, or one of another psbench version: {0}")]
    Fields(#[from] postcard::Error),
    /// Something follows the proxy.
    #[error("not a proxy: {0} bytes follow its end")]
    Trailing(usize),
}

impl Proxy {
    /// The proxy as bytes: under 200 of them, unless what names its connector's place is longer than 100.
    ///
    /// # Errors
    ///
    /// None that can be expected: its fields are plain.
    pub fn encode(&self) -> Result<Vec<u8>, BadProxy> {
        Ok(postcard::to_stdvec(self)?)
    }

    /// The proxy in `bytes`, which may be any; allocates no more than they have.
    ///
    /// # Errors
    ///
    /// [`BadProxy`] where they are anything else than one proxy.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadProxy> {
        match postcard::take_from_bytes(bytes)? {
            (proxy, []) => Ok(proxy),
            (_, rest) => Err(BadProxy::Trailing(rest.len())),
        }
    }
}

/// The checksum that proxies carry: XXH3, 64 bits, no seed.
pub fn checksum(object: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(object)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::Secret;
    use crate::address::Location;
    use crate::endpoint::EndpointLocation;
    use crate::file::FileLocation;
    use crate::memory::MemoryLocation;
    use crate::peer::{PeerAddress, PeerLocation};
    use crate::redis::RedisServer;
    use crate::s3::Bucket;
    use crate::scistream::{Exit, Site, Ways};
    use crate::shm::ShmLocation;

    fn addresses() -> impl Strategy<Value = Address> {
        let socket = prop_oneof![
            "[a-z/]{1,100}".prop_map(|path| PeerAddress::Unix(path.into())),
            ("[a-z.]{1,100}", any::<u16>()).prop_map(|(host, port)| PeerAddress::Tcp { host, port }),
        ];
        prop_oneof![
            ("[a-z.]{1,100}", any::<(u16, u128)>()).prop_map(|(host, (port, id))| of(&EndpointLocation {
                host,
                port,
                id: Uuid::from_u128(id)
            })),
            any::<u128>().prop_map(|space| of(&MemoryLocation { space: Uuid::from_u128(space) })),
            "/[a-z/]{0,99}".prop_map(|dir| of(&FileLocation { dir: dir.into() })),
            ("[a-z.]{1,100}", any::<u16>()).prop_map(|(host, port)| of(&RedisServer::tcp(host, port))),
            ("[a-z.-]{1,40}", "[a-z/]{0,20}", proptest::option::of("http://[a-z.]{1,25}"), "[a-z0-9-]{1,10}")
                .prop_map(|(bucket, prefix, endpoint, region)| of(&Bucket { bucket, prefix, endpoint, region })),
            (socket, any::<[u8; 16]>())
                .prop_map(|(address, secret)| of(&PeerLocation { address, secret: Secret(secret) })),
            ("[a-z.]{1,40}", "[a-z]{0,10}", proptest::collection::vec(any::<u16>(), 0..16), any::<[u8; 16]>())
                .prop_map(|(host, name, ports, secret)| {
                    let sites = vec![Site { name, exits: vec![Exit { host, ports }] }];
                    of(&Ways { sites, secret: Secret(secret) })
                }),
            ("[a-z/]{1,100}", any::<(u128, [u8; 16])>()).prop_map(|(path, (host, secret))| {
                of(&ShmLocation { path: path.into(), host: Uuid::from_u128(host), secret: Secret(secret) })
            }),
        ]
    }

    fn of<L: Location + Serialize>(location: &L) -> Address {
        Address::of(location).unwrap()
    }

    fn lifetimes() -> impl Strategy<Value = Lifetime> {
        prop_oneof![Just(Lifetime::Owned), Just(Lifetime::Kept), any::<Duration>().prop_map(Lifetime::Leased)]
    }

    proptest! {
        #[test]
        fn a_proxy_is_small_and_survives_the_wire(
            address in addresses(), id: u128, size: Option<u64>, checksum: Option<u64>, lifetime in lifetimes(), extra in 1_usize..9,
        ) {
            let key = Key { id: Uuid::from_u128(id), size };
            let proxy = Proxy { address, key, checksum, lifetime };
            let mut bytes = proxy.encode().unwrap();
            prop_assert!(bytes.len() < 200, "{} bytes", bytes.len());
            prop_assert_eq!(Proxy::decode(&bytes).unwrap(), proxy);
            prop_assert!(Proxy::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.resize(bytes.len() + extra, 0);
            prop_assert!(matches!(Proxy::decode(&bytes), Err(BadProxy::Trailing(n)) if n == extra));
        }

        #[test]
        fn any_bytes_are_a_proxy_or_an_error(bytes: Vec<u8>) {
            let _ = Proxy::decode(&bytes);
        }
    }

    #[test]
    fn a_path_that_is_not_utf8_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let dir = PathBuf::from(std::ffi::OsString::from_vec(vec![b'/', 0xff]));
        let error = Address::of(&FileLocation { dir }).unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
