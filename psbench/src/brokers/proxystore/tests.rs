//! Messages there and back, and what others send.

use std::collections::VecDeque;

use bytes::Bytes;
use psbench_connectors::memory::MemoryLocation;
use psbench_connectors::proxystore::event::BatchWriter;
use psbench_connectors::proxystore::pickle::Pickle;
use psbench_connectors::{Address, KeySource, Lifetime, Proxy};

use super::{Reader, batch, metadata};
use crate::brokers::Message;
use crate::clock;
use crate::item::{self, Body, Head, ItemHead};

fn head(sequence: u64, body: Body) -> ItemHead {
    let stored = matches!(body, Body::Proxy).then_some(30);
    ItemHead { sequence, scheduled: Some(10), created: Some(20), stored, published: Some(40), body }
}

fn message(head: ItemHead, payload: Bytes) -> Message {
    Message { head: item::encode(&Head::Item(head)), payload }
}

fn joined(pickle: &Pickle) -> Bytes {
    pickle.parts().collect::<Vec<_>>().concat().into()
}

fn read(reader: &mut Reader, bytes: impl Into<Bytes>) -> Vec<Message> {
    let mut messages = VecDeque::new();
    reader.read(bytes.into(), &mut messages).unwrap();
    messages.into()
}

fn heads(messages: &[Message]) -> Vec<Head> {
    messages.iter().map(|message| item::decode(&message.head).unwrap()).collect()
}

#[test]
fn messages_come_back_as_they_were() {
    let object = Bytes::from_static(b"in full");
    let address = Address::of(&psbench_connectors::redis::RedisServer::tcp("localhost", 6379)).unwrap();
    let proxy =
        Proxy { address, key: KeySource::random().next(5), checksum: Some(u64::MAX), lifetime: Lifetime::Owned };
    let size = object.len() as u64;
    let sent = [
        message(head(0, Body::Full { size, checksum: Some(7) }), object.clone()),
        message(head(1, Body::Full { size: 0, checksum: None }), Bytes::new()),
        message(head(u64::MAX - 1, Body::Proxy), proxy.encode().unwrap().into()),
    ];
    let pickle = batch("topic", &sent).unwrap();
    assert!(pickle.parts().any(|part| part.as_ptr() == object.as_ptr()), "the payload was copied");
    let message = joined(&pickle);
    let received = read(&mut Reader::default(), message.clone());
    assert_eq!(received, sent);
    assert!(message.as_ptr_range().contains(&received[0].payload.as_ptr()), "the payload was copied");
}

#[test]
fn the_end_tells_how_many_there_were() {
    let end = Message { head: item::encode(&Head::End { generator: 0, generated: 99 }), payload: Bytes::new() };
    let item = message(head(6, Body::Full { size: 1, checksum: None }), Bytes::from_static(b"x"));
    let mut reader = Reader::default();
    read(&mut reader, joined(&batch("t", &[item]).unwrap()));
    let ends = read(&mut reader, joined(&batch("t", &[end]).unwrap()));
    // The event itself says nothing of it.
    assert_eq!(heads(&ends), [Head::End { generator: 0, generated: 7 }]);
}

#[test]
fn foreign_items_are_numbered_as_they_come_and_nothing_is_made_up() {
    let pickle = BatchWriter::write("t", |events| {
        events.object(Bytes::from_static(b"abc"), |_| {});
        events.object(Bytes::from_static(b"de"), |metadata| {
            metadata.str("n");
            metadata.int(1);
        });
        Ok::<_, ()>(())
    });
    let mut reader = Reader::default();
    for first in [0, 2] {
        let messages = read(&mut reader, joined(pickle.as_ref().unwrap()));
        for (n, (head, size)) in heads(&messages).into_iter().zip([3, 2]).enumerate() {
            let body = Body::Full { size, checksum: None };
            let sequence = first + n as u64;
            let unknown = ItemHead { sequence, scheduled: None, created: None, stored: None, published: None, body };
            assert_eq!(head, Head::Item(unknown));
        }
    }
}

#[test]
fn times_of_another_hosts_clock_are_absent() {
    for (name, expected) in [(clock::identity().unwrap(), Some(20)), ("another boot", None)] {
        let pickle = BatchWriter::write("t", |events| {
            events.object(Bytes::new(), |writer| {
                writer.str(metadata::CLOCK);
                writer.str(name);
                for (entry, number) in [(metadata::SEQUENCE, 5), (metadata::CREATED, 20), (metadata::SIZE, -1)] {
                    writer.str(entry);
                    writer.int(number);
                }
            });
            Ok::<_, ()>(())
        });
        let messages = read(&mut Reader::default(), joined(&pickle.unwrap()));
        let [Head::Item(head)] = heads(&messages)[..] else { panic!() };
        assert_eq!((head.sequence, head.created, head.scheduled), (5, expected, None));
        assert_eq!(head.body, Body::Full { size: 0, checksum: None });
    }
}

#[test]
fn the_first_message_tells_whether_payloads_are_raw() {
    let mut raw = Reader::default();
    let messages = [&b"payload"[..], b"PK\nlooks like an event", b"<publisher-close-topic-sentinal>"]
        .map(|message| read(&mut raw, message).remove(0));
    assert_eq!(
        (&messages[0].payload[..], &messages[1].payload[..]),
        (&b"payload"[..], &b"PK\nlooks like an event"[..])
    );
    assert_eq!(heads(&messages[2..]), [Head::End { generator: 0, generated: 2 }]);

    let mut events = Reader::default();
    read(&mut events, joined(&batch("t", &[]).unwrap()));
    let error = events.read(Bytes::from_static(b"payload"), &mut VecDeque::new()).unwrap_err();
    assert!(error.contains("`pay`"), "{error}");
}

#[test]
fn what_can_not_be_published_is_named() {
    let unreachable = MemoryLocation { space: uuid::Uuid::nil() };
    let key = KeySource::random().next(1);
    let proxy = Proxy { address: Address::of(&unreachable).unwrap(), key, checksum: None, lifetime: Lifetime::Owned };
    let error = batch("t", &[message(head(3, Body::Proxy), proxy.encode().unwrap().into())]).unwrap_err();
    assert!(error.contains("item 3") && error.contains("memory"), "{error}");
    let foreign = Message { head: Bytes::from_static(b"?"), payload: Bytes::new() };
    assert!(batch("t", &[foreign]).unwrap_err().contains("without metadata"));
}
