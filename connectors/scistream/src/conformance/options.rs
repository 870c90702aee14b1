//! Options work or are refused when a session starts; none is passed over.

use super::bench::{Bench, Session};
use super::peers::Host;
use super::streams::{exchange, finish};
use crate::dataserver::DataServerError;
use crate::forward::{Congestion, ForwardOptions};

pub(super) fn options_are_kept_or_refused(bench: &Bench) {
    let default = ForwardOptions::default;
    let all = [
        ("preconnect", ForwardOptions { preconnect: 2, ..default() }),
        ("stripes", ForwardOptions { stripes: 3, ..default() }),
        ("a congestion control", ForwardOptions { congestion: Congestion::Named("reno".into()), ..default() }),
        ("the system's congestion control", ForwardOptions { congestion: Congestion::System, ..default() }),
        ("sockets' buffers", ForwardOptions { socket_buffer: Some(64 << 10), ..default() }),
        ("a tiny buffer", ForwardOptions { buffer_size: 1, ..default() }),
    ];
    for (name, options) in all {
        // A gateway alone has no other end to put the stripes of a stream together, and can't know it.
        if bench.single && name == "stripes" {
            continue;
        }
        bench.leaves_nothing(name, || works_or_is_refused(bench, name, &options));
    }
}

fn works_or_is_refused(bench: &Bench, name: &str, options: &ForwardOptions) {
    let host = Host::new();
    let route = match bench.try_route(&Session::with(options.clone()), &[host.target()]) {
        Ok(route) => route,
        Err(DataServerError::Unsupported { problem, .. }) => return assert!(!problem.is_empty(), "{name}: why not?"),
        Err(error) => panic!("{name}: {error}"),
    };
    // More than were made ahead of time.
    let count = if name == "preconnect" { 5 } else { 1 };
    // A byte at a time takes its time.
    let bytes = if name == "a tiny buffer" { 2000 } else { 500_000 };
    for seed in 0..count {
        let (client, target) = route.connection(&host);
        exchange(&client, &target, seed, bytes);
        finish(client, target);
    }
    if name == "stripes"
        && let Some(traffic) = route.gateways[1].traffic()
    {
        assert_eq!(traffic.connections_total, 3, "{name}: connections between the gateways");
    }
    bench.release(route);
}
