use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZero;
use std::sync::mpsc;
use std::thread;

use uuid::Uuid;

use super::*;
use crate::DataPlane;
use crate::dataserver::{Copy, DataServer, DataServerError};
use crate::forward::{
    ForwardOptions, ForwardPlan, Forwarding, Lane, MOST_STRIPES, Meter, ReservedPort, SECRET_LEN, Secret, Transport,
};

const BOUND: Duration = Duration::from_secs(60);

fn plan(role: Role, target: SocketAddr, secret: u8, options: ForwardOptions) -> (SocketAddr, ForwardPlan) {
    let port = ReservedPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = port.address();
    let plan = ForwardPlan {
        uid: Uuid::nil(),
        role,
        lanes: vec![Lane { port, target: target.to_string().parse().unwrap() }],
        transport: Transport::Tcp,
        secret: Secret::random([secret; SECRET_LEN]),
        options,
        rate: None,
        meter: Arc::new(Meter::default()),
    };
    (address, plan)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

struct Gateway {
    address: SocketAddr,
    forwarding: Box<dyn Forwarding>,
}

fn gateway(copy: &Copy, role: Role, target: SocketAddr, secret: u8, options: ForwardOptions) -> Gateway {
    let (address, plan) = plan(role, target, secret, options);
    Gateway { address, forwarding: block_on(copy.start(plan)).unwrap() }
}

fn copy() -> Copy {
    Copy::new(Arc::new(DataPlane::new(NonZero::new(2)).unwrap()))
}

fn four() -> ForwardOptions {
    ForwardOptions { stripes: 4, buffer_size: 1 << 20, ..ForwardOptions::default() }
}

fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + index / 253 + seed) as u8).collect()
}

#[test]
fn streams_go_both_ways_in_order_and_end_each_for_itself() {
    let copy = copy();
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    let producer = gateway(&copy, Role::Producer, application.local_addr().unwrap(), 1, four());
    let options = ForwardOptions { preconnect: 2, ..four() };
    let consumer = gateway(&copy, Role::Consumer, producer.address, 1, options);
    for seed in 0..3 {
        let client = bounded(TcpStream::connect(consumer.address).unwrap());
        let target = bounded(application.accept().unwrap().0);
        let (there, back) = (bytes(5_000_000, seed), bytes(3_000_000, seed + 100));
        thread::scope(|scope| {
            scope.spawn(|| {
                (&client).write_all(&there).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(|| (&target).write_all(&back).unwrap());
            let mut got = vec![0; back.len()];
            (&client).read_exact(&mut got).unwrap();
            assert!(got == back);
            let mut got = Vec::new();
            (&target).read_to_end(&mut got).unwrap();
            assert!(got == there);
        });
        // The other way is open still.
        (&target).write_all(b"still here").unwrap();
        target.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        (&client).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"still here");
    }
    let traffic = consumer.forwarding.traffic().unwrap();
    assert_eq!((traffic.bytes_to_target, traffic.bytes_to_client), (15_000_000, 9_000_030));
    assert_eq!((traffic.connections_total, traffic.connections_reset), (3, 0));
    for gateway in [consumer, producer] {
        block_on(gateway.forwarding.release());
        TcpListener::bind(gateway.address).unwrap();
    }
}

#[test]
fn a_receiver_that_stalls_stops_the_sender_and_gets_everything() {
    let copy = copy();
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ForwardOptions { socket_buffer: Some(64 << 10), buffer_size: 100_000, ..four() };
    let producer = gateway(&copy, Role::Producer, application.local_addr().unwrap(), 1, options.clone());
    let consumer = gateway(&copy, Role::Consumer, producer.address, 1, options);
    let client = bounded(TcpStream::connect(consumer.address).unwrap());
    let mut target = bounded(application.accept().unwrap().0);
    let sent = bytes(30_000_000, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        thread::sleep(Duration::from_millis(300));
        let held = producer.forwarding.traffic().unwrap().buffered;
        assert!(held < 2_000_000, "{held}");
        let mut got = Vec::new();
        target.read_to_end(&mut got).unwrap();
        assert!(got == sent);
    });
}

#[test]
fn resets_are_passed_on() {
    let copy = copy();
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    let producer = gateway(&copy, Role::Producer, application.local_addr().unwrap(), 1, four());
    let consumer = gateway(&copy, Role::Consumer, producer.address, 1, four());
    let client = bounded(TcpStream::connect(consumer.address).unwrap());
    let mut target = bounded(application.accept().unwrap().0);
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(target.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    // And the other way round.
    let mut client = bounded(TcpStream::connect(consumer.address).unwrap());
    let mut target = bounded(application.accept().unwrap().0);
    // A reset in the midst of connecting would be tried again.
    client.write_all(b"x").unwrap();
    target.read_exact(&mut [0]).unwrap();
    rustix::net::sockopt::set_socket_linger(&target, Some(Duration::ZERO)).unwrap();
    drop(target);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_target_that_refuses_resets_the_client() {
    let copy = copy();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = ForwardOptions { connect_timeout: Duration::from_millis(100), ..four() };
    let producer = gateway(&copy, Role::Producer, nobody, 1, options);
    let consumer = gateway(&copy, Role::Consumer, producer.address, 1, four());
    let mut client = bounded(TcpStream::connect(consumer.address).unwrap());
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(producer.forwarding.traffic().unwrap().connections_refused, 1);
}

/// Passes connections on as they are, and hands them over to be broken.
fn middle(target: SocketAddr) -> (SocketAddr, mpsc::Receiver<[TcpStream; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (hand, handed) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let sides = [client.unwrap(), TcpStream::connect(target).unwrap()];
            for [from, to] in [[0, 1], [1, 0]] {
                let (mut from, mut to) = (sides[from].try_clone().unwrap(), sides[to].try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
            if hand.send(sides).is_err() {
                return;
            }
        }
    });
    (address, handed)
}

#[test]
fn the_loss_of_one_stripe_resets_the_stream() {
    let copy = copy();
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    let producer = gateway(&copy, Role::Producer, application.local_addr().unwrap(), 1, four());
    let (between, handed) = middle(producer.address);
    let consumer = gateway(&copy, Role::Consumer, between, 1, four());
    let mut client = bounded(TcpStream::connect(consumer.address).unwrap());
    let mut target = bounded(application.accept().unwrap().0);
    client.write_all(b"hello").unwrap();
    target.read_exact(&mut [0; 5]).unwrap();
    // Even by an end that looks like any other.
    for side in handed.recv_timeout(BOUND).unwrap() {
        // The second one may be gone by then.
        let _ = side.shutdown(Shutdown::Both);
    }
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(target.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(consumer.forwarding.traffic().unwrap().connections_reset, 1);
}

#[test]
fn strangers_get_nothing() {
    let copy = copy();
    let application = TcpListener::bind("127.0.0.1:0").unwrap();
    application.set_nonblocking(true).unwrap();
    let producer = gateway(&copy, Role::Producer, application.local_addr().unwrap(), 1, four());
    // Somebody who speaks something else, of any length.
    let mut stranger = bounded(TcpStream::connect(producer.address).unwrap());
    stranger.write_all(&[b'x'; preamble::LEN]).unwrap();
    assert_eq!(stranger.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    // A gateway with another session's secret.
    let consumer = gateway(&copy, Role::Consumer, producer.address, 2, four());
    let mut client = bounded(TcpStream::connect(consumer.address).unwrap());
    // Whichever comes first is told of the reset, and the other one is not.
    let told = client.write_all(b"let me in").and_then(|()| client.read(&mut [0]));
    assert_eq!(told.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(application.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// A connection, and its other end.
async fn stripe() -> (ResetOnDrop, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = bounded(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    (ResetOnDrop::new(listener.accept().await.unwrap().0), peer)
}

#[tokio::test]
async fn a_stream_never_has_two_of_one_stripe() {
    let gathering = Gathering::default();
    let until = Instant::now() + BOUND;
    let join = async |index, count| {
        let (connection, peer) = stripe().await;
        (gathering.join(0, Preamble { stream: [0; 16], index, count }, connection, until).await, peer)
    };
    let first = join(0, 2);
    tokio::pin!(first);
    let waits = async {
        while format!("{gathering:?}").contains("{}") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = &mut first => panic!("it is alone"),
        () = waits => {}
    }
    // Whoever overhears a preamble and repeats it, or made it for another number of stripes.
    for (index, count) in [(0, 2), (1, 3)] {
        let (refused, mut peer) = join(index, count).await;
        refused.unwrap_err();
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let (second, _peer) = join(1, 2).await;
    assert!(second.unwrap().is_none());
    assert_eq!(first.await.0.unwrap().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_become_complete_is_given_up() {
    let (connection, _peer) = stripe().await;
    let gathering = Gathering::default();
    let preamble = Preamble { stream: [0; 16], index: 0, count: 2 };
    let joined = gathering.join(0, preamble, connection, Instant::now() + GATHER).await;
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(format!("{gathering:?}").contains("{}"), "{gathering:?}");
}

#[test]
fn more_stripes_than_there_may_be_are_refused_at_the_start() {
    let options = ForwardOptions { stripes: MOST_STRIPES as usize + 1, ..ForwardOptions::default() };
    let (_, plan) = plan(Role::Consumer, "127.0.0.1:1".parse().unwrap(), 1, options);
    let refused = block_on(copy().start(plan)).err().unwrap();
    assert!(matches!(refused, DataServerError::Unsupported { .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn connections_made_ahead_of_time_are_not_given_up_before_they_are_used() {
    let (_, plan) = plan(Role::Producer, "127.0.0.1:1".parse().unwrap(), 1, four());
    let striping = Striping::new(Arc::new(Path::of(plan).1));
    for (all_taken, patience) in [(false, SILENCE), (true, GATHER)] {
        let places = all_taken.then(|| striping.silent.try_acquire_many(MOST_SILENT as u32).unwrap());
        let (connection, _peer) = stripe().await;
        let start = Instant::now();
        let given_up = striping.come(connection.into_inner(), 0).await.unwrap_err();
        assert_eq!(given_up.kind(), ErrorKind::TimedOut);
        assert!((patience..patience + Duration::from_secs(1)).contains(&start.elapsed()), "{:?}", start.elapsed());
        drop(places);
    }
}
