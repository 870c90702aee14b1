//! Objects on a Redis server, laid out as ProxyStore's `RedisConnector` does: the key is the bare UUID,
//! the value the object behind ProxyStore's prefix; nothing expires.
//!
//! Requests go over a pool of at most 16 blocking connections, one for each thread in a request. Small requests beyond 4 at a time
//! share one multiplexed connection, so that hundreds of workers neither open hundreds of connections nor wait for each other.
//! Large objects never share one: they would hold up everything behind them.
//!
//! Measured with 1 KB `GET`s on 2 busy cores, medians of five, in thousands a second, for a connection each, one multiplexed
//! connection, and this mixture: 1 thread 111, 27, 93; 64 threads 95, 130, 91; 256 threads 21, 79, 70.

mod cluster;
mod connection;
mod error;
mod multiplexed;
mod remedy;
mod reply;
mod rights;
mod server;
mod transport;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, Value};

use self::cluster::Nodes;
pub use self::connection::{Connection, PASSWORD, USERNAME};
use self::connection::{Credentials, has_credentials};
use self::error::Failures;
use self::multiplexed::Multiplexed;
pub use self::remedy::{remedy, said};
pub use self::reply::{ReadBulk, read_reply};
pub use self::rights::{Refused, evicts, refuse_replica, try_channel, try_list, try_objects, value_limit};
use self::rights::{TAKE, lacks_command};
pub use self::server::{BadRedisUrl, REDIS_PORT, RedisKind, RedisPlace, RedisServer, RedisTls, SENTINEL_PORT};
pub use self::transport::{Closer, Transport};
use crate::address::{Location, Shown};
use crate::descriptor::Descriptor;
use crate::pool::Pool;
use crate::proxystore::PREFIX;
use crate::{Address, Connector, ConnectorError, Key, KeySource};

/// The most blocking connections of one connector.
const CONNECTIONS: usize = 16;
/// Small requests beyond so many at a time share one connection.
const UNSHARED: usize = 4;
/// Objects up to this size (bytes) may share the multiplexed connection.
const SMALL: u64 = 16 * 1024;
/// The most commands sent ahead of their replies, which the server buffers meanwhile.
const PIPELINE: usize = 1024;
/// The largest value of a server as it is installed (its setting `proto-max-bulk-len`), bytes.
pub const DEFAULT_VALUE_LIMIT: u64 = 512 * 1024 * 1024;
/// The least that a server lets that setting be, bytes.
const LEAST_VALUE_LIMIT: u64 = 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may make no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What errors call the eviction of a batch, ahead of its first key.
const EVICT_BATCH: &str = "evict a batch from";

pub(crate) const DESCRIPTOR: Descriptor = Descriptor::of::<RedisServer>(NAME, "A Redis server");

const NAME: &str = "redis";

impl Location for RedisServer {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(Arc::new(RedisConnector::open(self, KeySource::random())?))
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn shown(&self) -> Vec<Shown> {
        let refusal = || {
            format!(
                "{self} is not the Redis of this trial, so this worker does not show it PSBENCH_REDIS_PASSWORD: store the objects in the \
                 one that --ps-host names, written in the same way"
            )
        };
        // What was read from an address can be written as one again.
        let service = Address::of(self).ok().filter(|_| has_credentials());
        service.map(|service| Shown { service, refusal: refusal() }).into_iter().collect()
    }
}

/// Stores each object as one value.
#[derive(Debug)]
pub struct RedisConnector {
    address: Address,
    keys: KeySource,
    failures: Failures,
    nodes: Nodes,
    /// Where the library connects as psbench does: without TLS, and straight to the server.
    multiplexed: Option<Multiplexed>,
    value_limit: OnceLock<u64>,
    /// Whether the server has no command that takes an object.
    lacks_take: AtomicBool,
}

impl RedisConnector {
    /// Connects to the server.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] where there is none, or none that answers, within 5 s.
    pub fn open(server: &RedisServer, keys: KeySource) -> Result<Self, ConnectorError> {
        let failures = Failures::new(server);
        let client = client(server).transpose().map_err(failures.connect())?;
        let nodes = Nodes::open(server, &failures)?;
        let multiplexed = client.map(Multiplexed::new).transpose();
        let multiplexed = multiplexed.map_err(|error| failures.connect()(error.into()))?;
        Ok(Self {
            address: Address::of(server)?,
            keys,
            failures,
            nodes,
            multiplexed,
            value_limit: OnceLock::new(),
            lacks_take: AtomicBool::new(false),
        })
    }

    /// Makes a request that may be repeated. `size`: of the object that it moves, bytes.
    fn request(&self, command: &Cmd, size: u64, action: &'static str, key: &Key) -> Result<Value, ConnectorError> {
        if let Some(shared) = self.shared(size) {
            match shared.query(command).map_err(self.failures.during(action, key)) {
                // The pool has, or makes, a connection that works.
                Err(error) if error.is_disconnect() => {}
                answer => return answer,
            }
        }
        self.nodes
            .at(key, |pool| pool.run(|connection| connection.query(command).map_err(self.failures.during(action, key))))
    }

    /// The shared connection, where a request that moves `size` bytes is to go over it.
    fn shared(&self, size: u64) -> Option<&Multiplexed> {
        let Nodes::One(pool) = &self.nodes else { return None };
        self.multiplexed.as_ref().filter(|_| size <= SMALL && pool.busy() >= UNSHARED)
    }

    fn object(&self, value: Value, action: &'static str, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        wire::object(value).map_err(|reason| self.failures.protocol(action, key, reason))
    }

    fn count(&self, value: &Value, action: &'static str, key: &Key) -> Result<u64, ConnectorError> {
        wire::count(value).map_err(|reason| self.failures.protocol(action, key, reason))
    }

    /// Refuses an object that the server would answer by closing the connection.
    fn check_size(&self, size: u64) -> Result<(), ConnectorError> {
        let prefix = PREFIX.len() as u64;
        if size + prefix <= LEAST_VALUE_LIMIT {
            return Ok(());
        }
        let limit = self.value_limit()?.saturating_sub(prefix);
        if size <= limit {
            return Ok(());
        }
        Err(ConnectorError::TooLarge {
            connector: self.address.to_string(),
            size,
            limit,
            remedy:
                "raise the server's proto-max-bulk-len (CONFIG SET, and client-query-buffer-limit with it), or use the \
                     `file` or `peer` connector"
                    .into(),
        })
    }

    /// The server's limit; asked once, and taken as the default where the server does not say.
    fn value_limit(&self) -> Result<u64, ConnectorError> {
        if let Some(limit) = self.value_limit.get() {
            return Ok(*limit);
        }
        let any = Key::named(uuid::Uuid::nil());
        let limit =
            self.nodes.of(&any)?.run(|connection| rights::value_limit(connection).map_err(self.failures.connect()))?;
        Ok(*self.value_limit.get_or_init(|| limit.unwrap_or(DEFAULT_VALUE_LIMIT)))
    }

    fn store(&self, objects: &[(Key, Bytes)]) -> Result<(), ConnectorError> {
        let set = |pool: &Pool<Connection>, group: &[&(Key, Bytes)]| {
            pool.run(|connection| wire::set_all(connection, group).map_err(self.failures.during("put", &group[0].0)))
        };
        self.nodes.at_each(objects, |(key, _)| key, set).map(drop)
    }

    /// In a cluster, where one command takes keys of one slot. Returns how many there were, less those whose slot moved meanwhile.
    fn evict_each(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        let unlink = |pool: &Pool<Connection>, group: &[&Key]| {
            let failed = || self.failures.during(EVICT_BATCH, group[0]);
            let answers = pool.run(|connection| wire::unlink_each(connection, group).map_err(failed()))?;
            answers.iter().map(|answer| self.count(answer, EVICT_BATCH, group[0])).sum::<Result<u64, _>>()
        };
        Ok(self.nodes.at_each(keys, |key| key, unlink)?.into_iter().sum())
    }
}

/// The library's, for a server that it reaches as psbench does.
fn client(server: &RedisServer) -> Option<RedisResult<Client>> {
    let address = match (&server.kind, &server.place, &server.tls) {
        (RedisKind::Server, RedisPlace::Tcp { host, port }, None) => ConnectionAddr::Tcp(host.clone(), *port),
        (RedisKind::Server, RedisPlace::Unix(path), None) => ConnectionAddr::Unix(path.clone()),
        _ => return None,
    };
    let Credentials { user, password } = Credentials::of(server);
    let mut way_in = RedisConnectionInfo::default().set_db(server.database.into());
    if let Some(password) = password {
        way_in = user.iter().fold(way_in.set_password(password), RedisConnectionInfo::set_username);
    }
    let made = address.into_connection_info().and_then(|address| {
        Client::open(address.set_tcp_settings(TcpSettings::default().set_nodelay(true)).set_redis_settings(way_in))
    });
    Some(made)
}

/// Bytes that getting an object moves; one of unknown size may be large.
fn moved(key: &Key) -> u64 {
    key.size.unwrap_or(u64::MAX)
}

/// A command on one object.
fn command(name: &str, key: &Key) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key.id.to_string());
    command
}

impl Connector for RedisConnector {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let size = object.len() as u64;
        self.check_size(size)?;
        let key = self.keys.next(size);
        if self.shared(size).is_some() {
            self.request(&wire::set(&key, &object), size, "put", &key)?;
        } else {
            self.store(&[(key, object)])?;
        }
        Ok(key)
    }

    fn put_batch(&self, objects: Vec<Bytes>) -> Result<Vec<Key>, ConnectorError> {
        objects.iter().try_for_each(|object| self.check_size(object.len() as u64))?;
        let objects: Vec<(Key, Bytes)> =
            objects.into_iter().map(|object| (self.keys.next(object.len() as u64), object)).collect();
        objects.chunks(PIPELINE).try_for_each(|chunk| self.store(chunk))?;
        Ok(objects.into_iter().map(|(key, _)| key).collect())
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let value = self.request(&command("GET", key), moved(key), "get", key)?;
        self.object(value, "get", key)
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        let value = self.request(&command("EXISTS", key), 0, "look for", key)?;
        Ok(self.count(&value, "look for", key)? > 0)
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        let value = self.request(&command("DEL", key), 0, "evict", key)?;
        Ok(self.count(&value, "evict", key)? > 0)
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        let mut evicted = 0;
        for chunk in keys.chunks(PIPELINE) {
            if self.nodes.is_cluster() {
                evicted += self.evict_each(chunk)?;
                continue;
            }
            let mut command = redis::cmd("UNLINK");
            for key in chunk {
                command.arg(key.id.to_string());
            }
            let value = self.request(&command, 0, EVICT_BATCH, &chunk[0])?;
            evicted += self.count(&value, EVICT_BATCH, &chunk[0])?;
        }
        Ok(evicted)
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let command = command(TAKE, key);
        if self.lacks_take.load(Ordering::Relaxed) {
            return self.take_in_two(key);
        }
        let answer = self.take_in_one(&command, key);
        match answer {
            Err(ConnectorError::Redis { source, .. }) if lacks_command(&source) => {
                self.lacks_take.store(true, Ordering::Relaxed);
                self.take_in_two(key)
            }
            answer => answer,
        }
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}

impl RedisConnector {
    fn take_in_one(&self, command: &Cmd, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        if let Some(shared) = self.shared(moved(key)) {
            let value = shared.query(command).map_err(self.failures.during("take", key))?;
            return self.object(value, "take", key);
        }
        self.nodes.at(key, |pool| {
            pool.take(|connection| {
                let value = connection.query(command).map_err(self.failures.during("take", key))?;
                self.object(value, "take", key)
            })
        })
    }

    /// For servers before 6.2: in one transaction, so that of two who take an object one gets it.
    fn take_in_two(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.nodes.at(key, |pool| {
            pool.take(|connection| {
                let value = wire::get_and_delete(connection, key).map_err(self.failures.during("take", key))?;
                self.object(value, "take", key)
            })
        })
    }

    /// Makes sure that a server lets its user do what a run needs, and is one to write to. Returns a warning of one that drops objects.
    ///
    /// # Errors
    /// It refuses something, in its own words.
    pub(crate) fn check(server: &RedisServer) -> Result<Option<String>, ConnectorError> {
        let failures = Failures::new(server);
        let key = uuid::Uuid::new_v4().to_string();
        let mut connection = Connection::open_for(server, &key).map_err(failures.connect())?;
        refuse_replica(&mut connection).map_err(failures.connect())?;
        try_objects(&mut connection, &key).map_err(|refused| failures.refused(refused))?;
        Ok(evicts(&mut connection).map(|warning| format!("redis {server}: {warning}")))
    }
}
