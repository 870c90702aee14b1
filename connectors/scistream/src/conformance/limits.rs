//! What a data server does not allow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::SOON;
use super::bench::{Bench, Session};
use super::peers::{Host, Pattern, connect, ending};
use super::streams::exchange;
use crate::Role;
use crate::dataserver::DataServerError;
use crate::forward::{ForwardOptions, Target};

pub(super) fn a_stalled_reader_stalls_the_writer(bench: &Bench) {
    /// More than can wait on the way: sockets' buffers, which the kernel tunes up to some MB each, those of the gateways, and with QUIC what a
    /// path of the measured round-trip time holds at 10 Gbit/s, which is half a gigabyte where a busy machine takes 400 ms to answer.
    const HELD: u64 = 2 << 30;
    let options = ForwardOptions { buffer_size: 1 << 20, socket_buffer: Some(1 << 20), ..ForwardOptions::default() };
    let host = Host::new();
    let route = match bench.try_route(&Session::with(options.clone()), &[host.target()]) {
        // It leaves its sockets' buffers to the kernel.
        Err(DataServerError::Unsupported { .. }) => {
            bench.route(&Session::with(ForwardOptions { socket_buffer: None, ..options }), &[&host])
        }
        started => started.expect("a session did not start"),
    };
    for client_writes in [true, false] {
        let (client, target) = route.connection(&host);
        let (mut writer, mut reader) = if client_writes { (client, target) } else { (target, client) };
        let mut sent = Pattern::new(3);
        let held = sent.send_until_stalled(&mut writer, HELD);
        assert!(held < HELD, "a reader that takes nothing does not stop its writer: {held} bytes are on the way");
        // And all of it arrives, with what comes after.
        const FURTHER: u64 = 1 << 20;
        thread::scope(|scope| {
            scope.spawn(|| {
                sent.send(&mut writer, FURTHER);
                writer.shutdown(Shutdown::Write).unwrap();
            });
            Pattern::new(3).receive_all(&mut reader, held + FURTHER);
        });
    }
    bench.release(route);
}

pub(super) fn idle_connections_end(bench: &Bench) {
    let options = ForwardOptions { idle_timeout: Some(Duration::from_secs(5)), ..ForwardOptions::default() };
    let host = Host::new();
    let route = bench.route(&Session::with(options), &[&host]);
    let (mut client, mut target) = route.connection(&host);
    ending(&mut client);
    ending(&mut target);
    bench.release(route);
}

pub(super) fn a_rate_is_kept(bench: &Bench) {
    /// Bits/s.
    const RATE: u64 = 16_000_000;
    /// Two seconds of it.
    const BYTES: u64 = 4_000_000;
    if !bench.server(Role::Producer).enforces_rate() {
        return;
    }
    let host = Host::new();
    let route = bench.route(&Session { rate: Some(RATE), ..Session::new() }, &[&host]);
    let connections = [route.connection(&host), route.connection(&host)];
    let begin = Instant::now();
    thread::scope(|scope| {
        for ((client, target), seed) in connections.iter().zip(1..) {
            scope.spawn(move || exchange(client, target, seed, BYTES / 2));
        }
    });
    // Half of it may be a burst.
    let elapsed = begin.elapsed();
    assert!(elapsed > Duration::from_secs(1), "{BYTES} bytes took {elapsed:?} at {RATE} bits/s");
    bench.release(route);
}

pub(super) fn waiting_for_the_rate_is_not_idling(bench: &Bench) {
    /// Bits/s: what is moved at a time takes twice as long as a connection may be idle.
    const RATE: u64 = 1365;
    /// More than that.
    const BYTES: u64 = 1100;
    if !bench.server(Role::Producer).enforces_rate() {
        return;
    }
    let options = ForwardOptions { idle_timeout: Some(Duration::from_secs(3)), ..ForwardOptions::default() };
    let host = Host::new();
    let route = bench.route(&Session { rate: Some(RATE), ..Session::with(options) }, &[&host]);
    let (mut client, mut target) = route.connection(&host);
    Pattern::new(4).send(&mut client, BYTES);
    client.shutdown(Shutdown::Write).unwrap();
    Pattern::new(4).receive_all(&mut target, BYTES);
    bench.release(route);
}

pub(super) fn nothing_without_the_key(bench: &Bench) {
    if !bench.shape.keyed {
        return;
    }
    let host = Host::new();
    let options = ForwardOptions { connect_timeout: Duration::from_secs(5), ..ForwardOptions::default() };
    let session = Session::with(options);
    let start = |session: &Session, role, targets: &[Target]| {
        bench.start(session, role, targets).expect("a session starts whatever the other gateway is like")
    };
    let producer = start(&session, Role::Producer, &[host.target()]);

    // Of the same session, as far as a name goes.
    let stranger = Session { uid: session.uid, ..Session::with(session.options.clone()) };
    let consumer = start(&stranger, Role::Consumer, &producer.entrances());
    let mut client = connect(consumer.listeners[0]);
    let _ = client.write_all(b"let me in");
    assert_eq!(ending(&mut client).0, 0, "a gateway without the key gets bytes");
    bench.release_gateway(consumer);

    // Nothing listens for connections where gateways talk over UDP.
    if let Ok(mut client) = TcpStream::connect(producer.listeners[0]) {
        client.set_read_timeout(Some(SOON)).unwrap();
        let _ = client.write_all(b"GET / HTTP/1.1\r\n\r\n");
        // It may have been reset for that already.
        let _ = client.shutdown(Shutdown::Write);
        // An alert perhaps.
        ending(&mut client);
    }

    let consumer = start(&session, Role::Consumer, &producer.entrances());
    let mut client = connect(consumer.listeners[0]);
    client.write_all(b"friend").unwrap();
    let mut target = host.accept();
    let mut heard = [0; 6];
    target.read_exact(&mut heard).expect("the first connection that reaches the target is of whoever has the key");
    assert_eq!(&heard, b"friend");
    target.write_all(b"welcome").unwrap();
    let mut heard = [0; 7];
    client.read_exact(&mut heard).expect("whoever has the key is answered");
    assert!(host.is_untouched(), "whoever has no key reached the target");
    bench.release_gateway(consumer);
    bench.release_gateway(producer);
}
