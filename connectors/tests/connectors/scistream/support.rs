//! Gateways of a test's own, each at an address of its own, so that no other test or program has its ports.

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::scistream::{Consumer, Crossing, Reach, Route, Ways};
use psbench_connectors::{Connector, ConnectorSpec, KeySource};
use scistream::auth::Anonymous;
use scistream::client::{GatewayAccess, Wishes};
use scistream::dataserver::{DataServerSettings, DataServerType};
use scistream::{ControlConfig, ControlServer, DataPlane};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{PATIENCE, own_address};

/// Serves in a thread of its own until it is stopped.
pub(crate) struct Gateway {
    pub(crate) server: ControlServer,
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Gateway {
    pub(crate) fn start(kind: DataServerType) -> Self {
        let directory = TempDir::new().unwrap();
        let plane = Arc::new(DataPlane::new(NonZero::new(1)).unwrap());
        let mut config = ControlConfig::new(DataServerSettings { plane, directory: directory.path().into() });
        config.listener_ip = own_address();
        config.ports = "5100-5119".parse().unwrap();
        config.hello_timeout = PATIENCE;
        config.default_type = kind;
        let shutdown = CancellationToken::new();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn({
            let shutdown = shutdown.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let server = ControlServer::new(config, Arc::new(Anonymous)).unwrap();
                    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                    tell.send((server.clone(), listener.local_addr().unwrap())).unwrap();
                    server.serve(listener, None, shutdown).await.unwrap();
                });
            }
        });
        let (server, address) = told.recv_timeout(PATIENCE).unwrap();
        Self { server, address, shutdown, thread: Some(thread), _directory: directory }
    }

    pub(crate) fn access(&self) -> GatewayAccess {
        access(self.address)
    }

    pub(crate) fn sessions(&self) -> usize {
        self.server.sessions().len()
    }

    /// All its sessions end with it.
    pub(crate) fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn access(address: SocketAddr) -> GatewayAccess {
    GatewayAccess { time_limit: PATIENCE, ..GatewayAccess::plain(address.to_string().parse().unwrap()) }
}

/// What is stored there goes through these gateways; with several consumers, each a site by its name.
pub(crate) fn crossing(producer: GatewayAccess, consumers: Vec<(&str, GatewayAccess)>) -> Crossing {
    let consumer = |(site, gateway): (&str, _)| Consumer { site: site.to_owned(), gateway };
    let (wishes, salt) = (Wishes::default(), Uuid::nil());
    let route = Route { num_conn: 1, rate: 0, wishes, listen: None, limit: 1 << 30, salt };
    Crossing { route, private: false, producer, consumers: consumers.into_iter().map(consumer).collect() }
}

pub(crate) fn through(crossing: Crossing) -> ConnectorSpec {
    ConnectorSpec::Scistream(Reach::Through(Box::new(crossing)))
}

/// Two gateways, and what leads through them.
pub(crate) struct Pair {
    pub(crate) producer: Gateway,
    pub(crate) consumer: Gateway,
}

impl Pair {
    pub(crate) fn start(kind: DataServerType) -> Self {
        Self { producer: Gateway::start(kind), consumer: Gateway::start(kind) }
    }

    pub(crate) fn crossing(&self, num_conn: u16) -> Crossing {
        let mut crossing = crossing(self.producer.access(), vec![("", self.consumer.access())]);
        crossing.route.num_conn = num_conn;
        crossing
    }

    pub(crate) fn open(&self, num_conn: u16) -> Arc<dyn Connector> {
        through(self.crossing(num_conn)).open(KeySource::random()).unwrap()
    }

    pub(crate) fn sessions(&self) -> (usize, usize) {
        (self.producer.sessions(), self.consumer.sessions())
    }
}

/// What proxies of objects there say.
pub(crate) fn ways(connector: &dyn Connector) -> Ways {
    connector.address().location_of("scistream").unwrap()
}

/// Bytes that no text or fixed pattern has.
pub(crate) fn binary(size: usize) -> Bytes {
    (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect()
}

pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
