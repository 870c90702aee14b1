//! How objects behind gateways are reached.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use ::scistream::client::{ConnectRequest, GatewayAccess, Gateways, Wishes};
use ::scistream::dataserver::Target;
use uuid::Uuid;

use super::site::Prefix;
use super::{NAME, ScistreamClient, patience};
use crate::address::Location;
use crate::peer::PeerAddress;
use crate::{Connector, ConnectorError, KeySource, Secret, is_loopback};

/// Which gateways are to lead to the objects of whoever stores.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reach {
    /// Private gateways of this host, which are still to be [named](crate::ConnectorSpec::through).
    Private(Box<Route>),
    /// These gateways, with what they want to see.
    Through(Box<Crossing>),
}

/// What is asked of gateways, whichever they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Ports, at each gateway.
    pub num_conn: u16,
    /// In kb/s; 0: none in particular.
    pub rate: u32,
    /// What psbench's control servers can be asked for beyond that.
    pub wishes: Wishes,
    /// Where the objects are served, over TCP; `None`: at the address of this host that the producer's gateway reaches.
    pub listen: Option<PeerAddress>,
    /// The most bytes of objects that are held.
    pub limit: u64,
    /// Random: whoever sees the names of objects is not to know those of the paths, of which the reference's stunnel makes its key.
    pub salt: Uuid,
}

/// A route and its gateways.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Crossing {
    /// What is asked of them.
    pub route: Route,
    /// Whether they are psbench's own: then nobody named them.
    pub private: bool,
    /// The control server at the side of whoever stores.
    pub producer: GatewayAccess,
    /// Those at the workers' sides: a path is made to each.
    pub consumers: Vec<Consumer>,
}

/// A site of workers, by its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Consumer {
    /// The site's name; empty for workers that are at none in particular.
    pub site: String,
    /// Its control server.
    pub gateway: GatewayAccess,
}

/// Ways to the objects of one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ways {
    /// From each site.
    pub sites: Vec<Site>,
    /// What a client must know to be served.
    pub secret: Secret,
}

/// Where workers of one site connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Site {
    /// The site's name; empty for workers that are at none in particular.
    pub name: String,
    /// Its gateway's listeners.
    pub exits: Vec<Exit>,
}

/// Listeners at one address of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exit {
    /// Host name or address.
    pub host: String,
    /// TCP ports.
    pub ports: Vec<u16>,
}

impl Reach {
    /// What is asked of the gateways.
    pub fn route(&self) -> &Route {
        match self {
            Self::Private(route) => route,
            Self::Through(crossing) => &crossing.route,
        }
    }

    /// Whether objects are at addresses that mean each host itself.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Private(_) => true,
            Self::Through(crossing) => {
                crossing.consumers.iter().any(|consumer| is_loopback(consumer.gateway.address.host()))
            }
        }
    }
}

impl Crossing {
    /// Private gateways of this host.
    pub(crate) fn between(route: &Route, gateways: &Gateways) -> Self {
        let consumer = Consumer { site: String::new(), gateway: gateways.consumer.clone() };
        Self { route: route.clone(), private: true, producer: gateways.producer.clone(), consumers: vec![consumer] }
    }

    pub(super) fn gateways(&self, consumer: &Consumer) -> Gateways {
        Gateways { producer: self.producer.clone(), consumer: consumer.gateway.clone() }
    }

    /// Whoever knows the route, and where the names of the objects start, can name the paths to them.
    pub(super) fn uid(&self, keys: &KeySource, consumer: &Consumer) -> Uuid {
        let name = [&self.route.salt.as_bytes()[..], keys.start().as_bytes(), consumer.site.as_bytes()].concat();
        // As random as the salt.
        uuid::Builder::from_random_bytes(xxhash_rust::xxh3::xxh3_128(&name).to_be_bytes()).into_uuid()
    }

    pub(super) fn request(&self, uid: Uuid, target: Target) -> ConnectRequest {
        let Route { num_conn, rate, ref wishes, .. } = self.route;
        ConnectRequest { uid, targets: vec![target], num_conn, rate, wishes: wishes.clone() }
    }
}

impl Site {
    pub(super) fn new(name: &str, listeners: &[Target]) -> Self {
        let mut exits: Vec<Exit> = Vec::new();
        for listener in listeners {
            match exits.last_mut().filter(|exit| exit.host == listener.host()) {
                Some(exit) => exit.ports.push(listener.port()),
                None => exits.push(Exit { host: listener.host().to_owned(), ports: vec![listener.port()] }),
            }
        }
        Self { name: name.to_owned(), exits }
    }

    /// One after the other.
    pub(super) fn listeners(&self) -> Vec<PeerAddress> {
        let of = |exit: &Exit| {
            let host = exit.host.clone();
            exit.ports.clone().into_iter().map(move |port| PeerAddress::Tcp { host: host.clone(), port })
        };
        self.exits.iter().flat_map(of).collect()
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(_) => f.write_str("through private gateways"),
            Self::Through(crossing) => {
                let ends: Vec<_> = crossing.consumers.iter().map(ToString::to_string).collect();
                write!(f, "through {} and {}", crossing.producer.address, ends.join(", "))
            }
        }
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sites: Vec<_> = self.sites.iter().map(ToString::to_string).collect();
        write!(f, "at {}", sites.join(", "))
    }
}

impl Location for Ways {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(Arc::new(ScistreamClient::connect(self)?))
    }

    fn doubt(&self) {
        patience::doubt(&self.secret);
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Prefix(&self.site), self.gateway.address)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listeners: Vec<_> = self.listeners().iter().map(ToString::to_string).collect();
        write!(f, "{}{}", Prefix(&self.name), listeners.join(" "))
    }
}
