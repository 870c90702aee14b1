//! However a connection ends, its other end learns of it, and the session stays.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::bench::{Bench, LOOPBACK, Route, Session, reserve, within};
use super::peers::{Ending, Host, Pattern, connect, ending, reset, write_until_told};
use super::streams::{exchange, finish};
use crate::Role;
use crate::forward::ForwardOptions;

/// Whether the session still does what it is for.
fn works(route: &Route, host: &Host) {
    let (client, target) = route.connection(host);
    exchange(&client, &target, 9, 10_000);
    finish(client, target);
}

/// All connections of a path have ended, as far as it tells.
fn all_ended(route: &Route) {
    within("connections whose both ends are gone are gone too", || {
        let open = |traffic: crate::dataserver::Traffic| traffic.connections_open;
        route.gateways.iter().all(|gateway| gateway.traffic().map_or(0, open) == 0)
    });
}

pub(super) fn one_way_goes_on_when_the_other_ended(bench: &Bench) {
    const BYTES: u64 = 1 << 20;
    if !bench.shape.half_close {
        return;
    }
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    for client_first in [true, false] {
        let (client, target) = route.connection(&host);
        let (mut first, mut last) = if client_first { (client, target) } else { (target, client) };
        Pattern::new(1).send(&mut first, 1000);
        first.shutdown(Shutdown::Write).unwrap();
        Pattern::new(1).receive_all(&mut last, 1000);
        // Only now, and more than fits into buffers.
        thread::scope(|scope| {
            scope.spawn(|| Pattern::new(2).receive(&mut first, BYTES));
            Pattern::new(2).send(&mut last, BYTES);
        });
        last.shutdown(Shutdown::Write).unwrap();
        assert_eq!(ending(&mut first), (0, Ending::Orderly));
    }
    all_ended(&route);
    bench.release(route);
}

pub(super) fn a_reset_is_passed_on(bench: &Bench) {
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    let expect = |mut stream: TcpStream, what: &str| {
        let (bytes, told) = ending(&mut stream);
        assert_eq!(bytes, 0, "{what}: bytes came from nowhere");
        assert!(!bench.shape.resets || told == Ending::Reset, "{what}: came as an ordinary end");
    };
    let (client, target) = route.connection(&host);
    reset(client);
    expect(target, "the client's reset");
    let (client, target) = route.connection(&host);
    reset(target);
    expect(client, "the target's reset");
    if bench.shape.half_close {
        let (client, mut target) = route.connection(&host);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(ending(&mut target), (0, Ending::Orderly));
        reset(target);
        expect(client, "the target's reset after the client's end");
        let (mut client, target) = route.connection(&host);
        target.shutdown(Shutdown::Write).unwrap();
        assert_eq!(ending(&mut client), (0, Ending::Orderly));
        reset(client);
        expect(target, "the client's reset after the target's end");
    }
    works(&route, &host);
    all_ended(&route);
    bench.release(route);
}

pub(super) fn a_reset_is_never_taken_for_an_end(bench: &Bench) {
    if !bench.shape.resets {
        return;
    }
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    for seed in 0..10 {
        let (client, target) = route.connection(&host);
        let (mut from, mut to) = if seed % 2 == 0 { (client, target) } else { (target, client) };
        Pattern::new(seed).send(&mut from, 10_000 << seed);
        reset(from);
        assert_eq!(ending(&mut to).1, Ending::Reset, "part of a stream was passed off as the whole");
    }
    works(&route, &host);
    all_ended(&route);
    bench.release(route);
}

pub(super) fn a_client_learns_that_its_target_vanished(bench: &Bench) {
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    for by_reset in [true, false] {
        let (mut client, mut target) = route.connection(&host);
        let mut bytes = vec![0; 100_000];
        thread::scope(|scope| {
            scope.spawn(|| write_until_told(&mut client));
            target.read_exact(&mut bytes).expect("what the client writes does not arrive");
            // With bytes unread.
            if by_reset { reset(target) } else { drop(target) }
        });
    }
    works(&route, &host);
    all_ended(&route);
    bench.release(route);
}

pub(super) fn a_target_learns_that_its_client_vanished(bench: &Bench) {
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    let ended_before = [false, true];
    for ended_before in ended_before.into_iter().filter(|ended| !ended || bench.shape.half_close) {
        let (mut client, mut target) = route.connection(&host);
        if ended_before {
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(ending(&mut target), (0, Ending::Orderly));
        }
        let mut bytes = vec![0; 100_000];
        thread::scope(|scope| {
            scope.spawn(|| write_until_told(&mut target));
            client.read_exact(&mut bytes).expect("what the target writes does not arrive");
            drop(client);
        });
    }
    works(&route, &host);
    all_ended(&route);
    bench.release(route);
}

pub(super) fn clients_may_leave_at_once(bench: &Bench) {
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    for turn in 0..60 {
        let mut client = connect(route.entrance());
        if turn % 3 == 0 {
            let _ = client.write_all(b"x");
        }
        if turn % 2 == 0 {
            reset(client);
        }
    }
    works(&route, &host);
    drop(host);
    all_ended(&route);
    bench.release(route);
}

pub(super) fn a_target_may_listen_late(bench: &Bench) {
    if !bench.shape.retries {
        return;
    }
    let options = ForwardOptions { connect_timeout: super::SOON, ..ForwardOptions::default() };
    let port = reserve(SocketAddr::new(LOOPBACK, 0));
    let target = port.address().to_string().parse().unwrap();
    let route = bench.try_route(&Session::with(options), &[target]).expect("a session did not start");
    let mut client = connect(route.entrance());
    client.write_all(b"early").unwrap();
    // Long enough for attempts that fail.
    thread::sleep(Duration::from_millis(200));
    let listener = port.listen().unwrap();
    listener.set_nonblocking(false).unwrap();
    let mut target = Host::of(listener).accept();
    let mut heard = [0; 5];
    target.read_exact(&mut heard).expect("what was sent before the target listened does not arrive");
    assert_eq!(&heard, b"early");
    exchange(&client, &target, 1, 10_000);
    finish(client, target);
    bench.release(route);
}

/// For checks that wait for it.
fn impatient() -> Session {
    Session::with(ForwardOptions { connect_timeout: Duration::from_secs(5), ..ForwardOptions::default() })
}

pub(super) fn a_client_is_told_that_its_target_never_listens(bench: &Bench) {
    let port = reserve(SocketAddr::new(LOOPBACK, 0));
    let target = port.address().to_string().parse().unwrap();
    let route = bench.try_route(&impatient(), &[target]).expect("a session did not start");
    for speaks in [false, true] {
        let mut client = connect(route.entrance());
        if speaks {
            let _ = client.write_all(b"anybody there?");
        }
        let (bytes, told) = ending(&mut client);
        assert_eq!(bytes, 0, "bytes came from nowhere");
        assert!(!bench.shape.resets || told == Ending::Reset, "a client whose target refuses is told by a reset");
    }
    let listener = port.listen().unwrap();
    listener.set_nonblocking(false).unwrap();
    works(&route, &Host::of(listener));
    all_ended(&route);
    bench.release(route);
}

pub(super) fn the_other_gateway_may_come_back(bench: &Bench) {
    if bench.single {
        return;
    }
    let host = Host::new();
    let session = impatient();
    let mut route = bench.route(&session, &[&host]);
    let (mut client, mut target) = route.connection(&host);
    let producer = route.gateways.pop().unwrap();
    let ports = bench.release_gateway(producer);
    ending(&mut client);
    ending(&mut target);
    drop((client, target));
    ending(&mut connect(route.entrance()));
    let producer = bench.start_at(&session, Role::Producer, ports, &[host.target()]);
    route.gateways.push(producer.expect("a gateway can be started anew on its ports"));
    works(&route, &host);
    all_ended(&route);
    bench.release(route);
}
