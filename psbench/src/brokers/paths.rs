//! Paths through gateways, one to each of a broker's servers: made when somebody first wants to go there, given back together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scistream::VocabularyError;
use scistream::client::{ClientError, ConnectRequest, Gateways, HeldPath, Wishes};
use scistream::dataserver::{DataServerType, Target};
use uuid::Uuid;

use crate::environment::{GatewayPath, GatewaysInfo};

/// Which gateways, and what their paths are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPlan {
    /// The control servers; `None`: private ones of this host, which are still to be started.
    pub gateways: Option<Gateways>,
    /// Of each path, kb/s; 0: none in particular.
    pub rate: u32,
    /// What psbench's control servers are asked for beyond that.
    pub wishes: Wishes,
}

impl PathPlan {
    /// Makes a path that leads to `target`, as the producer's gateway reaches it. Waits for the gateways.
    ///
    /// # Errors
    /// They make none, or are not known yet.
    pub(crate) fn make(&self, target: &Target) -> Result<HeldPath, PathError> {
        let Self { gateways, rate, wishes } = self;
        let gateways = gateways.as_ref().ok_or(PathError::NoGateways)?;
        // One port takes any number of connections.
        let request = ConnectRequest {
            uid: Uuid::new_v4(),
            targets: vec![target.clone()],
            num_conn: 1,
            rate: *rate,
            wishes: wishes.clone(),
        };
        let path = HeldPath::make(gateways, &request)
            .map_err(|error| PathError::Gateways { target: target.clone(), source: Box::new(error) })?;
        tracing::info!("a path through gateways leads to {target}");
        Ok(path)
    }
}

impl fmt::Display for PathPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.gateways {
            Some(Gateways { producer, consumer }) => {
                write!(f, "the gateways of {} and {}", producer.address, consumer.address)
            }
            None => f.write_str("private gateways"),
        }
    }
}

/// Why there is no path to a server.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// No gateway could be told of it.
    #[error(transparent)]
    Target(#[from] VocabularyError),
    /// The gateways make none.
    #[error("no path through gateways leads to {target}: {source}")]
    Gateways {
        /// The server.
        target: Target,
        /// The gateways' reason.
        source: Box<ClientError>,
    },
    /// The stream is over.
    #[error("the paths through gateways were given back")]
    Closed,
    /// The private gateways were not started.
    #[error("its private gateways are not there yet")]
    NoGateways,
}

/// The paths of one broker.
#[derive(Debug)]
pub(super) struct Paths {
    plan: PathPlan,
    state: Mutex<State>,
    /// Whether paths may lead nowhere any more.
    doubted: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// By the server's address.
    held: BTreeMap<String, Held>,
    /// Servers to which there was a path and could not be made another one yet.
    missing: Vec<Target>,
    /// Nobody is to make another one.
    closed: bool,
}

#[derive(Debug)]
struct Held {
    target: Target,
    path: HeldPath,
}

impl Paths {
    pub(super) fn new(plan: PathPlan) -> Arc<Self> {
        Arc::new(Self { plan, state: Mutex::default(), doubted: AtomicBool::new(false) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a path to the server at `host:port` begins.
    pub(super) fn to(&self, host: &str, port: u16) -> Result<(String, u16), PathError> {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let known = self.state().held.get(&address).and_then(Held::begin);
        let listener = match known {
            Some(listener) => listener,
            None => self.keep(self.make(address.parse()?)?)?,
        };
        Ok((listener.host().to_owned(), listener.port()))
    }

    fn make(&self, target: Target) -> Result<Held, PathError> {
        let path = self.plan.make(&target)?;
        Ok(Held { target, path })
    }

    /// Keeps a path, unless there is one by now, and tells where it begins. What is not kept is given back, when the lock is free again.
    fn keep(&self, made: Held) -> Result<Target, PathError> {
        let mut state = self.state();
        if state.closed {
            return Err(PathError::Closed);
        }
        let begin = match state.held.entry(made.target.to_string()) {
            Entry::Occupied(there) => there.get().begin(),
            Entry::Vacant(place) => place.insert(made).begin(),
        };
        begin.ok_or(PathError::Closed)
    }

    /// Something went wrong behind these paths, or with them.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Makes all paths anew, where there is doubt about them: a gateway that was started again knows nothing of its former ones.
    pub(super) fn renew_if_doubted(&self) -> Result<(), PathError> {
        if !self.doubted.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let doubted = std::mem::take(&mut self.state().held);
        let targets = doubted.into_values().map(|Held { target, path }| {
            drop(path);
            target
        });
        let targets: Vec<_> = targets.collect();
        self.state().missing.extend(targets);
        loop {
            let Some(target) = self.state().missing.last().cloned() else { return Ok(()) };
            if let Err(error) = self.make(target).and_then(|made| self.keep(made)) {
                self.doubt();
                return Err(error);
            }
            self.state().missing.pop();
        }
    }

    /// Gives all back, for good.
    pub(super) fn close(&self) {
        let held = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.held)
        };
        for Held { target, path } in held.into_values() {
            if let Err(error) = path.release() {
                tracing::warn!("the path to {target} may be left at a gateway: {error}");
            }
        }
    }

    /// The gateways, for people, and where their paths begin: from here that may be out of reach.
    pub(super) fn gateways(&self) -> String {
        let begins: Vec<_> =
            self.state().held.values().filter_map(Held::begin).map(|begin| begin.to_string()).collect();
        if begins.is_empty() { self.plan.to_string() } else { format!("{}, by {}", self.plan, begins.join(" and ")) }
    }

    /// For the results; `None` where there are no gateways yet.
    pub(super) fn info(&self) -> Option<GatewaysInfo> {
        let Gateways { producer, consumer } = self.plan.gateways.as_ref()?;
        let name = |kind: Option<DataServerType>| kind.map(|kind| kind.to_string());
        let path = |held: &Held| GatewayPath {
            target: held.target.to_string(),
            listener: held.begin().map(|begin| begin.to_string()).unwrap_or_default(),
            producer_type: name(held.path.path().producer_type),
            consumer_type: name(held.path.path().consumer_type),
        };
        Some(GatewaysInfo {
            producer_s2cs: producer.address.to_string(),
            consumer_s2cs: consumer.address.to_string(),
            paths: self.state().held.values().map(path).collect(),
        })
    }
}

impl Held {
    /// `None` never: gateways give as many ports as were asked for, or no path.
    fn begin(&self) -> Option<Target> {
        self.path.listeners().first().cloned()
    }
}
