//! Two gateways in one process, with what is between them under control.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use uuid::Uuid;

use super::*;
use crate::dataserver::DataServer;
use crate::dataserver::identity::client_config;
use crate::forward::{ForwardOptions, Lane, Meter, ReservedPort, SECRET_LEN, Secret, Target};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// For what happens at once, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);
const QUICK: Times =
    Times { lost: Duration::from_secs(3), silent: Duration::from_millis(600), keep_alive: Duration::from_millis(200) };
/// As soon looking for another way, but never giving up.
const ENDURING: Times = Times { lost: PATIENCE, ..QUICK };

/// The gateways' threads, and what runs their starts and releases.
struct Bench {
    quic: Quic,
    runtime: Runtime,
}

/// A gateway's part of a session.
struct Side {
    forwarding: Box<dyn Forwarding>,
    meter: Arc<Meter>,
    listener: SocketAddr,
}

impl Bench {
    fn new(times: Times) -> Self {
        let plane = Arc::new(DataPlane::new(None).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { quic: Quic { plane, times }, runtime }
    }

    fn start(&self, role: Role, at: SocketAddr, target: SocketAddr, secret: u8, options: ForwardOptions) -> Side {
        let port = ReservedPort::bind(at).unwrap();
        let listener = port.address();
        let meter = Arc::new(Meter::default());
        let plan = ForwardPlan {
            uid: Uuid::new_v4(),
            role,
            lanes: vec![Lane { port, target: target.to_string().parse::<Target>().unwrap() }],
            transport: Transport::Tcp,
            secret: Secret::random([secret; SECRET_LEN]),
            options,
            rate: None,
            meter: Arc::clone(&meter),
        };
        let forwarding = self.runtime.block_on(self.quic.start(plan)).unwrap();
        Side { forwarding, meter, listener }
    }

    /// Both sides of a session to a target, the consumer's first by way of `between`.
    fn session(&self, target: SocketAddr, between: impl FnOnce(SocketAddr) -> SocketAddr) -> (Side, Side) {
        let local = SocketAddr::new(target.ip(), 0);
        let producer = self.start(Role::Producer, local, target, 1, options());
        let other = between(producer.listener);
        let consumer = self.start(Role::Consumer, local, other, 1, options());
        (producer, consumer)
    }

    fn release(&self, side: Side) -> SocketAddr {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, side.forwarding.release()).await }).unwrap();
        side.listener
    }
}

fn options() -> ForwardOptions {
    ForwardOptions { connect_timeout: PATIENCE, ..ForwardOptions::default() }
}

/// What accepts the session's connections in the end.
fn application(ip: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 31 + index / 251) as u8).collect()
}

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Sends the pattern one way and back the other, at the same time.
fn exchange(client: &mut TcpStream, target: &mut TcpStream, bytes: usize) {
    let data = pattern(bytes);
    let check = |stream: &mut TcpStream| {
        let mut received = vec![0; bytes];
        stream.read_exact(&mut received).unwrap();
        assert!(received == data, "what arrived is not what was sent");
    };
    thread::scope(|scope| {
        let (mut sender, mut back) = (client.try_clone().unwrap(), target.try_clone().unwrap());
        let data = &data;
        scope.spawn(move || sender.write_all(data).unwrap());
        scope.spawn(move || back.write_all(data).unwrap());
        scope.spawn(|| check(client));
        check(target);
    });
}

fn expect_reset(stream: &mut TcpStream) {
    let error = io::copy(stream, &mut io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[test]
fn streams_cross_both_ways_and_end_each_for_itself() {
    let bench = Bench::new(Times::default());
    for ip in [LOCAL, Ipv6Addr::LOCALHOST.into()] {
        let (listener, address) = application(ip);
        let (producer, consumer) = bench.session(address, |to| to);
        let mut client = connect(consumer.listener);
        let mut target = accept(&listener);
        exchange(&mut client, &mut target, 3_000_000);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(target.read(&mut [0]).unwrap(), 0);
        target.write_all(b"after the end").unwrap();
        drop(target);
        let mut rest = String::new();
        client.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "after the end");
        drop(client);
        until("both sides are done", || {
            [&producer, &consumer].iter().all(|side| side.meter.traffic().connections_open == 0)
        });
        for side in [&producer, &consumer] {
            let traffic = side.meter.traffic();
            assert_eq!((traffic.bytes_to_target, traffic.bytes_to_client), (3_000_000, 3_000_013));
            assert_eq!((traffic.connections_total, traffic.connections_reset, traffic.connections_refused), (1, 0, 0));
        }
        bench.release(consumer);
        bench.release(producer);
    }
}

#[test]
fn resets_are_passed_on_as_resets_either_way() {
    let bench = Bench::new(Times::default());
    let (listener, address) = application(LOCAL);
    let (producer, consumer) = bench.session(address, |to| to);
    for clients in [true, false] {
        for half_closed in [false, true] {
            let mut client = connect(consumer.listener);
            let mut target = accept(&listener);
            exchange(&mut client, &mut target, 1000);
            let (mut one, mut other) = if clients { (client, target) } else { (target, client) };
            if half_closed {
                other.shutdown(Shutdown::Write).unwrap();
                assert_eq!(one.read(&mut [0]).unwrap(), 0);
            }
            rustix::net::sockopt::set_socket_linger(&one, Some(Duration::ZERO)).unwrap();
            drop(one);
            expect_reset(&mut other);
        }
    }
    until("both sides noticed", || {
        [&producer, &consumer].iter().all(|side| side.meter.traffic().connections_reset == 4)
    });
}

#[test]
fn a_target_that_refuses_resets_the_client_and_the_session_stays() {
    let bench = Bench::new(Times::default());
    let (listener, address) = application(LOCAL);
    drop(listener);
    let local = SocketAddr::new(LOCAL, 0);
    let hasty = ForwardOptions { connect_timeout: Duration::from_secs(2), ..options() };
    let producer = bench.start(Role::Producer, local, address, 1, hasty);
    let consumer = bench.start(Role::Consumer, local, producer.listener, 1, options());
    let mut client = connect(consumer.listener);
    expect_reset(&mut client);
    assert_eq!(producer.meter.traffic().connections_refused, 1);
    let listener = TcpListener::bind(address).unwrap();
    let mut client = connect(consumer.listener);
    let mut target = accept(&listener);
    exchange(&mut client, &mut target, 1000);
}

#[test]
fn whoever_lacks_the_key_gets_nothing() {
    let bench = Bench::new(Times::default());
    let (listener, address) = application(LOCAL);
    listener.set_nonblocking(true).unwrap();
    let local = SocketAddr::new(LOCAL, 0);
    let producer = bench.start(Role::Producer, local, address, 1, options());
    // A gateway of another session.
    let hasty = ForwardOptions { connect_timeout: Duration::from_millis(500), ..options() };
    let consumer = bench.start(Role::Consumer, local, producer.listener, 2, hasty);
    expect_reset(&mut connect(consumer.listener));
    assert_eq!(consumer.meter.traffic().connections_refused, 1);
    // One that would talk to anybody, with a key of its own, and without any.
    for own_key in [true, false] {
        let mut tls = client_config(&Secret::random([2; SECRET_LEN]), PROTOCOL).unwrap();
        let right = client_config(&Secret::random([1; SECRET_LEN]), PROTOCOL).unwrap();
        if own_key {
            let wrong = Arc::clone(&tls.client_auth_cert_resolver);
            tls = right;
            tls.client_auth_cert_resolver = wrong;
        } else {
            tls = right;
            tls.client_auth_cert_resolver = Arc::new(Nobody);
        }
        let told = bench.runtime.block_on(async {
            let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
            let config = quinn::ClientConfig::new(Arc::new(crypto));
            let connection = endpoint.connect_with(config, producer.listener, "gateway").unwrap().await?;
            let (mut send, mut recv) = connection.open_bi().await?;
            send.write_all(&GREETING).await.map_err(io::Error::from)?;
            send.write_all(b"let me in").await.map_err(io::Error::from)?;
            recv.read_to_end(100).await.map_err(io::Error::other)
        });
        told.unwrap_err();
    }
    // Nor is the port one for connections without QUIC.
    TcpStream::connect(producer.listener).unwrap_err();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(producer.meter.traffic().connections_total, 0);
}

#[test]
fn strangers_are_answered_with_less_than_they_sent() {
    let bench = Bench::new(Times::default());
    let (_listener, address) = application(LOCAL);
    let producer = bench.start(Role::Producer, SocketAddr::new(LOCAL, 0), address, 1, options());
    let stranger = UdpSocket::bind((LOCAL, 0)).unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // A handshake's first packet, whose sender is then not there to answer.
    let first = {
        let catcher = UdpSocket::bind((LOCAL, 0)).unwrap();
        let consumer =
            bench.start(Role::Consumer, SocketAddr::new(LOCAL, 0), catcher.local_addr().unwrap(), 1, options());
        let mut packet = [0; 2000];
        let length = catcher.recv(&mut packet).unwrap();
        bench.release(consumer);
        packet[..length].to_vec()
    };
    for packet in [&first[..], &[0xff; 1200], &[0x40; 1200], b"x"] {
        stranger.send_to(packet, producer.listener).unwrap();
        let (mut answered, mut answer) = (0, [0; 2000]);
        while let Ok(length) = stranger.recv(&mut answer) {
            answered += length;
        }
        assert!(answered < packet.len(), "{answered} bytes for {}", packet.len());
    }
}

#[test]
fn a_lost_gateway_resets_its_connections_and_is_found_again() {
    let bench = Bench::new(Times::default());
    let (listener, address) = application(LOCAL);
    let (producer, consumer) = bench.session(address, |to| to);
    let mut client = connect(consumer.listener);
    let mut target = accept(&listener);
    exchange(&mut client, &mut target, 1000);
    let at = bench.release(producer);
    expect_reset(&mut client);
    expect_reset(&mut target);
    let producer = bench.start(Role::Producer, at, address, 1, options());
    let mut client = connect(consumer.listener);
    let mut target = accept(&listener);
    exchange(&mut client, &mut target, 1000);
    // Ports are free at once, whatever goes through them.
    for side in [consumer, producer] {
        let at = bench.release(side);
        ReservedPort::bind(at).unwrap();
    }
    expect_reset(&mut client);
    expect_reset(&mut target);
}

#[test]
fn what_is_dropped_is_released() {
    let bench = Bench::new(Times::default());
    let (listener, address) = application(LOCAL);
    let (producer, consumer) = bench.session(address, |to| to);
    let mut client = connect(consumer.listener);
    let mut target = accept(&listener);
    exchange(&mut client, &mut target, 1000);
    let at = producer.listener;
    drop(producer.forwarding);
    expect_reset(&mut client);
    expect_reset(&mut target);
    until("the port is free", || ReservedPort::bind(at).is_ok());
}

#[test]
fn streams_survive_a_change_of_the_path() {
    let bench = Bench::new(ENDURING);
    let (listener, address) = application(LOCAL);
    let mut nat = None;
    let (producer, consumer) = bench.session(address, |to| nat.insert(Nat::new(to)).address);
    let nat = nat.unwrap();
    let mut client = connect(consumer.listener);
    let mut target = accept(&listener);
    exchange(&mut client, &mut target, 100_000);
    // The device forgets its bindings: the next packets come from another address.
    nat.forget();
    exchange(&mut client, &mut target, 100_000);
    // It drops what belongs to the path of now, for ever: only another one helps, which has to be found while nothing is sent.
    nat.block();
    until("the gateway came by another way", || nat.ways() >= 2);
    exchange(&mut client, &mut target, 100_000);
    // The path is gone while data are under way, and comes back.
    let data = pattern(3_000_000);
    thread::scope(|scope| {
        nat.cut(true);
        scope.spawn(|| client.write_all(&data).unwrap());
        thread::sleep(Duration::from_secs(1));
        nat.cut(false);
        let mut received = vec![0; data.len()];
        target.read_exact(&mut received).unwrap();
        assert!(received == data);
    });
    assert_eq!(producer.meter.traffic().connections_total, 1);
    assert_eq!(consumer.meter.traffic().connections_reset, 0);
}

#[test]
fn a_path_that_is_gone_for_long_resets_connections_and_is_used_again_once_it_is_back() {
    let bench = Bench::new(QUICK);
    let (listener, address) = application(LOCAL);
    let mut nat = None;
    let (producer, consumer) = bench.session(address, |to| nat.insert(Nat::new(to)).address);
    let nat = nat.unwrap();
    let mut client = connect(consumer.listener);
    let mut target = accept(&listener);
    exchange(&mut client, &mut target, 1000);
    nat.cut(true);
    expect_reset(&mut client);
    expect_reset(&mut target);
    nat.cut(false);
    let mut client = connect(consumer.listener);
    let mut target = accept(&listener);
    exchange(&mut client, &mut target, 1000);
    drop((producer, consumer));
}

#[test]
fn many_connections_share_one_between_the_gateways() {
    const AT_A_TIME: usize = 200;
    let bench = Bench::new(Times::default());
    let (listener, address) = application(LOCAL);
    let (_producer, consumer) = bench.session(address, |to| to);
    let mut pairs: Vec<_> = (0..AT_A_TIME)
        .map(|index| {
            let mut client = connect(consumer.listener);
            client.write_all(&index.to_le_bytes()).unwrap();
            client
        })
        .collect();
    for _ in 0..AT_A_TIME {
        let mut target = accept(&listener);
        let mut index = [0; size_of::<usize>()];
        target.read_exact(&mut index).unwrap();
        target.write_all(&index).unwrap();
    }
    for (index, client) in pairs.iter_mut().enumerate() {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, index.to_le_bytes());
    }
}

#[test]
fn plans_that_need_something_else_are_refused_by_name() {
    let bench = Bench::new(Times::default());
    let refused = |transport, congestion, stripes, preconnect| {
        let plan = ForwardPlan {
            uid: Uuid::new_v4(),
            role: Role::Producer,
            lanes: Vec::new(),
            transport,
            secret: Secret::random([1; SECRET_LEN]),
            options: ForwardOptions { congestion, stripes, preconnect, ..options() },
            rate: None,
            meter: Arc::default(),
        };
        match bench.runtime.block_on(bench.quic.start(plan)) {
            Ok(_) => panic!("started"),
            Err(error) => error.to_string(),
        }
    };
    assert!(refused(Transport::Udp, Congestion::Auto, 1, 0).contains("datagrams"));
    assert!(refused(Transport::Tcp, Congestion::Named("vegas".into()), 1, 0).contains("vegas"));
    assert!(refused(Transport::Tcp, Congestion::Auto, 2, 0).contains("--stripes"));
    assert!(refused(Transport::Tcp, Congestion::Auto, 1, 17).contains("--preconnect"));
}

#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A device that translates addresses, between the gateways: each of the consumer's ports has one of the device's.
struct Nat {
    address: SocketAddr,
    state: Arc<NatState>,
}

struct NatState {
    inside: UdpSocket,
    outside: SocketAddr,
    bindings: Mutex<HashMap<SocketAddr, Option<Arc<UdpSocket>>>>,
    cut: AtomicBool,
    ways: AtomicUsize,
    ended: AtomicBool,
}

impl Nat {
    fn new(outside: SocketAddr) -> Self {
        let inside = UdpSocket::bind((LOCAL, 0)).unwrap();
        inside.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = inside.local_addr().unwrap();
        let state = Arc::new(NatState {
            inside,
            outside,
            bindings: Mutex::default(),
            cut: AtomicBool::new(false),
            ways: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let forward = Arc::clone(&state);
        thread::spawn(move || forward.forward());
        Self { address, state }
    }

    /// Gives every inner address another outer one.
    fn forget(&self) {
        self.state.bindings.lock().unwrap().clear();
    }

    /// Drops whatever comes from the inner addresses of now.
    fn block(&self) {
        self.state.bindings.lock().unwrap().values_mut().for_each(|outer| *outer = None);
        self.state.ways.store(1, Relaxed);
    }

    /// Inner addresses since it blocked, that of then included.
    fn ways(&self) -> usize {
        self.state.ways.load(Relaxed)
    }

    /// Drops everything, or does so no more.
    fn cut(&self, cut: bool) {
        self.state.cut.store(cut, Relaxed);
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.state.ended.store(true, Relaxed);
    }
}

impl NatState {
    fn forward(self: Arc<Self>) {
        let mut packet = [0; 65_536];
        while !self.ended.load(Relaxed) {
            let Ok((length, from)) = self.inside.recv_from(&mut packet) else { continue };
            if self.cut.load(Relaxed) {
                continue;
            }
            let outer = self.bindings.lock().unwrap().entry(from).or_insert_with(|| Some(self.bind(from))).clone();
            if let Some(outer) = outer {
                let _ = outer.send_to(&packet[..length], self.outside);
            }
        }
    }

    fn bind(self: &Arc<Self>, inner: SocketAddr) -> Arc<UdpSocket> {
        self.ways.fetch_add(1, Relaxed);
        let outer = Arc::new(UdpSocket::bind((LOCAL, 0)).unwrap());
        outer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (nat, socket) = (Arc::clone(self), Arc::clone(&outer));
        thread::spawn(move || {
            let mut packet = [0; 65_536];
            while !nat.ended.load(Relaxed) {
                let Ok((length, _)) = socket.recv_from(&mut packet) else { continue };
                // A device that forgot where it belongs to, or that drops what belongs there, hands nothing on.
                let bound = nat.bindings.lock().unwrap().get(&inner).cloned().flatten();
                if !nat.cut.load(Relaxed) && bound.is_some_and(|bound| Arc::ptr_eq(&bound, &socket)) {
                    let _ = nat.inside.send_to(&packet[..length], inner);
                }
            }
        });
        outer
    }
}
