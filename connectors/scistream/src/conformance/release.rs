//! When a session ends.

use std::io;
use std::net::TcpStream;

use super::bench::{Bench, Route, Session, reserve, within};
use super::peers::{Host, Pattern, ending};

/// A path with connections in all states: streaming, stalled, idle.
fn busy(bench: &Bench, host: &Host, other: &Host) -> (Route, Vec<(TcpStream, TcpStream)>) {
    let route = bench.route(&Session::new(), &[host, other]);
    let mut connections: Vec<_> = (0..5).map(|_| route.connection(host)).collect();
    for (client, target) in &mut connections[..2] {
        Pattern::new(1).send_until_stalled(client, 10 << 20);
        Pattern::new(2).send_until_stalled(target, 1 << 20);
    }
    (route, connections)
}

pub(super) fn a_release_leaves_nothing_behind(bench: &Bench) {
    bench.leaves_nothing("a release", || {
        let before = bench.holdings();
        let (host, other) = (Host::new(), Host::new());
        let (route, connections) = busy(bench, &host, &other);
        bench.release(route);
        let now = bench.holdings();
        assert_eq!(now.children, before.children, "no process is left after a release");
        assert_eq!(now.files, before.files, "no file is left after a release");
        for (mut client, mut target) in connections {
            // They are told, in whichever way.
            ending(&mut client);
            ending(&mut target);
        }
    });
}

pub(super) fn a_drop_leaves_nothing_behind(bench: &Bench) {
    bench.leaves_nothing("a drop", || {
        let (host, other) = (Host::new(), Host::new());
        let (route, connections) = busy(bench, &host, &other);
        let listeners: Vec<_> = route.gateways.iter().flat_map(|gateway| gateway.listeners.clone()).collect();
        drop(route);
        for listener in &listeners {
            within("a listener refuses after its session was dropped", || {
                TcpStream::connect(listener).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            });
            drop(reserve(*listener));
        }
        for (mut client, mut target) in connections {
            ending(&mut client);
            ending(&mut target);
        }
    });
}
