//! What psbench writes into the metadata of ProxyStore's events.

use psbench_connectors::proxystore::pickle::{Value, Writer};

use crate::clock::{self, Nanos};
use crate::item::ItemHead;

/// The item's number, from 0.
pub const SEQUENCE: &str = "psbench.sequence";
/// Its size, bytes.
pub const SIZE: &str = "psbench.size";
/// XXH3-64 of its bytes, where workers are to check it.
pub const CHECKSUM: &str = "psbench.checksum";
/// The clock of all that follow: the boot identifier of the generator's host.
pub const CLOCK: &str = "psbench.clock";
/// When it was due, ns of the host's `CLOCK_MONOTONIC`; likewise the following.
pub const SCHEDULED: &str = "psbench.scheduled_ns";
/// When the generator had its bytes.
pub const CREATED: &str = "psbench.created_ns";
/// When its object was stored; absent for one in full.
pub const STORED: &str = "psbench.stored_ns";
/// When it was handed to the broker's client.
pub const PUBLISHED: &str = "psbench.published_ns";

/// What metadata tells of an item; absent where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sequence: Option<u64>,
    pub(super) size: Option<u64>,
    pub(super) checksum: Option<u64>,
    pub(super) scheduled: Option<Nanos>,
    pub(super) created: Option<Nanos>,
    pub(super) stored: Option<Nanos>,
    pub(super) published: Option<Nanos>,
}

/// Writes the entries of an item's metadata.
pub(super) fn write(writer: &mut Writer, head: &ItemHead, size: Option<u64>, checksum: Option<u64>) {
    if let Some(clock) = clock::identity() {
        writer.str(CLOCK);
        writer.str(clock);
    }
    let numbers = [
        (SEQUENCE, Some(head.sequence)),
        (SIZE, size),
        (CHECKSUM, checksum),
        (SCHEDULED, head.scheduled),
        (CREATED, head.created),
        (STORED, head.stored),
        (PUBLISHED, head.published),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            writer.str(name);
            writer.int(number.into());
        }
    }
}

/// Reads what [`write`] wrote, in whatever else is there. Times of another host's clock can't be compared with this one's: they are absent.
pub(super) fn read(metadata: Value<'_>) -> Told {
    let number = |name: &str| metadata.get(name).and_then(Value::as_int).and_then(|number| u64::try_from(number).ok());
    let same_clock = clock::identity().is_some() && metadata.get(CLOCK).and_then(Value::as_str) == clock::identity();
    let time = |name: &str| number(name).filter(|_| same_clock);
    Told {
        sequence: number(SEQUENCE),
        size: number(SIZE),
        checksum: number(CHECKSUM),
        scheduled: time(SCHEDULED),
        created: time(CREATED),
        stored: time(STORED),
        published: time(PUBLISHED),
    }
}
