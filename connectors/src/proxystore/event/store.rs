//! Which of ProxyStore's stores holds an object: its configuration and key, as those of psbench's connectors.

use std::path::Path;

use serde::Serialize;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::clip;
use crate::address::Location;
use crate::endpoint::{self, EndpointLocation};
use crate::file::FileLocation;
use crate::proxystore::pickle::{Global, Value, Writer};
use crate::redis::RedisServer;
use crate::{Address, ConnectorSpec, Key};

const REDIS: &str = "proxystore.connectors.redis.RedisConnector";
const REDIS_KEY: &str = "proxystore.connectors.redis.RedisKey";
const FILE: &str = "proxystore.connectors.file.FileConnector";
const FILE_KEY: &str = "proxystore.connectors.file.FileKey";
const ENDPOINT: &str = "proxystore.connectors.endpoint.EndpointConnector";
const ENDPOINT_KEY: &str = "proxystore.connectors.endpoint.EndpointKey";
const MULTI: &str = "proxystore.connectors.multi.MultiConnector";
const MULTI_KEY: &str = "proxystore.connectors.multi.MultiKey";

const NAME: &str = "name";
const CONNECTOR: &str = "connector";
const KIND: &str = "kind";
const OPTIONS: &str = "options";
const HOSTNAME: &str = "hostname";
const PORT: &str = "port";
const STORE_DIR: &str = "store_dir";
const CLEAR: &str = "clear";
const ENDPOINTS: &str = "endpoints";

/// The longest host name or path (`PATH_MAX`), bytes.
const MAX_PLACE: usize = 4096;

/// What a new object of pydantic has of its fields.
const FIELDS: &str = "__dict__";

/// A connector whose objects ProxyStore can't reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ProxyStore can't reach the objects of {0}; there are: endpoint, file, multi (of these), redis")]
pub struct NotProxyStores(String);

/// A connector that ProxyStore has, too.
pub(super) enum Theirs {
    Redis(RedisServer),
    File(FileLocation),
    Endpoint(EndpointLocation),
}

/// Whether ProxyStore reaches the objects of this connector.
///
/// # Errors
///
/// It does not; those that it does reach are named.
pub fn is_proxystores(spec: &ConnectorSpec) -> Result<(), NotProxyStores> {
    match spec {
        ConnectorSpec::Endpoint(_) => Ok(()),
        ConnectorSpec::Multi { parts, .. } => parts.iter().try_for_each(|part| is_proxystores(&part.spec)),
        ConnectorSpec::Redis(server) => check_server(server),
        ConnectorSpec::File { dir } => check_dir(dir),
        other => Err(NotProxyStores(other.name().into())),
    }
}

fn check_server(server: &RedisServer) -> Result<(), NotProxyStores> {
    plain(server)
        .map(drop)
        .ok_or_else(|| NotProxyStores(format!("{server} (its connector takes a host and a port alone)")))
}

fn check_dir(dir: &Path) -> Result<(), NotProxyStores> {
    dir.to_str().map(drop).ok_or_else(|| NotProxyStores(format!("{} (the path is not UTF-8)", dir.display())))
}

/// Host and port of a server that takes no more than those to reach.
fn plain(server: &RedisServer) -> Option<(&str, u16)> {
    let (host, port) = server.address()?;
    (*server == RedisServer::tcp(host, port)).then_some((host, port))
}

impl Theirs {
    /// What is at an address. One of several connectors keeps no object: its proxies name the part.
    pub(super) fn at(address: &Address) -> Result<Self, NotProxyStores> {
        if let Some(server) = address.location_of(crate::redis::DESCRIPTOR.name) {
            check_server(&server)?;
            return Ok(Self::Redis(server));
        }
        if let Some(endpoint) = address.location_of(endpoint::DESCRIPTOR.name) {
            return Ok(Self::Endpoint(endpoint));
        }
        match address.location_of(crate::file::DESCRIPTOR.name) {
            Some(directory) => Ok(Self::File(directory)),
            None => Err(NotProxyStores(address.name().into())),
        }
    }

    /// The Python types of a connector that keeps an object, and of its keys.
    pub(super) fn types(&self) -> (&'static str, &'static str) {
        match self {
            Self::Redis(_) => (REDIS, REDIS_KEY),
            Self::File(_) => (FILE, FILE_KEY),
            Self::Endpoint(_) => (ENDPOINT, ENDPOINT_KEY),
        }
    }
}

/// Writes the key of an object: the fields of its type.
pub(super) fn write_key(writer: &mut Writer, connector: &Theirs, key: &Key) {
    writer.str(&key.to_string());
    if let Theirs::Endpoint(EndpointLocation { id, .. }) = connector {
        writer.str(&id.to_string());
    }
}

/// Writes the `StoreConfig` of a connector, which is at this address, as a call that makes it.
pub(super) fn write(writer: &mut Writer, address: &Address, connector: &Theirs) {
    writer.call(Global::ValidateStoreConfig, |writer| {
        writer.dict(|writer| {
            writer.str(NAME);
            // A process has one store of each name: so stores of different places need different ones.
            writer.str(&format!("psbench {address}"));
            writer.str(CONNECTOR);
            writer.dict(|writer| {
                writer.str(KIND);
                writer.str(connector.types().0);
                writer.str(OPTIONS);
                writer.dict(|writer| options(writer, connector));
            });
        });
    });
}

fn options(writer: &mut Writer, connector: &Theirs) {
    match connector {
        Theirs::Redis(server) => {
            let (host, port) = plain(server).unwrap_or_default();
            writer.str(HOSTNAME);
            writer.str(host);
            writer.str(PORT);
            writer.int(port.into());
        }
        Theirs::File(FileLocation { dir }) => {
            writer.str(STORE_DIR);
            writer.str(&dir.to_string_lossy());
        }
        Theirs::Endpoint(EndpointLocation { id, .. }) => {
            writer.str(ENDPOINTS);
            writer.list(|writer| writer.str(&id.to_string()));
            return;
        }
    }
    // Else the first consumer that closes its store deletes the objects of all.
    writer.str(CLEAR);
    writer.bool(false);
}

/// Where an object is: the connector that a `StoreConfig` describes, or the part of it, and the object's name; what is wrong where there is
/// none such. `raw` are the fields of its key.
pub(super) fn read(config: Value<'_>, key_type: &str, raw: Value<'_>) -> Result<(Address, Uuid), String> {
    let fields = fields(config, [Global::StoreConfig, Global::ValidateStoreConfig])?;
    let connector = fields.get(CONNECTOR).ok_or("its store has no connector")?;
    let fields = self::fields(connector, [Global::ConnectorConfig, Global::ValidateConnectorConfig])?;
    let kind = fields.get(KIND).and_then(Value::as_str).ok_or("its connector has no kind")?;
    let options = fields.get(OPTIONS).ok_or("its connector has no options")?;
    if !is_kind(kind, MULTI) {
        return read_one(kind, options, key_type, raw);
    }
    expect_type(key_type, MULTI_KEY)?;
    let Some([name, key]) = raw.elements().and_then(fixed) else { return Err("its key is not of two fields".into()) };
    // To compare a long text with each of a store's names would take for ever.
    let part = name
        .as_str()
        .filter(|name| name.len() <= MAX_PLACE)
        .and_then(|name| options.get(name))
        .ok_or("no connector of its store has its key's name")?;
    let Some([kind, options, _policy]) = part.elements().and_then(fixed) else {
        return Err("a connector of its store is not described by three fields".into());
    };
    let kind = kind.as_str().ok_or("a connector of its store has no kind")?;
    let (module, class) = key.foreign().ok_or("its key's own key is none of ProxyStore's")?;
    let fields = key.arguments().ok_or("its key's own key has no fields")?;
    read_one(kind, options, &format!("{}.{}", clip(module), clip(class)), fields)
}

/// So many values, and no more.
fn fixed<'a, const N: usize>(values: impl ExactSizeIterator<Item = Value<'a>>) -> Option<[Value<'a>; N]> {
    (values.len() == N).then(|| values.collect::<Vec<_>>().try_into().ok())?
}

/// As [`read`], where one connector keeps all objects.
fn read_one(kind: &str, options: Value<'_>, key_type: &str, raw: Value<'_>) -> Result<(Address, Uuid), String> {
    let text = |option: &str| options.get(option).and_then(Value::as_str).filter(|text| text.len() <= MAX_PLACE);
    let missing = |option: &str| format!("its {kind} has no usable `{option}`");
    if is_kind(kind, REDIS) {
        let host = text(HOSTNAME).ok_or_else(|| missing(HOSTNAME))?;
        let port = options.get(PORT).and_then(Value::as_int).and_then(|port| u16::try_from(port).ok());
        let server = RedisServer::tcp(host, port.ok_or_else(|| missing(PORT))?);
        return Ok((at(&server)?, read_name(key_type, REDIS_KEY, raw)?));
    }
    if is_kind(kind, FILE) {
        let dir = text(STORE_DIR).ok_or_else(|| missing(STORE_DIR))?.into();
        return Ok((at(&FileLocation { dir })?, read_name(key_type, FILE_KEY, raw)?));
    }
    if is_kind(kind, ENDPOINT) {
        expect_type(key_type, ENDPOINT_KEY)?;
        let Some([name, endpoint]) = raw.elements().and_then(fixed) else {
            return Err("its key is not of two fields".into());
        };
        // Where ProxyStore's directory is on this host is not for others to say.
        return Ok((at(&endpoint::locate(read_uuid(endpoint)?)?)?, read_uuid(name)?));
    }
    Err(format!(
        "it is in a store with the connector {}; there are: {REDIS}, {FILE}, {ENDPOINT}, and {MULTI} of these",
        clip(kind)
    ))
}

fn at<L: Location + Serialize>(location: &L) -> Result<Address, String> {
    Address::of(location).map_err(|error| error.to_string())
}

/// The fields of a configuration: a dictionary, the one that a call makes it of, or the state of a new object.
fn fields<'a>(config: Value<'a>, globals: [Global; 2]) -> Result<Value<'a>, String> {
    if config.entries().is_some() {
        return Ok(config);
    }
    let object = config.as_object().filter(|object| globals.contains(&object.global));
    let fields = object.and_then(|object| match object.state {
        Some(state) => state.get(FIELDS),
        None => object.args.elements().and_then(|mut arguments| arguments.next()),
    });
    fields.ok_or_else(|| format!("its store is described by {}, not a configuration", config.type_name()))
}

/// ProxyStore takes the path of a connector, and for its own also the name of the class, with or without `Connector`, in any case.
fn is_kind(kind: &str, path: &str) -> bool {
    let class = path.rsplit('.').next().unwrap_or(path);
    let short = class.strip_suffix("Connector").unwrap_or(class);
    kind == path || kind.eq_ignore_ascii_case(class) || kind.eq_ignore_ascii_case(short)
}

fn expect_type(key_type: &str, expected: &str) -> Result<(), String> {
    if key_type == expected { Ok(()) } else { Err(format!("its key is a {}, not a {expected}", clip(key_type))) }
}

/// The object's name in a key that has nothing else; what is wrong where it is no UUID.
fn read_name(key_type: &str, expected: &str, raw: Value<'_>) -> Result<Uuid, String> {
    expect_type(key_type, expected)?;
    let parts = raw.elements().ok_or_else(|| format!("its key is {}, not a list", raw.type_name()))?;
    let Some([name]) = fixed(parts) else { return Err("its key is not one text".into()) };
    read_uuid(name)
}

fn read_uuid(value: Value<'_>) -> Result<Uuid, String> {
    let name = value.as_str().ok_or("its key is not one text")?;
    // Written in another way it would name another object. The parser reads all of what it refuses, to say why.
    Some(name)
        .filter(|name| name.len() == Hyphenated::LENGTH)
        .and_then(|name| Uuid::parse_str(name).ok())
        .filter(|id| id.to_string() == name)
        .ok_or_else(|| format!("its key `{}` is no UUID", clip(name)))
}
