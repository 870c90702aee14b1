//! The metadata that travels with each item, and what comes back of its task.

use bytes::Bytes;
use psbench_connectors::StoreMetrics;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::brokers::PublisherReport;
use crate::clock::{Nanos, behind};

/// The head of a message from a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// An item.
    Item(ItemHead),
    /// The end of one generator's stream.
    End {
        /// Which generator, from 0.
        generator: u32,
        /// How many items it made.
        generated: u64,
    },
}

/// Metadata of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemHead {
    /// Counted from 0 over the items of all generators, which take turns: see [`Share`](crate::plan::Share).
    pub sequence: u64,
    /// When the pacing plan wanted it; absent when another program generates.
    pub scheduled: Option<Nanos>,
    /// When the generator had its bytes; absent when it did not tell.
    pub created: Option<Nanos>,
    /// When its object was stored; absent when it travels in full.
    pub stored: Option<Nanos>,
    /// When it was handed to the broker's client: what follows until `received` is the broker's time. Absent when not told.
    pub published: Option<Nanos>,
    /// What the message's payload is.
    pub body: Body,
}

/// What stands in a message's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The item in full.
    Full {
        /// Its size, bytes.
        size: u64,
        /// XXH3-64 of its bytes, where workers are to check it.
        checksum: Option<u64>,
    },
    /// A proxy of the item.
    Proxy,
    /// Why the item can't be had: text that follows its number.
    Unusable,
}

/// What a worker says of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemOutcome {
    /// When the worker began.
    pub started: Nanos,
    /// When it held the bytes behind the proxy; absent when they came in full, or could not be had.
    pub resolved: Option<Nanos>,
    /// When it was done.
    pub finished: Nanos,
    /// When the object was deleted, where the worker did that.
    pub evicted: Option<Nanos>,
    /// Payload bytes that reached the worker.
    pub bytes: u64,
    /// Why it failed, if it did.
    pub failure: Option<ItemFailure>,
}

impl ItemOutcome {
    /// The same in the time of a clock that the worker's is ahead of.
    #[must_use]
    pub fn behind(mut self, ahead_ns: i64) -> Self {
        let stamps = [Some(&mut self.started), self.resolved.as_mut(), Some(&mut self.finished), self.evicted.as_mut()];
        stamps.into_iter().flatten().for_each(|stamp| *stamp = behind(*stamp, ahead_ns));
        self
    }
}

/// Why an item's task failed on its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFailure {
    /// Whether it was for the item's length or checksum.
    pub corrupt: bool,
    /// Whether nobody could be reached where its bytes are: those of other items from there will not be had either.
    pub unreachable: bool,
    /// In one line: which object, connector and worker, and why.
    pub reason: String,
}

/// What a generator says at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// Items that were made and handed over.
    pub generated: u64,
    /// When its schedule began; absent where it did not come to that.
    pub began: Option<Nanos>,
    /// What its store came to; all zero when items travel in full.
    pub store: StoreMetrics,
    /// What its side of the broker has to tell.
    pub publisher: PublisherReport,
    /// How payloads were made, for people.
    pub payload: String,
    /// What stopped it ahead of its plan.
    pub failure: Option<String>,
}

/// Writes a head, a report or an outcome.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    // Serialising into memory fails only for types that postcard can't represent, and these are plain structs.
    postcard::to_stdvec(value).map(Bytes::from).unwrap_or_default()
}

/// Writes a plan or a set-up, which may hold paths.
///
/// # Errors
/// A path in it is not UTF-8.
pub fn encode_plan<T: Serialize>(plan: &T) -> Result<Bytes, UnwritablePlan> {
    postcard::to_stdvec(plan).map(Bytes::from).map_err(|_| UnwritablePlan)
}

/// Why a plan can't be sent to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a path in it is not UTF-8, so that workers can't be told of it; look at TMPDIR")]
pub struct UnwritablePlan;

/// What stands after the head of a task whose bytes could not be reached by other workers: this one need not try for long.
pub const DOUBTED: u8 = 1;

/// Reads the head of a task, and whether its bytes are [doubted](DOUBTED) to be had.
pub fn decode_task(bytes: &[u8]) -> Option<(Head, bool)> {
    let (head, rest) = postcard::take_from_bytes(bytes).ok()?;
    Some((head, rest == [DOUBTED]))
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_can_not_be_written_is_said() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let path = std::path::Path::new(OsStr::from_bytes(b"/tmp/r\xff"));
        assert_eq!(encode_plan(&path), Err(UnwritablePlan));
        assert_eq!(encode_plan(&"/tmp/r"), Ok(encode(&"/tmp/r")));
    }

    #[test]
    fn heads_survive_the_wire_and_are_small() {
        let head = Head::Item(ItemHead {
            sequence: u64::MAX,
            scheduled: Some(u64::MAX),
            created: Some(u64::MAX),
            stored: Some(u64::MAX),
            published: Some(u64::MAX),
            body: Body::Full { size: u64::MAX, checksum: Some(u64::MAX) },
        });
        let bytes = encode(&head);
        assert_eq!(decode::<Head>(&bytes), Some(head));
        assert!(bytes.len() < 80, "{}", bytes.len());
        assert_eq!(decode_task(&bytes), Some((head, false)));
        assert_eq!(decode_task(&[&bytes[..], &[DOUBTED]].concat()), Some((head, true)));
    }

    #[test]
    fn times_of_another_clock_are_moved() {
        let told = ItemOutcome {
            started: 1_000,
            resolved: None,
            finished: 2_000,
            evicted: Some(1_500),
            bytes: 7,
            failure: None,
        };
        let moved = ItemOutcome { started: 1_300, finished: 2_300, evicted: Some(1_800), ..told.clone() };
        assert_eq!(told.behind(-300), moved);
    }

    #[test]
    fn garbage_is_no_head() {
        assert_eq!(decode::<Head>(b""), None);
        assert_eq!(decode::<Head>(&[9, 9, 9]), None);
    }
}
