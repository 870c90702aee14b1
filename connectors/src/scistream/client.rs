//! The side that resolves.

use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::patience::Patience;
use super::{Reach, Ways, site};
use crate::lock::lock;
use crate::net::{Socket, greet};
use crate::peer::{CONNECTIONS, PROTOCOL, PeerAddress, Talk};
use crate::pool::Pool;
use crate::{Connector, ConnectorConfig, ConnectorError, Key, Secret};

/// How long further listeners are tried after one that did not answer.
const ROUND: Duration = Duration::from_secs(5);

/// Reaches the objects of a [`ScistreamServer`](super::ScistreamServer) through gateways, and can't store any there.
#[derive(Debug)]
pub struct ScistreamClient {
    config: ConnectorConfig,
    talk: Talk,
    patience: Patience,
    pool: Pool<Line>,
    /// Objects that arrived, and whose server may not know that.
    unsure: Mutex<Vec<Key>>,
}

/// A connection, over all gateways.
#[derive(Debug)]
struct Line {
    socket: Socket,
    /// What arrived last: it is not known yet whether its confirmation did.
    confirmed: Option<Key>,
}

/// Listeners that lead to the same server.
#[derive(Debug)]
struct Listeners {
    connector: String,
    addresses: Vec<PeerAddress>,
    secret: Secret,
    next: AtomicUsize,
}

impl ScistreamClient {
    /// Connects by the way of this process's site ([`be_at`](super::be_at), or the environment's `PSBENCH_SITE`), over one connection
    /// for each thread in a request, 64 at most, to all of the gateway's listeners in turn.
    ///
    /// # Errors
    /// There is no way from this site, nobody at its end, or it has another secret.
    pub fn connect(ways: &Ways) -> Result<Self, ConnectorError> {
        Self::connect_from(ways, site::here())
    }

    /// As [`connect`](Self::connect), from this site.
    ///
    /// # Errors
    /// As there.
    pub fn connect_from(ways: &Ways, site: &str) -> Result<Self, ConnectorError> {
        let config = ConnectorConfig::Scistream(Reach::At(Box::new(ways.clone())));
        let unreachable = |reason| ConnectorError::Unreachable { connector: config.to_string(), reason };
        let addresses = ways.from(site).map_err(unreachable)?.listeners();
        if addresses.is_empty() {
            return Err(unreachable("its gateway has no listener".into()));
        }
        let connector = config.to_string();
        let listeners = Listeners { connector, addresses, secret: ways.secret, next: AtomicUsize::new(0) };
        let patience = Patience::default();
        // Outside the pool's own requests, which may be repeated as well.
        let first = patience.persist(|| listeners.connect())?;
        let pool = Pool::with(first, CONNECTIONS, move || listeners.connect());
        Ok(Self { talk: Talk::new(&config), config, patience, pool, unsure: Mutex::default() })
    }

    /// Asks over any line that works.
    fn ask<T>(&self, request: impl Fn(&mut Line) -> Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        self.patience.persist(|| {
            self.pool.run(|line| {
                let answer = self.confirm_anew(line).and_then(|()| request(line));
                if answer.is_err() {
                    lock(&self.unsure).extend(line.confirmed.take());
                }
                answer
            })
        })
    }

    fn ask_plainly<T>(&self, request: impl Fn(&Socket) -> Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        self.ask(|line| {
            let answer = request(&line.socket)?;
            // What was said before on this line was heard, too.
            line.confirmed = None;
            Ok(answer)
        })
    }

    /// Confirmations whose lines broke off may not have been heard.
    fn confirm_anew(&self, line: &Line) -> Result<(), ConnectorError> {
        for key in mem::take(&mut *lock(&self.unsure)) {
            self.talk.confirm(&line.socket, &key).inspect_err(|_| lock(&self.unsure).push(key))?;
        }
        Ok(())
    }
}

impl Listeners {
    /// To the next one that answers, and that one only once.
    fn connect(&self) -> Result<Line, ConnectorError> {
        let began = Instant::now();
        let first = self.next.fetch_add(1, Relaxed);
        let mut tries = 0;
        loop {
            let address = &self.addresses[(first + tries) % self.addresses.len()];
            tries += 1;
            match greet(PROTOCOL, address, &self.secret, &self.connector) {
                Ok(socket) => return Ok(Line { socket, confirmed: None }),
                Err(ConnectorError::Io { .. }) if tries < self.addresses.len() && began.elapsed() < ROUND => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Connector for ScistreamClient {
    fn put(&self, _: Bytes) -> Result<Key, ConnectorError> {
        Err(self.talk.refuse_put())
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.ask_plainly(|socket| self.talk.get(socket, key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.ask_plainly(|socket| self.talk.exists(socket, key))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.ask_plainly(|socket| self.talk.evict(socket, key))
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        self.talk.evict_batch(keys, |request| self.ask_plainly(request))
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.ask(|line| {
            let object = self.talk.borrow(&line.socket, key)?;
            line.confirmed = object.as_ref().map(|_| *key);
            if object.is_some() {
                // It is here, whatever becomes of this line: the next request over it tells.
                let _ = self.talk.confirm(&line.socket, key);
            }
            Ok(object)
        })
    }

    fn config(&self) -> &ConnectorConfig {
        &self.config
    }
}
