//! What every connector must do: one suite for all of them, decorated or not.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "this is a test suite: it reports by panicking")]

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;

use crate::{Address, Connector, Key, KeySource};

/// Runs the suite. `open` makes a connector that stores under keys of the given source, each time with no objects of that source.
///
/// # Panics
///
/// With what the connector does wrong.
pub fn check(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    what_is_put_can_be_got(open);
    a_batch_keeps_its_order(open);
    keys_are_the_sources(open);
    an_evicted_object_is_gone(open);
    a_taken_object_is_gone(open);
    a_batch_of_evictions_is_counted(open);
    the_address_leads_to_the_same_objects(open);
    the_address_for_an_object_leads_to_it(open);
    threads_may_get_at_once(open);
}

/// Bytes that no text or fixed pattern has, different for each `seed`.
fn binary(size: usize, seed: u8) -> Bytes {
    (0..size).map(|i| (i.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

fn what_is_put_can_be_got(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let connector = open(KeySource::random());
    let mut objects: Vec<Bytes> = [0, 1, 3, 4096, (1 << 20) + 1].map(|size| binary(size, 7)).into();
    // What a connector might take for its own marks.
    objects.extend([b"BS\n" as &[u8], b"BS\nBS\nx", b"\r\n", b"$-1\r\n", b"\0"].map(Bytes::from_static));
    for object in objects {
        let key = connector.put(object.clone()).expect("put failed");
        assert_eq!(key.size, Some(object.len() as u64), "the key has the object's size");
        assert!(connector.exists(&key).unwrap(), "an object exists once it was put");
        let got = connector.get(&key).expect("get failed").expect("what was put must be there");
        assert!(got == object, "{} bytes came back changed", object.len());
        let named = connector.get(&Key::named(key.id)).expect("get by name failed");
        assert!(named == Some(object), "the name is enough");
        assert!(connector.evict(&key).unwrap(), "what was put can be evicted");
    }
}

fn a_batch_keeps_its_order(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let connector = open(KeySource::random());
    assert_eq!(connector.put_batch(Vec::new()).unwrap(), [], "an empty batch has no keys");
    // Large ones among small ones: some connectors send them apart.
    let objects: Vec<Bytes> = (0..20).map(|n| binary(if n % 5 == 0 { 100_000 } else { 10 }, n)).collect();
    let keys = connector.put_batch(objects.clone()).expect("put_batch failed");
    assert_eq!(keys.len(), objects.len(), "a batch has one key for each object");
    for (key, object) in keys.iter().zip(&objects) {
        assert!(connector.get(key).unwrap().as_ref() == Some(object), "the keys are in the order of the objects");
    }
    assert_eq!(connector.evict_batch(&keys).unwrap(), keys.len() as u64);
}

fn keys_are_the_sources(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let source = KeySource::random();
    let connector = open(source.clone());
    let mut keys = vec![connector.put(binary(5, 0)).unwrap()];
    keys.extend(connector.put_batch(vec![binary(5, 0); 3]).unwrap());
    let unique: HashSet<_> = keys.iter().map(|key| key.id).collect();
    assert_eq!(unique.len(), keys.len(), "no key is given twice, not even to equal objects");
    let predicted: Vec<Key> = (0..source.made()).map(|n| Key { id: source.nth(n), size: Some(5) }).collect();
    assert_eq!(predicted, keys, "whoever knows the source can name the keys");
    assert_eq!(connector.evict_batch(&predicted).unwrap(), 4, "and evict them");
}

fn an_evicted_object_is_gone(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let connector = open(KeySource::random());
    let key = connector.put(binary(100, 1)).unwrap();
    let other = connector.put(binary(100, 2)).unwrap();
    assert!(connector.evict(&key).unwrap(), "the first evict finds it");
    assert!(!connector.evict(&key).unwrap(), "the second does not, which is no error");
    assert!(!connector.exists(&key).unwrap(), "it does not exist any more");
    assert_eq!(connector.get(&key).unwrap(), None, "it can't be got any more");
    assert!(connector.evict(&other).unwrap(), "others are not touched");
}

fn a_taken_object_is_gone(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let connector = open(KeySource::random());
    for size in [0, 100, 100_000] {
        let object = binary(size, 1);
        let key = connector.put(object.clone()).unwrap();
        assert!(connector.take(&key).unwrap() == Some(object), "take returns the object");
        assert_eq!(connector.take(&key).unwrap(), None, "once");
        assert!(!connector.exists(&key).unwrap(), "and deletes it");
    }
}

fn a_batch_of_evictions_is_counted(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let connector = open(KeySource::random());
    let mut keys = connector.put_batch(vec![binary(10, 3); 1500]).unwrap();
    assert!(connector.evict(&keys[700]).unwrap());
    keys.push(KeySource::random().next(10));
    assert_eq!(connector.evict_batch(&keys).unwrap(), 1499, "only what was there counts");
    assert_eq!(connector.evict_batch(&keys).unwrap(), 0);
    assert_eq!(connector.evict_batch(&[]).unwrap(), 0);
}

fn the_address_leads_to_the_same_objects(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let connector = open(KeySource::random());
    let bytes = postcard::to_stdvec(&connector.address()).expect("the address can be sent");
    let address: Address = postcard::from_bytes(&bytes).expect("the address can be received");
    assert_eq!(address, connector.address(), "the address survives the wire");
    let other = address.connect().expect("connect failed");
    assert_eq!(other.address(), connector.address(), "both sides name the same place");

    let (small, large) = (binary(10, 4), binary(3_000_000, 5));
    let keys = connector.put_batch(vec![small.clone(), large.clone(), small.clone()]).unwrap();
    assert!(other.exists(&keys[0]).unwrap());
    assert!(other.get(&keys[0]).unwrap() == Some(small));
    assert!(other.take(&keys[1]).unwrap() == Some(large));
    assert!(!connector.exists(&keys[1]).unwrap(), "what one takes is gone for the other");
    assert!(other.evict(&keys[0]).unwrap());
    assert_eq!(other.get(&keys[0]).unwrap(), None);
    assert_eq!(other.evict_batch(&keys).unwrap(), 1);
}

fn the_address_for_an_object_leads_to_it(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let connector = open(KeySource::random());
    let objects: Vec<Bytes> = [0, 10, 3_000_000].map(|size| binary(size, 6)).into();
    for (key, object) in connector.put_batch(objects.clone()).unwrap().iter().zip(objects) {
        let other = connector.address_for(key).connect().expect("connect failed");
        assert!(other.take(key).unwrap() == Some(object), "the address for an object leads to that object");
        assert!(!connector.exists(key).unwrap(), "to the same one");
    }
}

fn threads_may_get_at_once(open: &dyn Fn(KeySource) -> Arc<dyn Connector>) {
    let connector = open(KeySource::random());
    let readers = connector.address().connect().unwrap();
    let objects: Vec<Bytes> = (0..8).map(|n| binary(1000 + usize::from(n) * 10_000, n)).collect();
    let keys = connector.put_batch(objects.clone()).unwrap();
    thread::scope(|scope| {
        for thread in 0..8 {
            let (readers, keys, objects) = (&readers, &keys, &objects);
            scope.spawn(move || {
                for turn in 0..40 {
                    let n = (thread + turn) % keys.len();
                    assert!(readers.get(&keys[n]).unwrap().as_ref() == Some(&objects[n]), "answers were mixed up");
                }
            });
        }
    });
    assert_eq!(connector.evict_batch(&keys).unwrap(), 8);
}
