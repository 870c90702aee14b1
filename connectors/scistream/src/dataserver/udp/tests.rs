use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::*;
use crate::Role;
use crate::forward::{ForwardOptions, Lane, Meter, ReservedPort, Secret, Traffic, Transport};

const BOUND: Duration = Duration::from_secs(60);

/// A session of one lane at work.
struct Session {
    forwarding: Box<dyn Forwarding>,
    listener: SocketAddr,
    _plane: Arc<DataPlane>,
}

impl Session {
    fn start(listener: &str, target: SocketAddr, options: ForwardOptions, most_flows: usize) -> Self {
        Self::start_at(listener, target, options, most_flows, None)
    }

    fn start_at(
        listener: &str,
        target: SocketAddr,
        options: ForwardOptions,
        most_flows: usize,
        rate: Option<u64>,
    ) -> Self {
        Self::start_of(&Places::new(), listener, target, options, most_flows, rate)
    }

    fn start_of(
        places: &Places,
        listener: &str,
        target: SocketAddr,
        options: ForwardOptions,
        most_flows: usize,
        rate: Option<u64>,
    ) -> Self {
        let plane = Arc::new(DataPlane::new(NonZero::new(2)).unwrap());
        let port = ReservedPort::bind(listener.parse().unwrap()).unwrap();
        let listener = port.address();
        let uid = Uuid::new_v4();
        let plan = ForwardPlan {
            uid,
            role: Role::Consumer,
            lanes: vec![Lane { port, target: target.to_string().parse().unwrap() }],
            transport: Transport::Udp,
            secret: Secret::of(uid),
            options,
            rate,
            meter: Arc::new(Meter::default()),
        };
        let forwarding = start_with(&plane, places, plan, most_flows).unwrap();
        Self { forwarding, listener, _plane: plane }
    }

    fn traffic(&self) -> Traffic {
        self.forwarding.traffic().unwrap()
    }

    fn wait_for(&self, what: impl Fn(&Traffic) -> bool) {
        let began = Instant::now();
        while !what(&self.traffic()) {
            assert!(began.elapsed() < BOUND, "{:?}", self.traffic());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn release(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.forwarding.release());
    }
}

fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket
}

/// Answers each datagram with itself, until an empty one comes.
fn echo(address: &str) -> (SocketAddr, thread::JoinHandle<()>) {
    let socket = socket(address);
    let at = socket.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        loop {
            let (size, from) = socket.recv_from(&mut buffer).unwrap();
            if size == 0 {
                return;
            }
            socket.send_to(&buffer[..size], from).unwrap();
        }
    });
    (at, answering)
}

fn ask(client: &UdpSocket, text: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    client.send(text).unwrap();
    let size = client.recv(&mut buffer).unwrap();
    buffer.truncate(size);
    buffer
}

#[test]
fn datagrams_go_both_ways_over_both_families() {
    for (ours, theirs) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0"), ("127.0.0.1:0", "[::1]:0")] {
        let (target, answering) = echo(theirs);
        let session = Session::start(ours, target, ForwardOptions::default(), 8);
        let client = socket(ours);
        client.connect(session.listener).unwrap();
        for size in [1, 100, 1_400, 9_000, 65_507] {
            let sent = vec![size as u8; size];
            assert_eq!(ask(&client, &sent), sent);
        }
        session.wait_for(|traffic| (traffic.bytes_to_target, traffic.bytes_to_client) == (76_008, 76_008));
        let traffic = session.traffic();
        assert_eq!((traffic.connections_open, traffic.connections_total, traffic.dropped), (1, 1, 0));
        // An empty datagram is one, too.
        client.send(&[]).unwrap();
        answering.join().unwrap();
        session.release();
    }
}

#[test]
fn each_of_many_clients_gets_its_own_answers() {
    let (target, answering) = echo("127.0.0.1:0");
    let session = Session::start("127.0.0.1:0", target, ForwardOptions::default(), 128);
    let clients: Vec<_> = (0..100).map(|_| socket("127.0.0.1:0")).collect();
    for round in 0..3 {
        for (index, client) in clients.iter().enumerate() {
            client.send_to(format!("{round} {index}").as_bytes(), session.listener).unwrap();
        }
        for (index, client) in clients.iter().enumerate() {
            let mut buffer = [0; 100];
            let (size, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..size], from), (format!("{round} {index}").as_bytes(), session.listener));
        }
    }
    assert_eq!((session.traffic().connections_open, session.traffic().dropped), (100, 0));
    clients[0].send_to(&[], session.listener).unwrap();
    answering.join().unwrap();
    session.release();
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let (target, answering) = echo("127.0.0.1:0");
    let session = Session::start("0.0.0.0:0", target, ForwardOptions::default(), 8);
    let client = socket("127.0.0.1:0");
    // A connected socket takes nothing from elsewhere.
    client.connect(("127.0.0.7", session.listener.port())).unwrap();
    assert_eq!(ask(&client, b"ping"), b"ping");
    client.send(&[]).unwrap();
    answering.join().unwrap();
    session.release();
}

#[test]
fn idle_flows_end_and_begin_anew() {
    let (target, answering) = echo("127.0.0.1:0");
    let options = ForwardOptions { idle_timeout: Some(Duration::from_secs(2)), ..ForwardOptions::default() };
    let session = Session::start("127.0.0.1:0", target, options, 8);
    let client = socket("127.0.0.1:0");
    client.connect(session.listener).unwrap();
    for round in 1..=2 {
        assert_eq!(ask(&client, b"ping"), b"ping");
        session.wait_for(|traffic| traffic.connections_open == 0 && traffic.connections_total == round);
    }
    client.send(&[]).unwrap();
    answering.join().unwrap();
    session.release();
}

#[test]
fn a_lane_outlives_a_target_that_is_not_there() {
    let reserved = socket("127.0.0.1:0");
    let target = reserved.local_addr().unwrap();
    drop(reserved);
    let session = Session::start("127.0.0.1:0", target, ForwardOptions::default(), 8);
    let client = socket("127.0.0.1:0");
    client.connect(session.listener).unwrap();
    client.send(b"anybody?").unwrap();
    session.wait_for(|traffic| traffic.connections_refused == 1);
    let (_, answering) = echo(&target.to_string());
    assert_eq!(ask(&client, b"now?"), b"now?");
    assert_eq!(session.traffic().connections_total, 1);
    client.send(&[]).unwrap();
    answering.join().unwrap();
    // It was there in between.
    while session.traffic().connections_refused < 2 {
        client.send(b"still there?").unwrap();
        thread::sleep(Duration::from_millis(10));
    }
    session.release();
}

#[test]
fn a_flood_of_made_up_clients_takes_bounded_room_and_pushes_nobody_out() {
    // Answers with who asks, as the target sees it.
    let target = socket("127.0.0.1:0");
    let session = Session::start("127.0.0.1:0", target.local_addr().unwrap(), ForwardOptions::default(), 16);
    let answering = thread::spawn(move || {
        let mut buffer = [0; 100];
        loop {
            let (size, from) = target.recv_from(&mut buffer).unwrap();
            match &buffer[..size] {
                b"" => return,
                b"who?" => _ = target.send_to(from.to_string().as_bytes(), from).unwrap(),
                _ => {}
            }
        }
    });
    let client = socket("127.0.0.1:0");
    client.connect(session.listener).unwrap();
    let seen_as = ask(&client, b"who?");
    assert_eq!(ask(&client, b"who?"), seen_as);
    for _ in 0..500 {
        socket("127.0.0.1:0").send_to(b"flood", session.listener).unwrap();
        assert!(session.traffic().connections_open <= 2 * 16, "{:?}", session.traffic());
    }
    session.wait_for(|traffic| traffic.connections_total + traffic.dropped > 200 && traffic.connections_open <= 16);
    assert_eq!(ask(&client, b"who?"), seen_as, "its flow was taken");
    client.send(&[]).unwrap();
    answering.join().unwrap();
    session.release();
}

#[test]
fn a_flood_at_one_session_leaves_others_their_places() {
    let (target, answering) = echo("127.0.0.1:0");
    let places = Places::of(12);
    let start = || Session::start_of(&places, "127.0.0.1:0", target, ForwardOptions::default(), 100, None);
    let (flooded, mut flood) = (start(), Vec::new());
    for _ in 0..50 {
        let client = socket("127.0.0.1:0");
        client.send_to(b"flood", flooded.listener).unwrap();
        flood.push(client);
    }
    flooded.wait_for(|traffic| traffic.connections_total + traffic.dropped >= 50);
    assert!(flooded.traffic().connections_open <= 6, "{:?}", flooded.traffic());
    let other = start();
    let clients: Vec<_> = (0..4).map(|_| socket("127.0.0.1:0")).collect();
    for client in &clients {
        client.connect(other.listener).unwrap();
        assert_eq!(ask(client, b"ping"), b"ping");
    }
    assert_eq!((other.traffic().connections_open, other.traffic().dropped), (4, 0));
    // Long before they would be idle.
    flooded.wait_for(|traffic| traffic.connections_open <= 4);
    clients[0].send(&[]).unwrap();
    answering.join().unwrap();
    flooded.release();
    other.release();
}

#[test]
fn a_session_takes_no_more_than_the_descriptors_that_are_granted() {
    let (target, answering) = echo("127.0.0.1:0");
    let session = Session::start_of(&Places::of(1), "127.0.0.1:0", target, ForwardOptions::default(), 100, None);
    let clients = [socket("127.0.0.1:0"), socket("127.0.0.1:0")];
    for client in &clients {
        client.connect(session.listener).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(ask(&clients[0], b"first"), b"first");
    }
    clients[1].send(b"no room").unwrap();
    session.wait_for(|traffic| traffic.dropped == 1);
    assert_eq!(ask(&clients[0], b"still first"), b"still first");
    assert_eq!(session.traffic().connections_total, 1);
    clients[0].send(&[]).unwrap();
    answering.join().unwrap();
    session.release();
}

#[test]
fn what_is_over_the_rate_is_dropped_and_counted() {
    let target = socket("127.0.0.1:0");
    let session = Session::start_at(
        "127.0.0.1:0",
        target.local_addr().unwrap(),
        ForwardOptions::default(),
        8,
        // A datagram takes two minutes.
        Some(66),
    );
    let client = socket("127.0.0.1:0");
    client.connect(session.listener).unwrap();
    for datagram in 0..10 {
        client.send(&[datagram; 1_000]).unwrap();
    }
    session.wait_for(|traffic| traffic.dropped == 9 && traffic.bytes_to_target == 1_000);
    let mut buffer = [0; 2_000];
    assert_eq!((target.recv(&mut buffer).unwrap(), buffer[0]), (1_000, 0));
    session.release();
}

#[test]
fn release_gives_the_port_back_and_nobody_has_it_before() {
    let (target, answering) = echo("127.0.0.1:0");
    let session = Session::start("127.0.0.1:0", target, ForwardOptions::default(), 8);
    let listener = session.listener;
    let client = socket("127.0.0.1:0");
    client.connect(listener).unwrap();
    assert_eq!(ask(&client, b"ping"), b"ping");
    client.send(&[]).unwrap();
    answering.join().unwrap();
    UdpSocket::bind(listener).unwrap_err();
    TcpListener::bind(listener).unwrap_err();
    session.release();
    UdpSocket::bind(listener).unwrap();
    TcpListener::bind(listener).unwrap();
}
