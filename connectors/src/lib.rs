//! Where bulk data lives.
//!
//! A [`Connector`] stores immutable objects; a [`Store`] adds to it a cache, counters and checks; a [`Proxy`] names one object and
//! says where to get it, in under 200 bytes, so that a broker or a workflow engine need not carry the object itself.
//!
//! | connector | where the bytes are | who can reach them |
//! |---|---|---|
//! | [`endpoint`] | an endpoint of ProxyStore | whoever reaches the endpoint |
//! | [`memory`] | this process | this process |
//! | [`mod@file`] | a directory | whoever mounts it |
//! | [`redis`] | a Redis server | whoever reaches the server |
//! | [`s3`] | a bucket of S3 | whoever has credentials for it |
//! | [`peer`] | the process that stored them | over TCP, or a Unix socket on the same host |
//! | [`mod@scistream`] | the process that stored them | over TCP, through two gateways of SciStream |
//! | [`shm`] | shared memory, mapped and not copied | the same user on the same host |
//! | [`multi`] | several of these, by the objects' sizes | as the part in question |
//!
//! A connector has three forms: what a user asked for ([`ConnectorSpec`]), what a process holds open ([`Connector`]), and what a proxy
//! carries of it ([`Address`]).
//!
//! A new connector is one module that implements [`Connector`] and [`Location`], a line in [`CONNECTORS`], a variant of [`ConnectorSpec`],
//! and one test that calls [`conformance::check`]. A program can bring its own without changing this crate: [`ConnectorFactory`].

mod address;
pub mod conformance;
mod connector;
mod descriptor;
pub mod endpoint;
pub mod file;
mod io;
mod key;
mod lease;
mod lifetime;
mod lock;
pub mod memory;
mod meter;
pub mod multi;
mod net;
mod object_map;
mod own;
pub mod peer;
mod pool;
mod proxy;
pub mod proxystore;
pub mod redis;
mod registry;
mod resolver;
mod runtime;
pub mod s3;
pub mod scistream;
pub mod shm;
mod spec;
mod store;

pub use address::{Address, BadAddress, Location, Shown};
pub use connector::{Connector, ConnectorError};
pub use descriptor::{CONNECTORS, Descriptor};
pub use key::{Key, KeySource};
pub use lifetime::Lifetime;
pub use meter::Reading;
pub use own::{ConnectorFactory, OWN_CONNECTORS};
pub use proxy::{BadProxy, Proxy, checksum};
pub use registry::Registry;
pub use resolver::{ResolveError, ResolveFailure, Resolved, Resolver};
pub use spec::{ConnectorSpec, Secret, is_loopback};
pub use store::{Store, StoreMetrics, StoreOptions};
