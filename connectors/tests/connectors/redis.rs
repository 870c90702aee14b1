//! What can go wrong at a Redis server, and what is said about it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use psbench_connectors::redis::{RedisConnector, RedisServer as At};
use psbench_connectors::{Connector, ConnectorError, KeySource};

use crate::support::{RedisServer, free_port};

fn open(server: &RedisServer) -> RedisConnector {
    RedisConnector::open(&At::tcp("127.0.0.1", server.port), KeySource::random()).unwrap()
}

fn command(server: &RedisServer, words: &[&str]) -> redis::Value {
    let client = redis::Client::open(("127.0.0.1", server.port)).unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query(&mut client.get_connection().unwrap()).unwrap()
}

fn setting(server: &RedisServer, name: &str) -> String {
    match command(server, &["INFO"]) {
        redis::Value::BulkString(text) => {
            let text = String::from_utf8(text).unwrap();
            text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap().trim().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_server_is_named_with_its_address() {
    let port = free_port();
    let error = RedisConnector::open(&At::tcp("127.0.0.1", port), KeySource::random()).unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--ps-port"), "{error}");
}

#[test]
fn something_else_than_redis_is_noticed_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        // Unread bytes would turn the end of the connection into a reset.
        client.read_exact(&mut [0; b"*1\r\n$4\r\nPING\r\n".len()]).unwrap();
        client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let error = RedisConnector::open(&At::tcp("127.0.0.1", port), KeySource::random()).unwrap_err().to_string();
    assert!(error.contains(&port.to_string()) && error.contains("HTTP/1.1"), "{error}");
    web.join().unwrap();
}

#[test]
fn a_batch_of_more_parts_than_one_write_takes_arrives_whole() {
    let server = RedisServer::start(&[]);
    let connector = open(&server);
    let objects: Vec<Bytes> = (0..1500).map(|n| vec![n as u8; n * 37 % 50_000].into()).collect();
    let keys = connector.put_batch(objects.clone()).unwrap();
    for (key, object) in keys.iter().zip(&objects) {
        assert_eq!(connector.get(key).unwrap().as_ref(), Some(object));
    }
}

#[test]
fn values_are_proxystores() {
    let server = RedisServer::start(&[]);
    let connector = open(&server);
    let key = connector.put(Bytes::from_static(b"abc")).unwrap();
    assert_eq!(command(&server, &["GET", &key.to_string()]), redis::Value::BulkString(b"BS\nabc".into()));
    command(&server, &["SET", &key.to_string(), "BS\nfrom Python"]);
    assert_eq!(connector.get(&key).unwrap().unwrap(), "from Python");
    command(&server, &["SET", &key.to_string(), "PK\npickled"]);
    assert_eq!(connector.get(&key).unwrap().unwrap(), "pickled");
    command(&server, &["SET", &key.to_string(), "something else"]);
    let error = connector.get(&key).unwrap_err();
    assert!(matches!(error, ConnectorError::Protocol { .. }) && error.to_string().contains("`som`"), "{error}");
}

#[test]
fn a_server_without_memory_left_is_told() {
    let server = RedisServer::start(&["--maxmemory", "3mb"]);
    let error =
        open(&server).put(Bytes::from(vec![0; 4_000_000])).and_then(|_| open(&server).put(Bytes::from_static(b"x")));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("maxmemory"), "{error}");
}

#[test]
fn an_object_beyond_the_servers_limit_is_refused_and_the_setting_named() {
    let server = RedisServer::start(&["--proto-max-bulk-len", "2mb"]);
    let connector = open(&server);
    let limit = 2 * 1024 * 1024 - 3;
    connector.put(Bytes::from(vec![0; limit])).unwrap();
    let error = connector.put(Bytes::from(vec![0; limit + 1])).unwrap_err();
    assert!(matches!(error, ConnectorError::TooLarge { limit: told, .. } if told == limit as u64), "{error}");
    assert!(error.to_string().contains("proto-max-bulk-len"), "{error}");
}

#[test]
fn a_server_that_restarts_is_found_again() {
    let server = RedisServer::start(&[]);
    let connector = open(&server);
    let key = connector.put(Bytes::from_static(b"abc")).unwrap();
    let port = server.port;
    drop(server);
    let error = connector.get(&key).unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    let _server = RedisServer::start_on(port, &[]);
    assert_eq!(connector.get(&key).unwrap(), None);
}

#[test]
fn a_restart_amid_many_threads_costs_errors_and_nothing_else() {
    let server = RedisServer::start(&[]);
    let connector = open(&server);
    let port = server.port;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let _ = connector.put(Bytes::from_static(b"abc")).and_then(|key| connector.take(&key));
                }
            });
        }
        thread::sleep(Duration::from_millis(100));
        drop(server);
        thread::sleep(Duration::from_millis(100));
        let _server = RedisServer::start_on(port, &[]);
        thread::sleep(Duration::from_millis(100));
        stop.store(true, Relaxed);
        let key = connector.put(Bytes::from_static(b"abc")).unwrap();
        assert_eq!(connector.get(&key).unwrap().unwrap(), "abc");
    });
}

#[test]
fn a_connection_that_died_is_replaced_unnoticed() {
    let server = RedisServer::start(&[]);
    let connector = open(&server);
    let key = connector.put(Bytes::from_static(b"abc")).unwrap();
    command(&server, &["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(connector.take(&key).unwrap().unwrap(), "abc");
}

#[test]
fn hundreds_of_threads_share_few_connections() {
    let server = RedisServer::start(&[]);
    let connector = open(&server);
    thread::scope(|scope| {
        for n in 0..200_u8 {
            let connector = &connector;
            scope.spawn(move || {
                for _ in 0..20 {
                    let object = Bytes::from(vec![n; 100]);
                    let key = connector.put(object.clone()).unwrap();
                    assert_eq!(connector.get(&key).unwrap().unwrap(), object);
                    assert_eq!(connector.take(&key).unwrap().unwrap(), object);
                    assert!(!connector.exists(&key).unwrap());
                }
            });
        }
    });
    let made: u32 = setting(&server, "total_connections_received").parse().unwrap();
    assert!(made < 25, "{made} connections were made");
}
