//! Which of ProxyStore's stores holds an object: its configuration and key, as those of psbench's connectors.

use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::clip;
use crate::ConnectorConfig;
use crate::proxystore::pickle::{Global, Value, Writer};

const REDIS: &str = "proxystore.connectors.redis.RedisConnector";
const REDIS_KEY: &str = "proxystore.connectors.redis.RedisKey";
const FILE: &str = "proxystore.connectors.file.FileConnector";
const FILE_KEY: &str = "proxystore.connectors.file.FileKey";

const NAME: &str = "name";
const CONNECTOR: &str = "connector";
const KIND: &str = "kind";
const OPTIONS: &str = "options";
const HOSTNAME: &str = "hostname";
const PORT: &str = "port";
const STORE_DIR: &str = "store_dir";
const CLEAR: &str = "clear";

/// The longest host name or path (`PATH_MAX`), bytes.
const MAX_PLACE: usize = 4096;

/// What a new object of pydantic has of its fields.
const FIELDS: &str = "__dict__";

/// A connector whose objects ProxyStore can't reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ProxyStore can't reach the objects of {0}; there are: file, redis")]
pub struct NotProxyStores(String);

/// Whether ProxyStore reaches the objects of this connector.
///
/// # Errors
///
/// It does not; those that it does reach are named.
pub fn is_proxystores(config: &ConnectorConfig) -> Result<(), NotProxyStores> {
    let refused = |what: String| Err(NotProxyStores(what));
    match config {
        ConnectorConfig::Redis { .. } => Ok(()),
        ConnectorConfig::File { dir } if dir.to_str().is_some() => Ok(()),
        ConnectorConfig::File { dir } => refused(format!("{} (the path is not UTF-8)", dir.display())),
        other => refused(other.name().into()),
    }
}

/// The Python type of this connector's keys.
pub(super) fn key_type(config: &ConnectorConfig) -> Result<&'static str, NotProxyStores> {
    is_proxystores(config).map(|()| if matches!(config, ConnectorConfig::Redis { .. }) { REDIS_KEY } else { FILE_KEY })
}

/// Writes the `StoreConfig` of a connector, as a call that makes it.
pub(super) fn write(writer: &mut Writer, config: &ConnectorConfig) {
    writer.call(Global::ValidateStoreConfig, |writer| {
        writer.dict(|writer| {
            writer.str(NAME);
            // A process has one store of each name: so stores of different places need different ones.
            writer.str(&format!("psbench {config}"));
            writer.str(CONNECTOR);
            writer.dict(|writer| {
                writer.str(KIND);
                writer.str(if matches!(config, ConnectorConfig::Redis { .. }) { REDIS } else { FILE });
                writer.str(OPTIONS);
                writer.dict(|writer| options(writer, config));
            });
        });
    });
}

fn options(writer: &mut Writer, config: &ConnectorConfig) {
    match config {
        ConnectorConfig::Redis { host, port } => {
            writer.str(HOSTNAME);
            writer.str(host);
            writer.str(PORT);
            writer.int((*port).into());
        }
        ConnectorConfig::File { dir } => {
            writer.str(STORE_DIR);
            writer.str(&dir.to_string_lossy());
        }
        _ => {}
    }
    // Else the first consumer that closes its store deletes the objects of all.
    writer.str(CLEAR);
    writer.bool(false);
}

/// The connector that a `StoreConfig` describes; what is wrong where there is none such.
pub(super) fn read(config: Value<'_>) -> Result<ConnectorConfig, String> {
    let fields = fields(config, [Global::StoreConfig, Global::ValidateStoreConfig])?;
    let connector = fields.get(CONNECTOR).ok_or("its store has no connector")?;
    let fields = self::fields(connector, [Global::ConnectorConfig, Global::ValidateConnectorConfig])?;
    let kind = fields.get(KIND).and_then(Value::as_str).ok_or("its connector has no kind")?;
    let options = fields.get(OPTIONS).ok_or("its connector has no options")?;
    let text = |option: &str| options.get(option).and_then(Value::as_str).filter(|text| text.len() <= MAX_PLACE);
    let missing = |option: &str| format!("its {kind} has no usable `{option}`");
    if is_kind(kind, REDIS) {
        let host = text(HOSTNAME).ok_or_else(|| missing(HOSTNAME))?;
        let port = options.get(PORT).and_then(Value::as_int).and_then(|port| u16::try_from(port).ok());
        return Ok(ConnectorConfig::Redis { host: host.into(), port: port.ok_or_else(|| missing(PORT))? });
    }
    if is_kind(kind, FILE) {
        return Ok(ConnectorConfig::File { dir: text(STORE_DIR).ok_or_else(|| missing(STORE_DIR))?.into() });
    }
    Err(format!("it is in a store with the connector {}; there are: {REDIS}, {FILE}", clip(kind)))
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

/// The object's name in an event's raw key of this connector; what is wrong where it is no UUID.
pub(super) fn read_key(config: &ConnectorConfig, key_type: &str, raw: Value<'_>) -> Result<Uuid, String> {
    let expected = self::key_type(config).map_err(|error| error.to_string())?;
    if key_type != expected {
        return Err(format!("its key is a {}, not a {expected}", clip(key_type)));
    }
    let mut parts = raw.elements().ok_or_else(|| format!("its key is {}, not a list", raw.type_name()))?;
    let (Some(name), None) = (parts.next().and_then(Value::as_str), parts.next()) else {
        return Err("its key is not one text".into());
    };
    // Written in another way it would name another object. The parser reads all of what it refuses, to say why.
    Some(name)
        .filter(|name| name.len() == Hyphenated::LENGTH)
        .and_then(|name| Uuid::parse_str(name).ok())
        .filter(|id| id.to_string() == name)
        .ok_or_else(|| format!("its key `{}` is no UUID", clip(name)))
}
