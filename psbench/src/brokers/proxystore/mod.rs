//! ProxyStore's streams as Python's `StreamProducer` and `StreamConsumer` speak them.
//!
//! A message is a batch of events. An item in full is a `NEW_OBJECT`, one by proxy a `NEW_OBJECT_KEY`, the end an `END_OF_STREAM`. What
//! psbench knows of an item beyond that is in the event's metadata, under the names of [`metadata`]; of a foreign producer's item none
//! of it is known. What the Python psbench sends by its default method is read too: payloads as they are, and a text for the end.

pub mod metadata;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(super) use self::read::Reader;
pub(super) use self::write::batch;
