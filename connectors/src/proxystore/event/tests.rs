//! Events that the real ProxyStore wrote, and those that psbench writes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use super::{Batch, BatchWriter, Event, EventError, NotProxyStores, Object, is_proxystores};
use crate::file::FileLocation;
use crate::memory::MemoryLocation;
use crate::proxystore::pickle::{Value, Writer};
use crate::{Address, ConnectorSpec, Key, Lifetime, Proxy};

const ID: &str = "2b41ae9d-8ff0-4f4f-92a5-84cc9b1ab5a7";

fn redis() -> Address {
    Address::of(&crate::redis::RedisServer::tcp("localhost", 6379)).unwrap()
}

fn files() -> Address {
    Address::of(&FileLocation { dir: "/tmp/objects".into() }).unwrap()
}

fn proxy(address: Address, lifetime: Lifetime) -> Proxy {
    Proxy { address, key: Key::named(Uuid::parse_str(ID).unwrap()), checksum: None, lifetime }
}

fn marked(pickle: &[u8]) -> Bytes {
    [b"PK\n", pickle].concat().into()
}

/// The objects of a batch, and whether its end is the stream's.
fn objects(message: &Bytes) -> (Vec<Result<Object, String>>, bool) {
    let batch = Batch::read(message).unwrap();
    let mut objects = Vec::new();
    let mut ended = false;
    for event in batch.events() {
        match event.unwrap() {
            Event::Object { object, .. } => objects.push(object),
            Event::End => ended = true,
        }
    }
    (objects, ended)
}

#[test]
fn proxies_of_python_are_read() {
    let (objects, ended) = self::objects(&marked(include_bytes!("../../../tests/events/redis_key")));
    assert_eq!((objects, ended), (vec![Ok(Object::Proxy(proxy(redis(), Lifetime::Owned)))], false));
    let (objects, _) = self::objects(&marked(include_bytes!("../../../tests/events/file_key")));
    let file = files();
    assert_eq!(objects, [Ok(Object::Proxy(proxy(file, Lifetime::Kept)))]);
}

#[test]
fn a_batch_of_python_is_read_with_its_metadata_and_its_end() {
    let message = marked(include_bytes!("../../../tests/events/batch"));
    let batch = Batch::read(&message).unwrap();
    let numbers: Vec<_> = batch
        .events()
        .map(|event| match event.unwrap() {
            Event::Object { metadata, .. } => metadata.unwrap().get("n").and_then(Value::as_int),
            Event::End => None,
        })
        .collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2), None]);
    assert_eq!(self::objects(&marked(include_bytes!("../../../tests/events/end"))), (vec![], true));
}

#[test]
fn objects_in_full_are_slices_and_others_stay_serialised() {
    let message = marked(include_bytes!("../../../tests/events/inline"));
    let (objects, _) = self::objects(&message);
    let [Ok(Object::Full(bytes)), Ok(Object::Full(text)), Ok(Object::Full(dict))] = &objects[..] else {
        panic!("{objects:?}")
    };
    assert_eq!((&bytes[..], &text[..]), (&b"abc"[..], &b"text"[..]));
    assert!(message.as_ptr_range().contains(&bytes.as_ptr()));
    assert!(dict[0] == b'}' && message.as_ptr_range().contains(&dict.as_ptr()), "{dict:?}");
}

#[test]
fn what_is_written_is_read() {
    let proxies = [proxy(redis(), Lifetime::Owned), proxy(files(), Lifetime::Kept)];
    let pickle = BatchWriter::write("topic", |events| {
        events.object(Bytes::from_static(b"abc"), |_| {});
        for proxy in &proxies {
            events.proxy(proxy, |metadata| {
                metadata.str("n");
                metadata.int(1);
            })?;
        }
        events.end();
        Ok::<_, NotProxyStores>(())
    })
    .unwrap();
    let (objects, ended) = self::objects(&pickle.parts().collect::<Vec<_>>().concat().into());
    assert!(ended);
    let expected = [
        Ok(Object::Full(Bytes::from_static(b"abc"))),
        Ok(Object::Proxy(proxies[0].clone())),
        Ok(Object::Proxy(proxies[1].clone())),
    ];
    assert_eq!(objects, expected);
}

#[test]
fn what_proxystore_can_not_reach_is_refused_with_what_it_can() {
    let memory = ConnectorSpec::Memory { space: Uuid::nil(), limit: 1 };
    let here = Address::of(&MemoryLocation { space: Uuid::nil() }).unwrap();
    let error = is_proxystores(&memory).unwrap_err();
    assert!(error.to_string().contains("memory; there are: endpoint, file, multi (of these), redis"), "{error}");
    assert_eq!(
        BatchWriter::write("t", |events| events.proxy(&proxy(here, Lifetime::Owned), |_| {})).unwrap_err(),
        error
    );
}

/// An event as the real ones are, but for what `change` makes of its fields.
fn event(fields: impl FnOnce(&mut Writer)) -> Result<Object, String> {
    let mut writer = Writer::after(b"PK\n");
    writer.dict(|writer| {
        writer.str("event_type");
        writer.str("EVENT_BATCH");
        writer.str("events");
        writer.list(|writer| {
            writer.dict(|writer| {
                writer.str("event_type");
                writer.str("NEW_OBJECT_KEY");
                fields(writer);
            });
        });
    });
    let message = writer.finish().parts().collect::<Vec<_>>().concat().into();
    self::objects(&message).0.remove(0)
}

fn key_event(kind: &str, key_type: &str, key: &str) -> Result<Object, String> {
    event(|writer| {
        for (name, value) in [("key_type", key_type), ("topic", "t")] {
            writer.str(name);
            writer.str(value);
        }
        writer.str("raw_key");
        writer.list(|writer| writer.str(key));
        writer.str("evict");
        writer.bool(true);
        writer.str("store_config");
        writer.dict(|writer| {
            writer.str("connector");
            writer.dict(|writer| {
                writer.str("kind");
                writer.str(kind);
                writer.str("options");
                writer.dict(|writer| {
                    writer.str("hostname");
                    writer.str("localhost");
                    writer.str("port");
                    writer.int(6379);
                });
            });
        });
    })
}

#[test]
fn what_is_unknown_is_named() {
    const KEY: &str = "proxystore.connectors.redis.RedisKey";
    for kind in ["proxystore.connectors.redis.RedisConnector", "redis", "RedisConnector", "redisconnector"] {
        assert_eq!(key_event(kind, KEY, ID), Ok(Object::Proxy(proxy(redis(), Lifetime::Owned))), "{kind}");
    }
    for (kind, key_type, key, expected) in [
        ("proxystore.connectors.local.LocalConnector", KEY, ID, "local.LocalConnector"),
        ("redis", "a.Key", ID, "a a.Key, not a"),
        ("redis", KEY, "seven", "`seven` is no UUID"),
        // Another name on the server.
        ("redis", KEY, "2B41AE9D-8FF0-4F4F-92A5-84CC9B1AB5A7", "is no UUID"),
        ("file", KEY, ID, "no usable `store_dir`"),
    ] {
        let error = key_event(kind, key_type, key).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(event(|_| {}).unwrap_err().contains("no store_config"));
}

#[test]
fn a_long_name_in_a_small_message_does_not_multiply() {
    let error = key_event(&"x".repeat(100_000), "", ID).unwrap_err();
    assert!(error.len() < 400, "{}", error.len());
}

/// By hand, for pickles that use a value again, which the writer never does.
fn pickled_text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn pickled_dict(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let entries = entries.iter().flat_map(|(key, value)| [&pickled_text(key), *value].concat());
    [b'}', b'('].into_iter().chain(entries).chain([b'u']).collect()
}

/// A batch of as many events as there may be, which are all the same one: a dictionary that has 200 keys of 10 MB beside `fields`.
/// `LONG` as a value of theirs is that text, too.
fn batch_of_one_event(fields: &[(&str, &[u8])]) -> Bytes {
    const MEMOIZE: &[u8] = b"\x94";
    let long = pickled_text(&"é".repeat(5_000_000));
    let keys = [LONG, b"N"].concat().repeat(199);
    let event = [b"}(", &long[..], MEMOIZE, b"N", &keys, &pickled_dict(fields)[2..], MEMOIZE].concat();
    let again = b"h\x01".repeat(super::MAX_EVENTS - 1);
    let events = [b"](", &event[..], &again, b"e"].concat();
    let batch = pickled_dict(&[("event_type", &pickled_text("EVENT_BATCH")), ("events", &events)]);
    marked(&[b"\x80\x04", &batch[..], b"."].concat())
}

/// The first entry of the memo.
const LONG: &[u8] = b"h\0";

/// To read the text again for each look at it would take hours.
#[test]
fn a_long_text_that_many_events_use_is_read_once() {
    let started = Instant::now();
    let redis_key = pickled_text("proxystore.connectors.redis.RedisKey");
    let list = [b"]", LONG, b"a"].concat();
    let options = pickled_dict(&[("hostname", &pickled_text("h")), ("port", b"K\x07")]);
    let redis = pickled_dict(&[("kind", &pickled_text("redis")), ("options", &options)]);
    let unknown = pickled_dict(&[("kind", LONG), ("options", LONG)]);
    for (key_type, connector, expected) in [
        (&redis_key[..], &redis[..], "is no UUID"),
        (LONG, &redis, "its key is a é"),
        (&redis_key, &unknown, "with the connector é"),
    ] {
        let (objects, _) = self::objects(&batch_of_one_event(&[
            ("event_type", &pickled_text("NEW_OBJECT_KEY")),
            ("evict", b"\x88"),
            ("key_type", key_type),
            ("raw_key", &list),
            ("store_config", &pickled_dict(&[("connector", connector)])),
        ]));
        assert_eq!(objects.len(), super::MAX_EVENTS);
        let failed = |object: &Result<Object, String>| object.as_ref().is_err_and(|error| error.contains(expected));
        assert!(objects.iter().all(failed), "{:?}", objects[0]);
    }
    let unknown_kind = batch_of_one_event(&[("event_type", LONG)]);
    assert!(matches!(Batch::read(&unknown_kind).unwrap().events().next(), Some(Err(EventError::Form(_)))));
    assert!(started.elapsed() < Duration::from_secs(600), "{:?}", started.elapsed());
}

#[test]
fn other_messages_are_no_batches() {
    let read = |message: &'static [u8]| Batch::read(&Bytes::from_static(message)).map(drop).unwrap_err();
    assert!(matches!(read(b"BS\nabc"), EventError::Mark(found) if found == r"BS\n"));
    assert!(matches!(read(b"PK\n"), EventError::Pickle(_)));
    assert!(matches!(read(b"CP\nc__builtin__\neval\n."), EventError::Form(_)));
    assert!(matches!(read(b"PK\nN."), EventError::Form(_)));
    assert!(matches!(read(b"PK\n}."), EventError::Form(_)));
}
