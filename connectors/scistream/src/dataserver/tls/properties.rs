//! Streams survive whatever happens to them on the way, or don't pretend to.

use std::task::Poll;

use proptest::collection::vec;
use proptest::prelude::*;

use super::go::PROTOCOL;
use super::handshake::{Keys, Session, pair};
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::record::{HEADER, RecordError, TRAILER};
use crate::dataserver::identity::{client_config, server_config};
use crate::forward::Secret;

fn sessions() -> [Session; 2] {
    let secret = Secret::random([3; 32]);
    let configs = (client_config(&secret, PROTOCOL).unwrap(), server_config(&secret, PROTOCOL).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(pair(configs)).map(|(_, session)| session)
}

/// Has a stream sealed, in reads as long as that.
fn seal(outbox: &mut Outbox, keys: &Keys, stream: &[u8], reads: &[usize]) -> Vec<u8> {
    let (mut rest, mut reads, mut wire) = (stream, reads.iter().cycle(), Vec::new());
    loop {
        let filled = outbox.fill(*reads.next().unwrap(), keys, false, |slots| {
            let before = rest.len();
            for slot in slots {
                let len = slot.len().min(rest.len());
                slot[..len].copy_from_slice(&rest[..len]);
                rest = &rest[len..];
            }
            Poll::Ready(Ok(before - rest.len()))
        });
        let Poll::Ready(Ok(read)) = filled else { panic!("{filled:?}") };
        while !outbox.unsent().is_empty() {
            let part = outbox.unsent().len().min(10_000);
            wire.extend_from_slice(&outbox.unsent()[..part]);
            outbox.sent(part);
        }
        if read == 0 {
            return wire;
        }
    }
}

/// Opens what arrives, in reads as long as that. The stream, and whether it ended.
fn open(inbox: &mut Inbox, keys: &Keys, wire: &[u8], reads: &[usize]) -> (Vec<u8>, Result<bool, RecordError>) {
    let (mut rest, mut reads, mut stream) = (wire, reads.iter().cycle(), Vec::new());
    loop {
        match inbox.open(keys) {
            Ok(opened) => {
                assert_eq!(inbox.unsent().len(), opened.len);
                while !inbox.unsent().is_empty() {
                    let part = inbox.unsent().len().min(10_000);
                    stream.extend_from_slice(&inbox.unsent()[..part]);
                    inbox.sent(part);
                }
                if opened.ended || rest.is_empty() {
                    return (stream, Ok(opened.ended));
                }
            }
            Err(error) => return (stream, Err(error)),
        }
        let filled = inbox.fill(*reads.next().unwrap(), |space| {
            let len = space.len().min(rest.len());
            assert!(len > 0);
            space[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            Poll::Ready(Ok(len))
        });
        assert!(matches!(filled, Poll::Ready(Ok(_))));
    }
}

/// One record of 5 bytes, after whatever has to go before it.
fn record(outbox: &mut Outbox, keys: &Keys) -> Vec<u8> {
    let filled = outbox.fill(5, keys, false, |_| Poll::Ready(Ok(5)));
    assert!(matches!(filled, Poll::Ready(Ok(5))));
    let record = outbox.unsent().to_vec();
    outbox.sent(record.len());
    record
}

/// Up to so many bytes, no two stretches of which are the same.
fn stream(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    (0..longest, any::<u32>()).prop_map(|(len, seed)| {
        let numbers = (0..len as u32).map(|index| (index ^ seed).wrapping_mul(0x9E37_79B1));
        numbers.map(|number| (number >> 24) as u8).collect()
    })
}

fn reads() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..100_usize, 1..20_000_usize, Just(usize::MAX)], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn streams_survive_however_they_are_read(
        stream in stream(200_000),
        (written, arrived) in (reads(), reads()),
        (places, more) in (0..20_usize, 0..20_usize),
        lifetime in 1..30_u64,
    ) {
        let [one, other] = sessions();
        let mut outbox = Outbox::new(one.sealer.with_lifetime(lifetime), places);
        let mut inbox = Inbox::new(other.opener, more, &[]);
        let wire = seal(&mut outbox, &one.keys, &stream, &written);
        let (heard, ended) = open(&mut inbox, &other.keys, &wire, &arrived);
        prop_assert_eq!(ended, Ok(true));
        prop_assert!(heard == stream);
    }

    #[test]
    fn whoever_has_the_key_breaks_nothing(bytes in vec(prop_oneof![0..4_u8, 20..25_u8, any::<u8>()], 0..2000)) {
        super::read_records(&bytes);
    }

    #[test]
    fn whatever_is_cut_or_changed_is_never_taken_for_the_whole(
        stream in stream(50_000),
        arrived in reads(),
        at in any::<prop::sample::Index>(),
        flipped in prop::option::of(0..8_u8),
    ) {
        let [one, other] = sessions();
        let mut wire = seal(&mut Outbox::new(one.sealer, 4), &one.keys, &stream, &[usize::MAX]);
        let at = at.index(wire.len());
        match flipped {
            Some(bit) => wire[at] ^= 1 << bit,
            None => wire.truncate(at),
        }
        let (heard, ended) = open(&mut Inbox::new(other.opener, 4, &[]), &other.keys, &wire, &arrived);
        prop_assert!(stream.starts_with(&heard));
        prop_assert!(ended != Ok(true));
    }
}

#[test]
fn records_out_of_turn_are_refused() {
    let [one, other] = sessions();
    let mut outbox = Outbox::new(one.sealer, 1);
    let mut records = [(); 2].map(|()| record(&mut outbox, &one.keys));
    records.reverse();
    let (heard, ended) = open(&mut Inbox::new(other.opener, 1, &[]), &other.keys, &records.concat(), &[1000]);
    assert_eq!((heard, ended), (vec![], Err(RecordError::Forged)));
}

#[test]
fn a_key_is_replaced_before_it_is_worn() {
    let [one, other] = sessions();
    let mut outbox = Outbox::new(one.sealer.with_lifetime(10), 1);
    let mut updates = 0;
    let mut wire = Vec::new();
    for _ in 0..100 {
        let records = record(&mut outbox, &one.keys);
        updates += usize::from(records.len() > HEADER + 5 + TRAILER);
        wire.extend_from_slice(&records);
    }
    // One record of each key announces the next, and one may have to end the stream.
    assert_eq!(updates, 100 / 8);
    let (heard, ended) = open(&mut Inbox::new(other.opener, 1, &[]), &other.keys, &wire, &[usize::MAX]);
    assert_eq!((heard.len(), ended), (500, Ok(false)));
}
