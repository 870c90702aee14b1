//! Two gateways, and whoever is none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection, StreamOwned};
use uuid::Uuid;

use super::go::PROTOCOL;
use crate::dataserver::identity::{client_config, server_config};
use crate::dataserver::{DataServer, Tls};
use crate::forward::{ForwardOptions, ForwardPlan, Forwarding, Lane, Meter, ReservedPort, Secret, Transport};
use crate::{DataPlane, Role};

/// Nothing here takes long, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn secret() -> Secret {
    Secret::random([1; 32])
}

fn start(role: Role, target: SocketAddr, options: ForwardOptions) -> (Box<dyn Forwarding>, SocketAddr) {
    let port = ReservedPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = port.address();
    let plan = ForwardPlan {
        uid: Uuid::new_v4(),
        role,
        lanes: vec![Lane { port, target: target.to_string().parse().unwrap() }],
        transport: Transport::Tcp,
        secret: secret(),
        options,
        rate: None,
        meter: Arc::new(Meter::default()),
    };
    let plane = Arc::new(DataPlane::new(None).unwrap());
    (Tls::new(plane).start(plan).now_or_never().unwrap().unwrap(), address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn accept(listener: &TcpListener) -> TcpStream {
    let until = Instant::now() + PATIENCE;
    listener.set_nonblocking(true).unwrap();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("nobody came: {error}"),
        }
    }
}

fn nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An application, the gateways before it and where they accept.
struct Both {
    application: TcpListener,
    _gateways: [Box<dyn Forwarding>; 2],
    address: SocketAddr,
}

impl Both {
    fn new(options: &ForwardOptions) -> Self {
        let (application, address) = listener();
        let (producer, address) = start(Role::Producer, address, options.clone());
        let (consumer, address) = start(Role::Consumer, address, options.clone());
        Self { application, _gateways: [producer, consumer], address }
    }

    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = connect(self.address);
        (client, accept(&self.application))
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + index / 256) as u8).collect()
}

/// Whatever was to be read until the end, which is a reset.
fn read_to_reset(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let error = stream.read_to_end(&mut all).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    all
}

#[test]
fn streams_go_both_ways_at_once_and_end_each_for_itself() {
    let both = Both::new(&ForwardOptions::default());
    let (client, target) = both.pair();
    let sent = bytes(5_000_000);
    thread::scope(|scope| {
        for (mut from, mut to) in [(&client, &target), (&target, &client)] {
            let sent = &sent;
            scope.spawn(move || {
                from.write_all(sent).unwrap();
                from.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut heard = Vec::new();
                to.read_to_end(&mut heard).unwrap();
                assert!(heard == *sent);
            });
        }
    });
}

#[test]
fn the_application_may_speak_first_and_after_the_other_stream_ended() {
    let both = Both::new(&ForwardOptions { buffer_size: 1, ..ForwardOptions::default() });
    let (mut client, mut target) = both.pair();
    target.write_all(b"welcome").unwrap();
    let mut heard = [0; 7];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"welcome");
    client.write_all(b"request").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut request = Vec::new();
    target.read_to_end(&mut request).unwrap();
    target.write_all(&request).unwrap();
    drop(target);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"request");
}

#[test]
fn a_reset_of_either_side_is_one_of_the_other() {
    let both = Both::new(&ForwardOptions::default());
    for client_first in [true, false] {
        let (client, target) = both.pair();
        let (one, mut other) = if client_first { (client, target) } else { (target, client) };
        // Both ends are there, and the other one does not read.
        other.write_all(b"x").unwrap();
        rustix::net::sockopt::set_socket_linger(&one, Some(Duration::ZERO)).unwrap();
        drop(one);
        assert!(read_to_reset(other).is_empty());
    }
}

#[test]
fn a_client_whose_target_refuses_is_reset() {
    let (nobody, address) = listener();
    drop(nobody);
    let options = ForwardOptions { connect_timeout: Duration::from_millis(100), ..ForwardOptions::default() };
    let (_producer, producer) = start(Role::Producer, address, options.clone());
    let (_consumer, consumer) = start(Role::Consumer, producer, options);
    assert!(read_to_reset(connect(consumer)).is_empty());
}

/// Has both directions of connections to an address pass through two functions, which may stop them.
fn between(
    address: SocketAddr,
    passing: impl Fn(bool, &mut Vec<u8>) -> io::Result<()> + Clone + Send + 'static,
) -> SocketAddr {
    let (listener, own) = listener();
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let server = TcpStream::connect(address).unwrap();
            for there in [true, false] {
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (mut from, mut to) = if there { ends } else { (ends.1, ends.0) };
                let passing = passing.clone();
                thread::spawn(move || {
                    let mut part = vec![0; 1000];
                    loop {
                        part.resize(1000, 0);
                        let Ok(read @ 1..) = from.read(&mut part) else { break };
                        part.truncate(read);
                        if passing(there, &mut part).is_err() || to.write_all(&part).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    own
}

#[test]
fn what_is_on_the_way_reads_nothing_and_changes_nothing_unnoticed() {
    const SECRET: &[u8] = b"a sentence that is found again";
    for tampering in [false, true] {
        let (application, address) = listener();
        let (_producer, producer) = start(Role::Producer, address, ForwardOptions::default());
        let (seen, changed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (eye, hand) = (Arc::clone(&seen), Arc::clone(&changed));
        let middle = between(producer, move |there, part| {
            if part.windows(SECRET.len()).any(|window| window == SECRET) {
                eye.store(true, Ordering::Relaxed);
            }
            // Handshakes are shorter.
            if tampering && there && part.len() == 1000 && !hand.swap(true, Ordering::Relaxed) {
                part[500] ^= 1;
            }
            Ok(())
        });
        let (_consumer, consumer) = start(Role::Consumer, middle, ForwardOptions::default());
        let mut client = connect(consumer);
        let mut target = accept(&application);
        let sent = SECRET.repeat(4000);
        let written = client.write_all(&sent).and_then(|()| client.shutdown(Shutdown::Write));
        let mut heard = Vec::new();
        let ended = target.read_to_end(&mut heard);
        assert!(sent.starts_with(&heard));
        assert!(!seen.load(Ordering::Relaxed));
        assert_eq!(changed.load(Ordering::Relaxed), tampering);
        if tampering {
            assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
            drop(target);
            assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        } else {
            written.unwrap();
            ended.unwrap();
            assert_eq!(heard.len(), sent.len());
        }
    }
}

#[test]
fn a_connection_that_ends_before_its_stream_is_a_reset() {
    let (application, address) = listener();
    let (_producer, producer) = start(Role::Producer, address, ForwardOptions::default());
    let cut = Arc::new(AtomicBool::new(false));
    let cutting = Arc::clone(&cut);
    let middle =
        between(
            producer,
            move |there, _| {
                if there && cutting.load(Ordering::Relaxed) { Err(ErrorKind::Other.into()) } else { Ok(()) }
            },
        );
    let (_consumer, consumer) = start(Role::Consumer, middle, ForwardOptions::default());
    let mut client = connect(consumer);
    let mut target = accept(&application);
    client.write_all(b"first").unwrap();
    target.read_exact(&mut [0; 5]).unwrap();
    cut.store(true, Ordering::Relaxed);
    client.write_all(b"second").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_reset(target).is_empty());
}

/// A gateway of the producer's that strangers try.
fn guarded() -> (TcpListener, Box<dyn Forwarding>, SocketAddr) {
    let (application, address) = listener();
    let (gateway, address) = start(Role::Producer, address, ForwardOptions::default());
    (application, gateway, address)
}

/// What a client of TLS gets that has such a configuration, and says what makes a gateway connect to its target.
fn try_tls(config: ClientConfig, address: SocketAddr) -> io::Result<Vec<u8>> {
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, connect(address));
    let mut got = Vec::new();
    stream.write_all(&[1])?;
    stream.flush()?;
    stream.read_to_end(&mut got)?;
    Ok(got)
}

#[test]
fn a_client_without_the_key_gets_nothing() {
    let (application, _gateway, address) = guarded();
    let own_roots = || {
        let mut roots = rustls::RootCertStore::empty();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(rustls::ALL_VERSIONS);
        (builder.unwrap().with_root_certificates(roots), made)
    };

    // Who does not speak TLS at all, in bytes that are none, that look like some, and that are none at all.
    for said in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[22, 3, 1, 0, 5, 0, 0, 0, 0, 0], &[23, 3, 3, 0, 18, 1], b""]
    {
        let mut stream = connect(address);
        stream.write_all(said).unwrap();
        // It may have been reset for that already.
        let _ = stream.shutdown(Shutdown::Write);
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert!(got.is_empty(), "{got:?}");
    }
    // Without a certificate; with one that others would take; with a key that is another session's.
    let (builder, _) = own_roots();
    try_tls(builder.with_no_client_auth(), address).unwrap_err();
    let (builder, made) = own_roots();
    let config = builder.with_client_auth_cert(vec![made.cert.der().clone()], made.signing_key.into()).unwrap();
    try_tls(config, address).unwrap_err();
    try_tls(client_config(&Secret::random([2; 32]), PROTOCOL).unwrap(), address).unwrap_err();
    // With the other session's key, by one that does not mind who the gateway is: it has to be refused by the gateway.
    let mut careless = client_config(&secret(), PROTOCOL).unwrap();
    careless.client_auth_cert_resolver =
        Arc::clone(&client_config(&Secret::random([2; 32]), PROTOCOL).unwrap().client_auth_cert_resolver);
    try_tls(careless, address).unwrap_err();
    // For another purpose of the same session.
    try_tls(client_config(&secret(), b"another").unwrap(), address).unwrap_err();

    nobody_came(&application);
    // Whereas whoever has it gets through.
    let config = client_config(&secret(), PROTOCOL).unwrap();
    thread::scope(|scope| {
        let got = scope.spawn(|| try_tls(config, address));
        accept(&application).write_all(b"hello").unwrap();
        assert_eq!(got.join().unwrap().unwrap(), b"hello");
    });
}

#[test]
fn openssl_is_refused() {
    let (application, _gateway, address) = guarded();
    for more in [&[][..], &["-tls1_3"], &["-tls1_2"], &["-psk", "00112233445566778899aabbccddeeff"]] {
        let client = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &address.to_string()])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut client = match client {
            Ok(client) => client,
            Err(error) => {
                eprintln!("skipped: openssl_is_refused takes openssl: {error}");
                return;
            }
        };
        let _ = client.stdin.take().unwrap().write_all(b"\x01hello");
        let output = client.wait_with_output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    nobody_came(&application);
}

#[test]
fn a_target_is_connected_to_when_somebody_is_there() {
    let options = ForwardOptions { preconnect: 3, ..ForwardOptions::default() };
    let both = Both::new(&options);
    // Ahead of time the producer's gateway has connections, the application none.
    let until = Instant::now() + PATIENCE;
    while both._gateways[0].traffic().unwrap().connections_total < 3 {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(5));
    }
    nobody_came(&both.application);
    for _ in 0..10 {
        let (mut client, mut target) = both.pair();
        client.write_all(b"x").unwrap();
        target.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let (application, _gateway, address) = guarded();
    let silent: Vec<_> = (0..300).map(|_| connect(address)).collect();
    let config = client_config(&secret(), PROTOCOL).unwrap();
    thread::scope(|scope| {
        let got = scope.spawn(|| try_tls(config, address));
        accept(&application).write_all(b"hello").unwrap();
        assert_eq!(got.join().unwrap().unwrap(), b"hello");
    });
    // The first ones were sent away.
    assert!(read_to_reset(silent.into_iter().next().unwrap()).is_empty());
}

#[test]
fn rustls_understands_what_is_sent_and_is_understood() {
    // As the consumer's gateway.
    let (application, _gateway, address) = guarded();
    let config = Arc::new(client_config(&secret(), PROTOCOL).unwrap());
    let name = ServerName::try_from("localhost").unwrap();
    let mut rustls = StreamOwned::new(ClientConnection::new(config, name).unwrap(), connect(address));
    rustls.write_all(&[1]).unwrap();
    rustls.flush().unwrap();
    let mut ours = accept(&application);
    for round in 0..20 {
        let sent = bytes(1 + round * 7919);
        let mut heard = vec![0; sent.len()];
        thread::scope(|scope| {
            scope.spawn(|| ours.read_exact(&mut heard).unwrap());
            rustls.write_all(&sent).unwrap();
            rustls.flush().unwrap();
        });
        assert!(heard == sent);
        // It asks for new keys of both ways.
        rustls.conn.refresh_traffic_keys().unwrap();
        ours.write_all(&sent).unwrap();
        rustls.read_exact(&mut heard).unwrap();
        assert!(heard == sent);
    }
    rustls.conn.send_close_notify();
    rustls.flush().unwrap();
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    ours.write_all(b"last").unwrap();
    drop(ours);
    let mut last = Vec::new();
    // Fails without close_notify.
    rustls.read_to_end(&mut last).unwrap();
    assert_eq!(last, b"last");

    // As the producer's.
    let (listener, address) = listener();
    let (_consumer, consumer) = start(Role::Consumer, address, ForwardOptions::default());
    let mut client = connect(consumer);
    let config = Arc::new(server_config(&secret(), PROTOCOL).unwrap());
    let mut rustls = StreamOwned::new(ServerConnection::new(config).unwrap(), accept(&listener));
    rustls.read_exact(&mut [0]).unwrap();
    client.write_all(b"question").unwrap();
    rustls.read_exact(&mut [0; 8]).unwrap();
    rustls.write_all(b"answer").unwrap();
    rustls.conn.send_close_notify();
    rustls.flush().unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
    client.write_all(b"thanks").unwrap();
    drop(client);
    let mut thanks = Vec::new();
    rustls.read_to_end(&mut thanks).unwrap();
    assert_eq!(thanks, b"thanks");
}

#[tokio::test]
async fn nothing_is_left_of_a_session() {
    let (application, address) = listener();
    let (gateway, address) = start(Role::Producer, address, ForwardOptions::default());
    let silent = connect(address);
    gateway.release().await;
    assert!(read_to_reset(silent).is_empty());
    TcpListener::bind(address).unwrap();
    nobody_came(&application);
}
