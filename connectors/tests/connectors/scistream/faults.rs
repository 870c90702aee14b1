//! What breaks, and what becomes of objects then.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use psbench_connectors::scistream::{Exit, ScistreamClient, Ways};
use psbench_connectors::{Connector, ConnectorError, KeySource, Lifetime, Resolver, Store, StoreOptions};
use scistream::dataserver::DataServerType;

use super::support::{Gateway, Pair, binary, through, until, ways};

/// Passes connections on to `to`, each for so many bytes as `lives` says of it by its number: then both ends are closed.
fn fragile(to: SocketAddr, lives: impl Fn(usize) -> u64 + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let server = TcpStream::connect(to).unwrap();
            let bytes = lives(number);
            thread::spawn(move || relay(&client, &server, bytes));
        }
    });
    (address, count)
}

/// Passes all on that the client says, and so many bytes of what the server does; then both ends are closed.
fn relay(client: &TcpStream, server: &TcpStream, bytes: u64) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &*client, &mut &*server);
            let _ = server.shutdown(Shutdown::Write);
        });
        pass(server, client, bytes);
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, mut bytes: u64) {
    let mut buffer = [0; 65_536];
    while bytes > 0 {
        let most = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        match from.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                if to.write_all(&buffer[..read]).is_err() {
                    return;
                }
                bytes -= read as u64;
            }
        }
    }
}

fn listeners(ways: &Ways) -> Vec<SocketAddr> {
    let of = |exit: &Exit| exit.ports.iter().map(|port| format!("{}:{port}", exit.host)).collect::<Vec<_>>();
    ways.sites[0].exits.iter().flat_map(of).map(|text| text.parse().unwrap()).collect()
}

fn by_way_of(ways: &Ways, listeners: &[SocketAddr]) -> Ways {
    let mut ways = ways.clone();
    ways.sites[0].exits =
        listeners.iter().map(|at| Exit { host: at.ip().to_string(), ports: vec![at.port()] }).collect();
    ways
}

#[test]
fn an_object_survives_connections_that_break_while_it_is_on_its_way() {
    let pair = Pair::start(DataServerType::Copy);
    let connector = pair.open(1);
    let ways = ways(&*connector);
    // The first three break after the verdict, within the head, within the object.
    let (address, count) =
        fragile(listeners(&ways)[0], |number| [1, 5, 500_000].get(number).copied().unwrap_or(u64::MAX));
    let worker = ScistreamClient::connect_from(&by_way_of(&ways, &[address]), "").unwrap();
    let key = connector.put(binary(1_000_000)).unwrap();
    assert!(worker.take(&key).unwrap() == Some(binary(1_000_000)));
    assert_eq!(count.load(Ordering::SeqCst), 4);
    assert_eq!(connector.held(), Some(0));
}

/// A client's connection as far as its first request, which waits here.
fn asked(gate: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let (mut client, _) = gate.accept().unwrap();
    let mut server = TcpStream::connect(to).unwrap();
    let (mut hello, mut verdict, mut request) = ([0; 21], [0; 1], [0; 17]);
    client.read_exact(&mut hello).unwrap();
    server.write_all(&hello).unwrap();
    server.read_exact(&mut verdict).unwrap();
    client.write_all(&verdict).unwrap();
    client.read_exact(&mut request).unwrap();
    server.write_all(&request).unwrap();
    (client, server)
}

#[test]
fn confirmations_that_were_lost_are_said_again() {
    const LINES: usize = 3;
    let pair = Pair::start(DataServerType::Copy);
    let connector = pair.open(1);
    let ways = ways(&*connector);
    let gate = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gate.local_addr().unwrap();
    let to = listeners(&ways)[0];
    let gate = thread::spawn(move || {
        // Each asks before any has an answer, so that none shares another's line.
        let mut lines = [(); LINES].map(|()| asked(&gate, to));
        for (client, server) in &mut lines {
            // The head and the object get through, but what the worker says to that does not.
            let (mut answer, mut confirmation) = ([0; 9 + 1000], [0; 17]);
            server.read_exact(&mut answer).unwrap();
            client.write_all(&answer).unwrap();
            client.read_exact(&mut confirmation).unwrap();
        }
        drop(lines);
        let (later, _) = gate.accept().unwrap();
        let server = TcpStream::connect(to).unwrap();
        relay(&later, &server, u64::MAX);
    });
    let worker = ScistreamClient::connect_from(&by_way_of(&ways, &[address]), "").unwrap();
    let keys = connector.put_batch(vec![binary(1000); LINES + 1]).unwrap();
    let take = |key| assert!(worker.take(key).unwrap() == Some(binary(1000)));
    thread::scope(|scope| {
        for key in &keys[1..] {
            scope.spawn(move || take(key));
        }
    });
    take(&keys[0]);
    assert_eq!(connector.held(), Some(0));
    drop(worker);
    gate.join().unwrap();
}

#[test]
fn a_listener_that_is_gone_is_made_up_for_by_the_others() {
    let pair = Pair::start(DataServerType::Copy);
    let connector = pair.open(3);
    let ways = ways(&*connector);
    let mut all = listeners(&ways);
    assert_eq!(all.len(), 3);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    all[1] = closed;
    let worker = Arc::new(ScistreamClient::connect_from(&by_way_of(&ways, &all), "").unwrap());
    let keys = connector.put_batch(vec![binary(200_000); 60]).unwrap();
    thread::scope(|scope| {
        for keys in keys.chunks(10) {
            let worker = Arc::clone(&worker);
            scope.spawn(move || {
                for key in keys {
                    assert!(worker.take(key).unwrap() == Some(binary(200_000)));
                }
            });
        }
    });
    assert_eq!(connector.held(), Some(0));
}

#[test]
fn one_of_several_connections_that_breaks_over_and_over_loses_nothing() {
    let pair = Pair::start(DataServerType::Splice);
    let connector = pair.open(2);
    let ways = ways(&*connector);
    let all = listeners(&ways);
    let (bad, count) = fragile(all[0], |_| 700_000);
    let worker = ScistreamClient::connect_from(&by_way_of(&ways, &[bad, all[1]]), "").unwrap();
    for _ in 0..40 {
        let key = connector.put(binary(300_000)).unwrap();
        assert!(worker.take(&key).unwrap() == Some(binary(300_000)));
    }
    assert_eq!(connector.held(), Some(0));
    assert!(count.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_gateway_that_is_lost_fails_objects_by_name_and_in_time() {
    let mut pair = Pair::start(DataServerType::Copy);
    let connector = pair.open(2);
    let worker = connector.address().connect().unwrap();
    let keys = connector.put_batch(vec![binary(1000); 40]).unwrap();
    worker.take(&keys[0]).unwrap().unwrap();
    // That it has arrived is on its way still.
    until("what arrived is gone", || connector.held() == Some(39));
    pair.consumer.stop();
    let began = Instant::now();
    for key in &keys[1..] {
        let error = worker.take(key).unwrap_err();
        assert!(matches!(error, ConnectorError::Io { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("scistream at 127.") && text.contains("connect to the gateway at 127."), "{text}");
    }
    // The first one waits for the gateway, those behind it hardly: were each to wait, it would take a minute and a half.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(connector.held(), Some(39));
    // The other half is given back, whatever has become of this one.
    drop(connector);
    assert_eq!(pair.producer.sessions(), 0);
}

#[test]
fn a_path_that_gateways_lost_is_made_anew_for_what_is_stored_from_then_on() {
    let pair = Pair::start(DataServerType::Copy);
    let (config, keys) = (through(pair.crossing(2)), KeySource::random());
    let connector = config.open(keys.clone()).unwrap();
    let store = Store::new(Arc::clone(&connector), StoreOptions { cache_bytes: 0, checksum: true });
    config.abandon(&keys).unwrap();
    until("the path is there again", || pair.sessions() == (1, 1));
    let resolver = Resolver::new("w", StoreOptions::default());
    until("proxies lead by way of it", || {
        let proxy = store.proxy(binary(100_000), Lifetime::Owned).unwrap();
        resolver.resolve(&proxy, true).is_ok_and(|resolved| resolved.bytes == binary(100_000))
    });
    drop((store, connector));
    assert_eq!(pair.sessions(), (0, 0));
}

#[test]
fn a_gateway_that_is_not_there_is_named_with_its_option() {
    for (lost, option) in [(true, "--scistream-producer-s2cs"), (false, "--scistream-consumer-s2cs")] {
        let mut pair = Pair::start(DataServerType::Copy);
        let gateway = if lost { &mut pair.producer } else { &mut pair.consumer };
        gateway.stop();
        let address = gateway.address;
        let error = through(pair.crossing(1)).open(KeySource::random()).unwrap_err().to_string();
        assert!(error.contains(&format!("{option} {address}")) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn types_that_do_not_fit_are_refused_ahead_of_the_first_object() {
    let mut pair = Pair::start(DataServerType::Copy);
    pair.consumer = Gateway::start(DataServerType::Tls);
    let error = through(pair.crossing(1)).open(KeySource::random()).unwrap_err().to_string();
    assert!(error.contains("uses copy") && error.contains("uses tls"), "{error}");
    assert_eq!(pair.sessions(), (0, 0));
}
