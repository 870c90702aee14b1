//! What can go wrong between peers, and what is said about it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::peer::{PeerAddress, PeerClient, PeerLocation, PeerServer};
use psbench_connectors::{Connector, ConnectorError, KeySource, Secret};

/// How long whoever is not let in yet is waited for.
const STRANGERS_TIME: Duration = Duration::from_secs(5);
/// What it has to say meanwhile.
const HELLO_LEN: usize = 21;

fn serve(address: &PeerAddress) -> PeerServer {
    PeerServer::start(address, 1 << 32, KeySource::random()).unwrap()
}

fn tcp_port(server: &PeerServer) -> u16 {
    match &server.location().address {
        PeerAddress::Tcp { port, .. } => *port,
        other => panic!("{other}"),
    }
}

#[test]
fn a_wrong_secret_is_refused_and_named() {
    for address in [PeerAddress::private(), PeerAddress::loopback()] {
        let server = serve(&address);
        let location = PeerLocation { secret: Secret([1; 16]), ..server.location().clone() };
        let error = PeerClient::connect(&location).unwrap_err();
        assert!(error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_server_announces_what_it_is_told_to() {
    let address = PeerAddress::Announced { host: "0.0.0.0".into(), port: 0, announced: "localhost".into() };
    let server = serve(&address);
    let announced = &server.location().address;
    assert!(matches!(announced, PeerAddress::Tcp { host, port } if host == "localhost" && *port != 0), "{announced}");
    let key = server.put(Bytes::from_static(b"there")).unwrap();
    let client = server.address().connect().unwrap();
    assert_eq!(client.get(&key).unwrap(), Some(Bytes::from_static(b"there")));
}

#[test]
fn a_client_may_not_store() {
    let server = serve(&PeerAddress::private());
    let error = server.address().connect().unwrap().put(Bytes::new()).unwrap_err();
    assert!(matches!(error, ConnectorError::Unreachable { .. }));
}

#[test]
fn a_private_socket_is_private_and_goes_with_its_server() {
    let server = serve(&PeerAddress::private());
    let address = server.location().address.clone();
    assert!(address.to_string().starts_with("unix:@psbench-"), "{address}");
    let listening =
        || std::fs::read_to_string("/proc/net/unix").unwrap().contains(&address.to_string()["unix:".len()..]);
    assert!(listening());
    drop(server);
    assert!(!listening());
}

#[test]
fn a_path_that_is_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let address = PeerAddress::Unix(dir.path().join("socket"));
    let _server = serve(&address);
    let error = PeerServer::start(&address, 1, KeySource::random()).unwrap_err().to_string();
    assert!(error.contains("socket: listen: Address already in use"), "{error}");
}

#[test]
fn a_server_at_all_addresses_announces_a_name() {
    let server = serve(&PeerAddress::Tcp { host: "0.0.0.0".into(), port: 0 });
    let PeerAddress::Tcp { host, port } = &server.location().address else { panic!() };
    assert!(host != "0.0.0.0" && *port != 0, "{host}:{port}");
}

#[test]
fn a_server_that_is_gone_is_named() {
    for address in [PeerAddress::private(), PeerAddress::loopback()] {
        let server = serve(&address);
        let key = server.put(Bytes::from_static(b"abc")).unwrap();
        let location = server.location().clone();
        let client = server.address().connect().unwrap();
        client.get(&key).unwrap().unwrap();
        drop(server);
        let error = client.get(&key).unwrap_err().to_string();
        assert!(error.contains(&location.to_string()) && error.contains("still running"), "{error}");
        PeerClient::connect(&location).unwrap_err();
    }
}

#[test]
fn a_stranger_is_dropped_in_time_and_holds_up_nobody() {
    let server = serve(&PeerAddress::loopback());
    let start = Instant::now();
    let mut silent = TcpStream::connect(("127.0.0.1", tcp_port(&server))).unwrap();
    let mut garbage = TcpStream::connect(("127.0.0.1", tcp_port(&server))).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // A reset counts as an end, too.
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    silent.set_nonblocking(true).unwrap();
    let waited_for = silent.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    silent.set_nonblocking(false).unwrap();
    assert!(waited_for || start.elapsed() >= STRANGERS_TIME, "garbage is dropped at once, ahead of who says nothing");
    let key = server.put(Bytes::from_static(b"abc")).unwrap();
    assert_eq!(server.address().connect().unwrap().get(&key).unwrap().unwrap(), "abc");
    // Byte by byte does not help either.
    let mut said = 0;
    while silent.write_all(b"P").is_ok() {
        said += 1;
        assert!(said < HELLO_LEN, "a slow stranger is dropped before it has said all that it might");
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn an_idle_stranger_does_not_keep_the_server_from_ending() {
    let ends_before_its_time = || {
        let server = serve(&PeerAddress::loopback());
        let _stranger = TcpStream::connect(("127.0.0.1", tcp_port(&server))).unwrap();
        let _client = server.address().connect().unwrap();
        let start = Instant::now();
        drop(server);
        start.elapsed() < STRANGERS_TIME
    };
    // Once is enough: a busy machine may take that long by itself.
    assert!((0..12).any(|_| ends_before_its_time()));
}

/// A server that lets everyone in and answers each request with these bytes, then closes.
fn impostor(answer: Vec<u8>) -> Arc<dyn Connector> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let (mut hello, mut request) = ([0; 21], [0; 17]);
            let _ = client.read_exact(&mut hello).and_then(|()| client.write_all(&[0]));
            let _ = client.read_exact(&mut request).and_then(|()| client.write_all(&answer));
        }
    });
    let address = PeerAddress::Tcp { host: "127.0.0.1".into(), port };
    Arc::new(PeerClient::connect(&PeerLocation { address, secret: Secret::default() }).unwrap())
}

#[test]
fn garbage_from_a_server_is_an_error() {
    let key = KeySource::random().next(10);
    for answer in [vec![7; 9], [&[0_u8] as &[u8], &3_u64.to_le_bytes()].concat()] {
        let error = impostor(answer).get(&key).unwrap_err();
        assert!(matches!(error, ConnectorError::Protocol { .. }), "{error}");
    }
    let error = impostor([&[1_u8] as &[u8], &u64::MAX.to_le_bytes()].concat()).get(&key).unwrap_err();
    assert!(error.to_string().contains("it was stored with 10"), "{error}");
}

#[test]
fn a_server_that_breaks_off_is_an_error() {
    let key = KeySource::random().next(10);
    let error = impostor([&[1_u8] as &[u8], &10_u64.to_le_bytes(), b"abc"].concat()).take(&key).unwrap_err();
    assert!(matches!(error, ConnectorError::Io { .. }), "{error}");
}

#[test]
fn another_service_at_the_address_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(b"220 mail ready\r\n")
    });
    let address = PeerAddress::Tcp { host: "127.0.0.1".into(), port };
    let location = PeerLocation { address, secret: Secret::default() };
    let error = PeerClient::connect(&location).unwrap_err().to_string();
    assert!(error.contains("no psbench peer"), "{error}");
}

#[test]
fn more_threads_than_connections_are_served() {
    let server = serve(&PeerAddress::private());
    let keys = server.put_batch((0..100_u8).map(|n| Bytes::from(vec![n; 5000])).collect()).unwrap();
    let client = server.address().connect().unwrap();
    thread::scope(|scope| {
        for (n, key) in keys.iter().enumerate() {
            let client = &client;
            scope.spawn(move || assert_eq!(client.take(key).unwrap().unwrap()[0], n as u8));
        }
    });
}
