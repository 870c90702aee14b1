//! Streams cross from a producer's host to a consumer's that neither can reach of the other, by way of two gateways: four network
//! namespaces of this process's own, and the wires between them.
//!
//! | producer | | producer's gateway | | consumer's gateway | | consumer |
//! |---|---|---|---|---|---|---|
//! | 10.71.1.2 | LAN | 10.71.1.1, 10.71.2.1 | WAN | 10.71.2.2, 10.71.3.1 | LAN | 10.71.3.2 |

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio, id};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use scistream::dataserver::{
    DataServerSettings, DataServerType, ForwardOptions, ForwardPlan, Forwarding, Lane, Meter, ReservedPort, SECRET_LEN,
    Secret, Transport, data_server,
};
use scistream::{DataPlane, Role};
use uuid::Uuid;

/// For what happens at once, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn crosses(kind: DataServerType) {
    let Some(net) = Net::new(&format!("{kind}_crosses")) else { return };
    for v6 in [false, true] {
        let listener = net.producer.run(|| TcpListener::bind((address(1, 2, v6), 0)).unwrap());
        let application = listener.local_addr().unwrap();
        let direct = net.consumer.run(|| TcpStream::connect_timeout(&application, Duration::from_millis(300)));
        direct.expect_err("the consumer's host reaches the producer's without any gateway");
        let (producer, consumer) = net.session(kind, application, v6);
        let client = net.consumer.run(|| connect(consumer.listener));
        let (target, from) = accept(&listener);
        assert_eq!(from.ip(), address(1, 1, v6), "not by way of the gateway");
        exchange(&client, &target, 3_000_000);
        client.shutdown(Shutdown::Write).unwrap();
        target.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        assert_eq!((&target).read(&mut [0]).unwrap(), 0);
        drop((client, target));
        net.consumer_gateway.run(|| consumer.release());
        net.producer_gateway.run(|| producer.release());
    }
}

#[test]
fn copy_crosses() {
    crosses(DataServerType::Copy);
}

mod slow {
    use super::{DataServerType, crosses};

    #[test]
    fn splice_crosses() {
        crosses(DataServerType::Splice);
    }

    #[test]
    fn sockmap_crosses() {
        crosses(DataServerType::Sockmap);
    }

    #[test]
    fn quic_crosses() {
        crosses(DataServerType::Quic);
    }

    #[test]
    fn tls_crosses() {
        crosses(DataServerType::Tls);
    }

    #[test]
    fn haproxy_crosses() {
        crosses(DataServerType::Haproxy);
    }

    #[test]
    fn stunnel_crosses() {
        crosses(DataServerType::Stunnel);
    }

    #[test]
    fn nginx_crosses() {
        crosses(DataServerType::Nginx);
    }
}

#[test]
fn quic_goes_on_when_its_gateway_moves_to_another_address() {
    let Some(net) = Net::new("quic_goes_on_when_its_gateway_moves_to_another_address") else { return };
    for v6 in [false, true] {
        let listener = net.producer.run(|| TcpListener::bind((address(1, 2, v6), 0)).unwrap());
        let (producer, consumer) = net.session(DataServerType::Quic, listener.local_addr().unwrap(), v6);
        let client = net.consumer.run(|| connect(consumer.listener));
        let (target, _) = accept(&listener);
        exchange(&client, &target, 1_000_000);
        net.consumer_gateway.ip(["address", "del", &prefix(2, 2, v6), "dev", "wan"], v6);
        net.consumer_gateway.ip(["address", "add", &prefix(2, 3, v6), "dev", "wan"], v6);
        exchange(&client, &target, 1_000_000);
        net.consumer_gateway.run(|| consumer.release());
        net.producer_gateway.run(|| producer.release());
    }
}

/// A host's address in one of the three networks.
fn address(network: u8, host: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd71, network.into(), 0, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, 71, network, host).into()
    }
}

fn prefix(network: u8, host: u8, v6: bool) -> String {
    format!("{}/{}", address(network, host, v6), if v6 { 64 } else { 24 })
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    patient(&stream);
    stream
}

fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, from) = listener.accept().unwrap();
    patient(&stream);
    (stream, from)
}

/// Sends as many bytes each way at the same time, and compares what arrives.
fn exchange(client: &TcpStream, target: &TcpStream, bytes: usize) {
    let data: Vec<u8> = (0..bytes).map(|index| (index * 31 + index / 251) as u8).collect();
    let check = |mut stream: &TcpStream| {
        let mut received = vec![0; bytes];
        stream.read_exact(&mut received).unwrap();
        assert!(received == data, "what arrived is not what was sent");
    };
    thread::scope(|scope| {
        for mut from in [client, target] {
            let data = &data;
            scope.spawn(move || from.write_all(data).unwrap());
        }
        scope.spawn(|| check(client));
        check(target);
    });
}

/// A gateway's part of a session.
struct Gateway {
    forwarding: Box<dyn Forwarding>,
    listener: SocketAddr,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Gateway {
    /// On the host that this is called on.
    fn start(kind: DataServerType, role: Role, at: IpAddr, target: SocketAddr, secret: &Secret) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plane = Arc::new(DataPlane::new(None).unwrap());
        let settings = DataServerSettings { plane, directory: directory.path().into() };
        let server = data_server(kind, &settings).unwrap();
        server.check().unwrap();
        let port = ReservedPort::bind((at, 0).into()).unwrap();
        let listener = port.address();
        let plan = ForwardPlan {
            uid: Uuid::new_v4(),
            role,
            lanes: vec![Lane { port, target: target.to_string().parse().unwrap() }],
            transport: Transport::Tcp,
            secret: secret.clone(),
            options: ForwardOptions { connect_timeout: PATIENCE, ..ForwardOptions::default() },
            rate: None,
            meter: Arc::new(Meter::default()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let forwarding = runtime.block_on(server.start(plan)).unwrap();
        Self { forwarding, listener, runtime, _directory: directory }
    }

    fn release(self) {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, self.forwarding.release()).await }).unwrap();
    }
}

/// The four hosts.
struct Net {
    producer: Namespace,
    producer_gateway: Namespace,
    consumer_gateway: Namespace,
    consumer: Namespace,
}

impl Net {
    /// `None` where this process may not have it, which is then said by the name of the test.
    fn new(test: &str) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("skipped: {test} takes root, who alone makes network namespaces");
            return None;
        }
        let make = || Namespace::new().unwrap();
        let net = Self { producer: make(), producer_gateway: make(), consumer_gateway: make(), consumer: make() };
        for (network, (one, name), (other, peer)) in [
            (1, (&net.producer_gateway, "lan"), (&net.producer, "lan")),
            (2, (&net.producer_gateway, "wan"), (&net.consumer_gateway, "wan")),
            (3, (&net.consumer_gateway, "lan"), (&net.consumer, "lan")),
        ] {
            let there = format!("/proc/{}/fd/{}", id(), other.0.as_raw_fd());
            one.ip(["link", "add", name, "type", "veth", "peer", "name", peer, "netns", &there], false);
            for (host, namespace, device) in [(1, one, name), (2, other, peer)] {
                namespace.ip(["link", "set", device, "up"], false);
                for v6 in [false, true] {
                    namespace.ip(["address", "add", &prefix(network, host, v6), "dev", device], v6);
                }
            }
        }
        // The hosts send whatever they don't know to their gateways, which forward no packets.
        for gateway in [&net.producer_gateway, &net.consumer_gateway] {
            for switch in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
                gateway.run(|| std::fs::write(switch, "0")).unwrap();
            }
        }
        for v6 in [false, true] {
            net.producer.ip(["route", "add", "default", "via", &address(1, 1, v6).to_string()], v6);
            net.consumer.ip(["route", "add", "default", "via", &address(3, 1, v6).to_string()], v6);
        }
        Some(net)
    }

    /// A session's path to the producer's application: the inbound side, and the outbound one, which is where the consumer connects.
    fn session(&self, kind: DataServerType, application: SocketAddr, v6: bool) -> (Gateway, Gateway) {
        let secret = &Secret::random([71; SECRET_LEN]);
        let producer =
            self.producer_gateway.run(|| Gateway::start(kind, Role::Producer, address(2, 1, v6), application, secret));
        let consumer = self
            .consumer_gateway
            .run(|| Gateway::start(kind, Role::Consumer, address(3, 1, v6), producer.listener, secret));
        (producer, consumer)
    }
}

/// A network namespace without a name: gone with the last descriptor of it and the last process in it, whatever becomes of this one.
struct Namespace(File);

impl Namespace {
    fn new() -> io::Result<Self> {
        // Says that it is in the namespace, and stays until this process has hold of it.
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.as_mut().map(|stdout| stdout.read_exact(&mut [0]));
        let namespace = File::open(format!("/proc/{}/ns/net", child.id()));
        drop(child.stdin.take());
        child.wait()?;
        said.transpose()?;
        namespace.map(Self)
    }

    /// Does something on this host. Threads and processes that are started there stay there.
    fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            task()
        };
        thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn ip<const N: usize>(&self, arguments: [&str; N], v6: bool) {
        let mut command = Command::new("ip");
        command.arg(if v6 { "-6" } else { "-4" }).args(arguments);
        if v6 && arguments.starts_with(&["address", "add"]) {
            // Usable at once.
            command.arg("nodad");
        }
        let output = self.run(|| command.output()).unwrap();
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
