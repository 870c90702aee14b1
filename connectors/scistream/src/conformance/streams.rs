//! What goes through arrives, as it was sent, where it belongs.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpStream};
use std::thread;

use super::SOON;
use super::bench::{Bench, Session, happens, within};
use super::peers::{Ending, Host, Pattern, connect, ending};

/// Sends so many bytes each way at once, checks what arrives, and ends both ways.
pub(super) fn exchange(client: &TcpStream, target: &TcpStream, seed: u64, bytes: u64) {
    thread::scope(|scope| {
        for (stream, seed) in [(client, 2 * seed), (target, 2 * seed + 1)] {
            let mut writer = stream.try_clone().unwrap();
            let mut reader = stream.try_clone().unwrap();
            scope.spawn(move || Pattern::new(seed).send(&mut writer, bytes));
            scope.spawn(move || Pattern::new(seed ^ 1).receive(&mut reader, bytes));
        }
    });
}

/// Ends a connection from both sides, in order.
pub(super) fn finish(mut client: TcpStream, mut target: TcpStream) {
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ending(&mut target), (0, Ending::Orderly), "the target learns of the end");
    drop(target);
    assert_eq!(ending(&mut client), (0, Ending::Orderly), "the client learns of the end");
}

pub(super) fn bytes_arrive_intact_both_ways(bench: &Bench) {
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    let connections: Vec<_> = (0..3).map(|_| route.connection(&host)).collect();
    thread::scope(|scope| {
        for ((client, target), seed) in connections.iter().zip(1..) {
            scope.spawn(move || exchange(client, target, seed, 3 << 20));
        }
    });
    for (client, target) in connections {
        finish(client, target);
    }
    bench.release(route);
}

pub(super) fn either_side_may_speak_first(bench: &Bench) {
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    let said = b"220 ready\r\n";
    let mut heard = [0; 11];

    let mut client = connect(route.entrance());
    let mut target = host.accept();
    target.write_all(said).unwrap();
    client.read_exact(&mut heard).expect("what the target said first does not arrive");
    assert_eq!(&heard, said);
    finish(client, target);

    let mut client = connect(route.entrance());
    client.write_all(said).unwrap();
    let mut target = host.accept();
    target.read_exact(&mut heard).expect("what the client said first does not arrive");
    assert_eq!(&heard, said);
    finish(client, target);

    // All of it before there is anybody to take it.
    let mut client = connect(route.entrance());
    Pattern::new(5).send(&mut client, 100_000);
    client.shutdown(Shutdown::Write).unwrap();
    let mut target = host.accept();
    Pattern::new(5).receive_all(&mut target, 100_000);
    drop(target);
    assert_eq!(ending(&mut client), (0, Ending::Orderly));
    bench.release(route);
}

pub(super) fn ipv6_and_names_work(bench: &Bench) {
    let address = Ipv6Addr::LOCALHOST.into();
    let host = Host::at(address);
    let route = bench.route(&Session { address, ..Session::new() }, &[&host]);
    let (client, target) = route.connection(&host);
    exchange(&client, &target, 1, 200_000);
    finish(client, target);
    bench.release(route);

    let host = Host::new();
    let target = format!("localhost:{}", host.address().port()).parse().unwrap();
    let route = bench.try_route(&Session::new(), &[target]).expect("a session to a name did not start");
    let (client, target) = route.connection(&host);
    exchange(&client, &target, 2, 200_000);
    finish(client, target);
    bench.release(route);
}

pub(super) fn each_lane_has_its_own_target(bench: &Bench) {
    let hosts: Vec<_> = (0..5).map(|_| Host::new()).collect();
    let route = bench.route(&Session::new(), &hosts.iter().collect::<Vec<_>>());
    // Twice, the second time the other way round.
    let lanes = route.gateways[0].listeners.iter().zip(&hosts);
    let connections: Vec<_> =
        lanes.clone().chain(lanes.rev()).map(|(entrance, host)| host.connection(*entrance)).collect();
    for ((client, target), seed) in connections.iter().zip(1..) {
        exchange(client, target, seed, 10_000);
    }
    for (client, target) in connections {
        finish(client, target);
    }
    bench.release(route);
}

pub(super) fn sessions_do_not_mix(bench: &Bench) {
    let hosts: Vec<_> = (0..3).map(|_| Host::new()).collect();
    let mut routes: Vec<_> = hosts.iter().map(|host| bench.route(&Session::new(), &[host])).collect();
    let connections: Vec<_> = routes.iter().zip(&hosts).map(|(route, host)| route.connection(host)).collect();
    thread::scope(|scope| {
        for ((client, target), seed) in connections.iter().zip(1..) {
            scope.spawn(move || exchange(client, target, seed, 100_000));
        }
    });
    // One ends; the others don't notice.
    bench.release(routes.remove(0));
    for (route, host) in routes.iter().zip(&hosts[1..]) {
        let (client, target) = route.connection(host);
        exchange(&client, &target, 4, 10_000);
        finish(client, target);
    }
    for ((client, target), seed) in connections.iter().zip(1..).skip(1) {
        exchange(client, target, seed, 10_000);
    }
    for route in routes {
        bench.release(route);
    }
}

pub(super) fn many_connections_at_once(bench: &Bench) {
    const CONNECTIONS: u64 = 200;
    const BYTES: u64 = 20_000;
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| route.connection(&host)).collect();
    for ((client, _), seed) in connections.iter_mut().zip(0..) {
        Pattern::new(seed).send(client, BYTES);
    }
    for ((_, target), seed) in connections.iter_mut().zip(0..) {
        Pattern::new(seed).receive(target, BYTES);
        Pattern::new(seed + CONNECTIONS).send(target, BYTES);
    }
    for ((client, _), seed) in connections.iter_mut().zip(0..) {
        Pattern::new(seed + CONNECTIONS).receive(client, BYTES);
    }
    for (client, target) in connections {
        finish(client, target);
    }
    bench.release(route);
}

pub(super) fn connections_one_after_another_leave_nothing_behind(bench: &Bench) {
    const CONNECTIONS: usize = 1000;
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    let connect = |times: usize| {
        for _ in 0..times {
            let (mut client, mut target) = route.connection(&host);
            target.write_all(b"pong").unwrap();
            let mut answer = [0; 4];
            client.read_exact(&mut answer).expect("an answer does not arrive");
            finish(client, target);
        }
    };
    connect(CONNECTIONS / 20);
    let descriptors = bench.holdings().descriptors_of_children();
    bench.leaves_nothing("a thousand connections", || connect(CONNECTIONS));
    // Connections that were still winding up when they were counted first.
    const SLACK: usize = 20;
    within("programs have as few descriptors as before the connections", || {
        bench.holdings().descriptors_of_children() <= descriptors + SLACK
    });
    bench.release(route);
}

pub(super) fn traffic_is_counted(bench: &Bench) {
    const THERE: u64 = 300_000;
    const BACK: u64 = 1000;
    /// What the first bytes of a connection are.
    const NUMBER: u64 = 8;
    let host = Host::new();
    let route = bench.route(&Session::new(), &[&host]);
    for seed in 0..3 {
        let (mut client, mut target) = route.connection(&host);
        Pattern::new(seed).send(&mut client, THERE);
        Pattern::new(seed).receive(&mut target, THERE);
        Pattern::new(seed).send(&mut target, BACK);
        Pattern::new(seed).receive(&mut client, BACK);
        finish(client, target);
    }
    for gateway in &route.gateways {
        if gateway.traffic().is_none() {
            continue;
        }
        let counted = || {
            gateway.traffic().is_some_and(|told| {
                (told.bytes_to_target, told.bytes_to_client) == (3 * (THERE + NUMBER), 3 * BACK)
                    && (told.connections_total, told.connections_open) == (3, 0)
                    && (told.connections_refused, told.connections_reset, told.buffered) == (0, 0, 0)
            })
        };
        // A counter may come late, but has to come.
        assert!(happens(SOON, counted), "traffic is miscounted: {:?}", gateway.traffic());
    }
    bench.release(route);
}
