//! The side that resolves.

use std::io::{self, ErrorKind};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::patience::{Patience, Standing};
use super::{Ways, site};
use crate::lock::lock;
use crate::net::{STALL_TIMEOUT, Socket, be_let_in};
use crate::peer::{CONNECTIONS, PROTOCOL, PeerAddress, Talk};
use crate::pool::Pool;
use crate::{Address, Connector, ConnectorError, Key, Secret};

/// How long further listeners are tried after one that did not answer.
const ROUND: Duration = Duration::from_secs(5);

/// For the other end to answer a new connection, over a path on which the last one broke off. A gateway that can't reach it takes longer to
/// say so, since it may have to do with a program that is starting; whoever holds objects does not start again.
const ANSWER: Duration = Duration::from_secs(2);

/// Reaches the objects of a [`ScistreamServer`](super::ScistreamServer) through gateways, and can't store any there.
#[derive(Debug)]
pub struct ScistreamClient {
    address: Address,
    talk: Talk,
    patience: Patience,
    pool: Pool<Line>,
}

/// A connection, over all gateways.
#[derive(Debug)]
struct Line {
    socket: Socket,
    /// What was confirmed since the last answer: it is not known yet whether the server has heard that.
    confirmed: Vec<Key>,
    unsure: Unsure,
}

/// Objects that arrived, and whose server may not know that, because the lines that said so have ended.
type Unsure = Arc<Mutex<Vec<Key>>>;

/// Listeners that lead to the same server.
#[derive(Debug)]
struct Listeners {
    connector: String,
    addresses: Vec<PeerAddress>,
    secret: Secret,
    next: AtomicUsize,
    unsure: Unsure,
    standing: Arc<Standing>,
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
        let address = Address::of(ways)?;
        let connector = address.to_string();
        let unreachable = |reason| ConnectorError::Unreachable { connector: connector.clone(), reason };
        let addresses = ways.from(site).map_err(unreachable)?.listeners();
        if addresses.is_empty() {
            return Err(unreachable("its gateway has no listener".into()));
        }
        let talk = Talk::new(connector.clone());
        let (next, unsure) = (AtomicUsize::new(0), Unsure::default());
        let patience = Patience::with(&ways.secret);
        let standing = patience.standing();
        let listeners = Listeners { connector, addresses, secret: ways.secret, next, unsure, standing };
        // Outside the pool's own requests, which may be repeated as well.
        let first = patience.persist(|| listeners.connect())?;
        let pool = Pool::with(first, CONNECTIONS, move || listeners.connect());
        Ok(Self { address, talk, patience, pool })
    }

    /// Asks over any line that works.
    fn ask<T>(&self, request: impl Fn(&mut Line) -> Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        self.patience.persist(|| {
            self.pool.run(|line| {
                line.confirm_anew(&self.talk)?;
                request(line)
            })
        })
    }

    fn ask_plainly<T>(&self, request: impl Fn(&Socket) -> Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        self.ask(|line| {
            let answer = request(&line.socket)?;
            // What was said before on this line was heard, too.
            line.confirmed.clear();
            Ok(answer)
        })
    }
}

impl Line {
    /// Says what other lines may not have got through.
    fn confirm_anew(&mut self, talk: &Talk) -> Result<(), ConnectorError> {
        let unsure = mem::take(&mut *lock(&self.unsure));
        let known = self.confirmed.len();
        self.confirmed.extend(unsure);
        self.confirmed[known..].iter().try_for_each(|key| talk.confirm(&self.socket, key))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        lock(&self.unsure).append(&mut self.confirmed);
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
            match self.call(address) {
                Ok(socket) => {
                    return Ok(Line { socket, confirmed: Vec::new(), unsure: Arc::clone(&self.unsure) });
                }
                Err(ConnectorError::Io { .. }) if tries < self.addresses.len() && began.elapsed() < ROUND => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn call(&self, address: &PeerAddress) -> Result<Socket, ConnectorError> {
        let failed = |action| move |source| ConnectorError::Io { connector: self.connector.clone(), action, source };
        let socket = Socket::connect(address).map_err(failed(format!(
            "connect to the gateway at {address} (is it reachable from this host, and its control server running? psbench s2uc status tells)"
        )))?;
        let not_let_in = |source| {
            failed(format!(
                "be let in through the gateway at {address} (are the gateway at the producer's side and the process that stored the \
                 objects still running?)"
            ))(source)
        };
        let doubted = self.standing.is_doubted();
        if doubted {
            socket.set_read_timeout(Some(ANSWER)).map_err(not_let_in)?;
        }
        let socket = be_let_in(PROTOCOL, socket, &self.secret, &self.connector).map_err(|error| match error {
            // No stall of a transfer, which is tried again less often.
            ConnectorError::Io { source, .. } if doubted && is_timeout(&source) => {
                not_let_in(io::Error::new(ErrorKind::ConnectionAborted, format!("no answer within {ANSWER:?}")))
            }
            ConnectorError::Io { source, .. } => not_let_in(source),
            other => other,
        })?;
        if doubted {
            socket.set_read_timeout(Some(STALL_TIMEOUT)).map_err(not_let_in)?;
        }
        Ok(socket)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
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
            line.confirmed.clear();
            if object.is_some() {
                line.confirmed.push(*key);
                // It is here, whatever becomes of this line: the next request over it tells.
                let _ = self.talk.confirm(&line.socket, key);
            }
            Ok(object)
        })
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}
