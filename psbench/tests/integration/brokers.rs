//! The brokers on a real Redis, and on servers that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench::brokers::{BrokerChoice, BrokerError, Message, MessageFormat, Subscriber, conformance};
use psbench::item::{self, Head};
use psbench_connectors::redis::RedisServer;

use crate::support::{HANGS, NOBODY, Opened, Redis};

fn pub_sub(port: u16) -> BrokerChoice {
    BrokerChoice::Redis { server: RedisServer::tcp("127.0.0.1", port), format: MessageFormat::Psbench }
}

fn queue(port: u16) -> BrokerChoice {
    BrokerChoice::RedisQueue { server: RedisServer::tcp("127.0.0.1", port), format: MessageFormat::Psbench }
}

/// What makes the subscriber end.
fn end_of(subscriber: &mut dyn Subscriber) -> BrokerError {
    let until = Instant::now() + HANGS;
    let mut messages = Vec::new();
    while Instant::now() < until {
        if let Err(error) = subscriber.receive(&mut messages, Duration::from_millis(100)) {
            return error;
        }
    }
    panic!("the subscriber did not notice; it has {} messages", messages.len());
}

#[test]
fn redis_pub_sub_conforms() {
    let server = Redis::start(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
    conformance::check(&Opened::new(pub_sub(server.port).open().unwrap()));
}

#[test]
fn redis_queue_conforms_and_leaves_nothing() {
    let server = Redis::start(&[]);
    conformance::check(&Opened::new(queue(server.port).open().unwrap()));
    assert_eq!(server.keys(), [""; 0]);
}

#[test]
fn what_came_ahead_of_garbage_arrives() {
    let server = Redis::start(&[]);
    let broker = queue(server.port).open().unwrap();
    let sent: Vec<Message> =
        (0..10).map(|n| Message { head: Bytes::from(vec![n]), payload: Bytes::from_static(b"payload") }).collect();
    broker.config().publisher("topic").unwrap().publish(&sent).unwrap();
    redis::cmd("RPUSH").arg("topic").arg("").exec(&mut server.connection()).unwrap();
    let mut subscriber = broker.subscribe("topic").unwrap();
    let mut received = Vec::new();
    let error = (0..20).find_map(|_| subscriber.receive(&mut received, Duration::from_secs(1)).err()).unwrap();
    assert!(matches!(error, BrokerError::Protocol { .. }), "{error}");
    assert_eq!(received, sent);
}

#[test]
fn what_follows_the_end_stays_in_another_programs_list() {
    let server = Redis::start(&[]);
    let choice = BrokerChoice::RedisQueue {
        server: RedisServer::tcp("127.0.0.1", server.port),
        format: MessageFormat::ProxyStore,
    };
    let broker = choice.open().unwrap();
    let end = Message { head: item::encode(&Head::End { generator: 0, generated: 0 }), payload: Bytes::new() };
    broker.config().publisher("topic").unwrap().publish(std::slice::from_ref(&end)).unwrap();
    redis::cmd("RPUSH").arg("topic").arg(&["another", "stream"]).exec(&mut server.connection()).unwrap();
    let mut subscriber = broker.subscribe("topic").unwrap();
    let mut received = Vec::new();
    while received.is_empty() {
        subscriber.receive(&mut received, HANGS).unwrap();
    }
    subscriber.receive(&mut received, Duration::from_millis(200)).unwrap();
    assert_eq!(received, [end]);
    let left: u64 = redis::cmd("LLEN").arg("topic").query(&mut server.connection()).unwrap();
    assert_eq!(left, 2);
}

#[test]
fn the_servers_settings_are_told() {
    let server = Redis::start(&["--maxmemory", "100mb"]);
    let info = pub_sub(server.port).open().unwrap().info().unwrap();
    assert!(info.version.starts_with(|first: char| first.is_ascii_digit()), "{info:?}");
    assert_eq!(info.configuration["maxmemory"], "104857600");
    assert!(info.configuration["client-output-buffer-limit"].contains("pubsub"));
}

#[test]
fn a_dropped_subscriber_is_told_why_and_what_to_do() {
    let server = Redis::start(&["--client-output-buffer-limit", "pubsub 1mb 1mb 1"]);
    let broker = pub_sub(server.port).open().unwrap();
    let mut subscriber = broker.subscribe("topic").unwrap();
    let mut publisher = broker.config().publisher("topic").unwrap();
    let large = Message { head: Bytes::from_static(b"head"), payload: vec![7; 8 << 20].into() };
    // It subscribes again after a cut; again and again the same cut ends it. The server may notice with a message or with the next.
    let until = Instant::now() + HANGS;
    let error = loop {
        assert!(Instant::now() < until, "the subscriber goes on");
        match publisher.publish(std::slice::from_ref(&large)) {
            Ok(()) | Err(BrokerError::Unheard { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        if let Err(error) = subscriber.receive(&mut Vec::new(), Duration::from_millis(50)) {
            break error.to_string();
        }
    };
    assert!(error.contains("client-output-buffer-limit") && error.contains("1048576"), "{error}");
    assert!(error.contains("--stream redis-queue"), "{error}");
}

#[test]
fn a_server_that_goes_away_is_named() {
    for choice in [pub_sub, queue] {
        let server = Redis::start(&[]);
        let broker = choice(server.port).open().unwrap();
        let mut subscriber = broker.subscribe("topic").unwrap();
        let mut publisher = broker.config().publisher("topic").unwrap();
        let address = server.address();
        drop(server);
        let message = Message { head: Bytes::from_static(b"head"), payload: Bytes::new() };
        let unsent = publisher.publish(&[message]).unwrap_err().to_string();
        assert!(unsent.contains(&address), "{unsent}");
        let ended = end_of(&mut *subscriber).to_string();
        assert!(ended.contains(&address), "{ended}");
    }
}

#[test]
fn a_server_that_is_not_there_is_named_with_what_to_do() {
    let (_, port) = NOBODY.rsplit_once(':').unwrap();
    let error = pub_sub(port.parse().unwrap()).open().unwrap_err().to_string();
    assert!(error.contains(NOBODY) && error.contains("--stream-servers"), "{error}");
}

#[test]
fn a_server_out_of_memory_is_named_with_what_to_do() {
    let server = Redis::start(&["--maxmemory", "3mb"]);
    let broker = queue(server.port).open().unwrap();
    let mut publisher = broker.config().publisher("topic").unwrap();
    let message = Message { head: Bytes::from_static(b"head"), payload: vec![7; 1 << 20].into() };
    let error = (0..20).find_map(|_| publisher.publish(std::slice::from_ref(&message)).err()).unwrap().to_string();
    assert!(error.contains("maxmemory"), "{error}");
}

#[test]
fn a_topic_that_others_use_is_noticed() {
    let server = Redis::start(&[]);
    let mut subscriber = pub_sub(server.port).open().unwrap().subscribe("topic").unwrap();
    redis::cmd("PUBLISH").arg("topic").arg("something else").exec(&mut server.connection()).unwrap();
    let error = end_of(&mut *subscriber).to_string();
    assert!(error.contains("not psbench's"), "{error}");
}

/// Answers one connection with these parts, with a pause before each.
fn dripping(parts: Vec<Vec<u8>>, pause: Duration) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, parts) = (connection.unwrap(), parts.clone());
            thread::spawn(move || {
                let mut asked = [0; 512];
                while let Ok(length @ 1..) = connection.read(&mut asked) {
                    if asked[..length].windows(4).any(|word| word == b"PING") {
                        connection.write_all(b"+PONG\r\n").unwrap();
                        continue;
                    }
                    for part in &parts {
                        thread::sleep(pause);
                        connection.write_all(part).unwrap();
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_message_that_comes_in_pieces_is_whole() {
    let confirmation = b"*3\r\n$9\r\nsubscribe\r\n$5\r\ntopic\r\n:1\r\n".to_vec();
    let pieces = [&b"*3\r\n$7\r\nmessage\r\n$5\r\ntopic\r\n$11\r\n\x04\0"[..], b"\0\0he", b"adpay\r\n"];
    let parts = std::iter::once(confirmation).chain(pieces.map(<[u8]>::to_vec)).collect();
    let port = dripping(parts, Duration::from_millis(150));
    let mut subscriber = pub_sub(port).open().unwrap().subscribe("topic").unwrap();
    let mut messages = Vec::new();
    while messages.is_empty() {
        subscriber.receive(&mut messages, Duration::from_millis(50)).unwrap();
    }
    assert_eq!((&messages[0].head[..], &messages[0].payload[..]), (&b"head"[..], &b"pay"[..]));
}

#[test]
fn something_else_than_redis_is_noticed() {
    let port = dripping(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], Duration::ZERO);
    let error = pub_sub(port).open().unwrap().subscribe("topic").err().unwrap().to_string();
    assert!(error.contains(&port.to_string()), "{error}");
}
