//! Which node of a cluster has a key.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use crc::{CRC_16_XMODEM, Crc};
use redis::{RedisError, RedisResult, Value};

use super::CONNECTIONS;
use super::connection::Connection;
use super::error::Failures;
use super::server::{RedisKind, RedisServer};
use crate::lock::lock;
use crate::pool::Pool;
use crate::{ConnectorError, Key};

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

type Address = (String, u16);

/// The server of all keys, or the nodes of a cluster.
#[derive(Debug)]
pub(super) enum Nodes {
    One(Arc<Pool<Connection>>),
    Cluster(Cluster),
}

#[derive(Debug)]
pub(super) struct Cluster {
    server: RedisServer,
    failures: Failures,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    slots: Vec<(u16, u16, Address)>,
    pools: BTreeMap<Address, Arc<Pool<Connection>>>,
}

impl Nodes {
    /// Connects once.
    pub(super) fn open(server: &RedisServer, failures: &Failures) -> Result<Self, ConnectorError> {
        if server.kind != RedisKind::Cluster {
            return pool(server.clone(), failures.clone()).map(|pool| Self::One(Arc::new(pool)));
        }
        let slots = slots(server).map_err(failures.connect())?;
        let known = Mutex::new(Known { slots, pools: BTreeMap::new() });
        Ok(Self::Cluster(Cluster { server: server.clone(), failures: failures.clone(), known }))
    }

    /// Connections to where this key is.
    pub(super) fn of(&self, key: &Key) -> Result<Arc<Pool<Connection>>, ConnectorError> {
        match self {
            Self::One(pool) => Ok(Arc::clone(pool)),
            Self::Cluster(cluster) => cluster.of(&key.id.to_string()),
        }
    }

    /// Makes a request at the node of this key, and again where it has moved meanwhile.
    pub(super) fn at<T>(
        &self,
        key: &Key,
        mut request: impl FnMut(&Pool<Connection>) -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        match (request(&*self.of(key)?), self) {
            (Err(error), Self::Cluster(cluster)) if has_moved(&error) => {
                lock(&cluster.known).slots = slots(&cluster.server).map_err(cluster.failures.connect())?;
                request(&*self.of(key)?)
            }
            (answer, _) => answer,
        }
    }

    /// Makes one request for all items whose keys one node has, and one for each item of those that have moved meanwhile: what was done
    /// of them before is done again.
    pub(super) fn at_each<'a, T, R>(
        &self,
        items: &'a [T],
        key: impl Fn(&T) -> &Key,
        mut request: impl FnMut(&Pool<Connection>, &[&'a T]) -> Result<R, ConnectorError>,
    ) -> Result<Vec<R>, ConnectorError> {
        let mut answers = Vec::new();
        for group in self.group(items, &key) {
            let Some(first) = group.first() else { continue };
            match request(&*self.of(key(first))?, &group) {
                Err(error) if has_moved(&error) => {
                    for item in group {
                        answers.push(self.at(key(item), |pool| request(pool, &[item]))?);
                    }
                }
                answer => answers.push(answer?),
            }
        }
        Ok(answers)
    }

    /// Items in groups that one node each has the keys of.
    fn group<'a, T>(&self, items: &'a [T], key: impl Fn(&T) -> &Key) -> Vec<Vec<&'a T>> {
        let Self::Cluster(cluster) = self else { return vec![items.iter().collect()] };
        let known = lock(&cluster.known);
        let mut groups: BTreeMap<Option<&Address>, Vec<&T>> = BTreeMap::new();
        for item in items {
            groups.entry(node_of(&known.slots, &key(item).id.to_string())).or_default().push(item);
        }
        groups.into_values().collect()
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

fn has_moved(error: &ConnectorError) -> bool {
    matches!(error, ConnectorError::Redis { source, .. } if source.code() == Some("MOVED"))
}

impl Cluster {
    fn of(&self, key: &str) -> Result<Arc<Pool<Connection>>, ConnectorError> {
        let mut known = lock(&self.known);
        let address = node_of(&known.slots, key).cloned();
        let address = address.ok_or_else(|| self.failures.connect()(unserved(key)))?;
        if let Some(pool) = known.pools.get(&address) {
            return Ok(Arc::clone(pool));
        }
        let node = self.server.moved_to(address.0.clone(), address.1);
        let pool = Arc::new(pool(node, self.failures.clone())?);
        known.pools.insert(address, Arc::clone(&pool));
        Ok(pool)
    }
}

fn pool(server: RedisServer, failures: Failures) -> Result<Pool<Connection>, ConnectorError> {
    Pool::new(CONNECTIONS, move || Connection::open(&server).map_err(failures.connect()))
}

/// The node of a cluster that has this key.
pub(super) fn node(server: &RedisServer, key: &str) -> RedisResult<RedisServer> {
    let slots = slots(server)?;
    let (host, port) = node_of(&slots, key).cloned().ok_or_else(|| unserved(key))?;
    Ok(server.moved_to(host, port))
}

fn unserved(key: &str) -> RedisError {
    io::Error::new(io::ErrorKind::NotFound, format!("no node of the cluster serves slot {}", slot(key.as_bytes())))
        .into()
}

fn node_of<'a>(slots: &'a [(u16, u16, Address)], key: &str) -> Option<&'a Address> {
    let slot = slot(key.as_bytes());
    slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|(_, _, address)| address)
}

/// Ranges of slots and their masters, as a node tells; one that does not know its own host is where it was asked.
fn slots(server: &RedisServer) -> RedisResult<Vec<(u16, u16, Address)>> {
    let (mut connection, (asked, _)) = any(server)?;
    let Value::Array(ranges) = connection.query(redis::cmd("CLUSTER").arg("SLOTS"))? else { return Ok(Vec::new()) };
    let read = |range: Value| {
        let Value::Array(fields) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &fields[..] else { return None };
        let [host, Value::Int(port), ..] = &master[..] else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() && host != b"?" => String::from_utf8_lossy(host).into_owned(),
            _ => asked.clone(),
        };
        Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, (host, u16::try_from(*port).ok()?)))
    };
    Ok(ranges.into_iter().filter_map(read).collect())
}

/// The first node that answers, and its address.
pub(super) fn any(server: &RedisServer) -> RedisResult<(Connection, Address)> {
    let mut last = None;
    for (host, port) in server.addresses() {
        match Connection::open(&server.moved_to(host.into(), port)) {
            Ok(connection) => return Ok((connection, (host.to_owned(), port))),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a cluster has no Unix socket").into()))
}

/// The slot of a key: CRC-16/XMODEM of it, or of what stands in its first braces (Redis Cluster specification, "Hash tags").
fn slot(key: &[u8]) -> u16 {
    let open = key.iter().position(|byte| *byte == b'{');
    let tag = open.and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').map(|close| &rest[..close]).filter(|tag| !tag.is_empty())
    });
    CRC.checksum(tag.unwrap_or(key)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"a{foo}b{bar}"), 12_182);
        assert_ne!(slot(b"{}foo"), slot(b"{}bar"), "empty braces stand for nothing");
    }
}
