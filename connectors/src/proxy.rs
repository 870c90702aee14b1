//! The name of an object together with the way to it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ConnectorConfig, Key, Lifetime};

/// Stands for one object: what a broker or workflow engine carries in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where the object is.
    pub config: Arc<ConnectorConfig>,
    /// The object's name and size.
    pub key: Key,
    /// The object's [`checksum`], where whoever stored it made one.
    pub checksum: Option<u64>,
    /// How long the object stays.
    pub lifetime: Lifetime,
}

/// The fields of a proxy as they go over the wire: by reference when written, owned when read.
#[derive(Serialize, Deserialize)]
struct Fields<C> {
    config: C,
    key: Key,
    checksum: Option<u64>,
    lifetime: Lifetime,
}

/// Why bytes are no proxy, or a proxy can't become bytes.
#[derive(Debug, thiserror::Error)]
pub enum BadProxy {
    /// Its fields can't be read, or (where a path is not UTF-8) written.
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
    /// [`BadProxy::Fields`] where a path of its connector is not UTF-8.
    pub fn encode(&self) -> Result<Vec<u8>, BadProxy> {
        let Self { config, key, checksum, lifetime } = self;
        Ok(postcard::to_stdvec(&Fields { config: &**config, key: *key, checksum: *checksum, lifetime: *lifetime })?)
    }

    /// The proxy in `bytes`, which may be any; allocates no more than they have.
    ///
    /// # Errors
    ///
    /// [`BadProxy`] where they are anything else than one proxy.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadProxy> {
        let (fields, rest) = postcard::take_from_bytes::<Fields<ConnectorConfig>>(bytes)?;
        if !rest.is_empty() {
            return Err(BadProxy::Trailing(rest.len()));
        }
        let Fields { config, key, checksum, lifetime } = fields;
        Ok(Self { config: Arc::new(config), key, checksum, lifetime })
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
    use crate::peer::PeerAddress;
    use crate::redis::RedisServer;
    use crate::scistream::{Exit, Reach, Site, Ways};

    fn configs() -> impl Strategy<Value = ConnectorConfig> {
        let address = prop_oneof![
            "[a-z/]{1,100}".prop_map(|path| PeerAddress::Unix(path.into())),
            ("[a-z.]{1,100}", any::<u16>()).prop_map(|(host, port)| PeerAddress::Tcp { host, port }),
        ];
        prop_oneof![
            ("[a-z.]{1,100}", any::<(u16, u128)>()).prop_map(|(host, (port, id))| ConnectorConfig::Endpoint {
                host,
                port,
                id: Uuid::from_u128(id)
            }),
            any::<(u128, u64)>()
                .prop_map(|(space, limit)| ConnectorConfig::Memory { space: Uuid::from_u128(space), limit }),
            "/[a-z/]{0,99}".prop_map(|dir| ConnectorConfig::File { dir: dir.into() }),
            ("[a-z.]{1,100}", any::<u16>())
                .prop_map(|(host, port)| ConnectorConfig::Redis(RedisServer::tcp(host, port))),
            ("[a-z.-]{1,40}", "[a-z/]{0,20}", proptest::option::of("http://[a-z.]{1,25}"), "[a-z0-9-]{1,10}").prop_map(
                |(bucket, prefix, endpoint, region)| ConnectorConfig::S3 { bucket, prefix, endpoint, region }
            ),
            (address, any::<[u8; 16]>(), any::<u64>()).prop_map(|(address, secret, limit)| ConnectorConfig::Peer {
                address,
                secret: Secret(secret),
                limit
            }),
            ("[a-z.]{1,40}", "[a-z]{0,10}", proptest::collection::vec(any::<u16>(), 0..16), any::<([u8; 16], u64)>())
                .prop_map(|(host, name, ports, (secret, limit))| {
                    let sites = vec![Site { name, exits: vec![Exit { host, ports }] }];
                    ConnectorConfig::Scistream(Reach::At(Box::new(Ways { sites, secret: Secret(secret), limit })))
                }),
            ("[a-z/]{1,100}", any::<(u128, [u8; 16], u64)>()).prop_map(|(path, (host, secret, limit))| {
                ConnectorConfig::Shm { path: path.into(), host: Uuid::from_u128(host), secret: Secret(secret), limit }
            }),
        ]
    }

    fn lifetimes() -> impl Strategy<Value = Lifetime> {
        prop_oneof![Just(Lifetime::Owned), Just(Lifetime::Kept), any::<Duration>().prop_map(Lifetime::Leased)]
    }

    proptest! {
        #[test]
        fn a_proxy_is_small_and_survives_the_wire(
            config in configs(), id: u128, size: Option<u64>, checksum: Option<u64>, lifetime in lifetimes(), extra in 1_usize..9,
        ) {
            let key = Key { id: Uuid::from_u128(id), size };
            let proxy = Proxy { config: Arc::new(config), key, checksum, lifetime };
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
        let key = Key::named(Uuid::nil());
        let proxy =
            Proxy { config: Arc::new(ConnectorConfig::File { dir }), key, checksum: None, lifetime: Lifetime::Kept };
        assert!(matches!(proxy.encode(), Err(BadProxy::Fields(_))));
    }
}
