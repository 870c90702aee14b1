//! A message that stays where librdkafka received it, for as long as anybody holds its bytes.

use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message as _};
use self_cell::self_cell;

use super::context::Context;

/// A consumer that ends with its last message, wherever that is dropped.
pub(super) struct Consumer(Option<BaseConsumer<Context>>);

impl Consumer {
    pub(super) fn new(consumer: BaseConsumer<Context>) -> Arc<Self> {
        Arc::new(Self(Some(consumer)))
    }

    /// The consumer; `None` never, but while it is dropped.
    pub(super) fn get(&self) -> Option<&BaseConsumer<Context>> {
        self.0.as_ref()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Leaving the cluster takes a while, for which no worker's thread that happens to drop the last message is to wait.
        let leaving = mem::take(&mut self.0);
        let _ = thread::Builder::new().name("kafka-leave".into()).spawn(move || drop(leaving));
    }
}

self_cell!(
    struct Held {
        owner: Arc<Consumer>,
        #[covariant]
        dependent: BorrowedMessage,
    }
);

/// The value of a message in librdkafka's memory.
struct Value(Held);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.borrow_dependent().payload().unwrap_or_default()
    }
}

/// What came of one message.
pub(super) struct Received {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Copied: it is small.
    pub(super) key: Bytes,
    /// Not copied; `None` where the message has no value.
    pub(super) value: Option<Bytes>,
}

/// Waits for the next message, at most `wait`.
pub(super) fn poll(consumer: &Arc<Consumer>, wait: Duration) -> Option<KafkaResult<Received>> {
    let held =
        Held::try_new(Arc::clone(consumer), |consumer| match consumer.get().and_then(|consumer| consumer.poll(wait)) {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(Some(error)),
            None => Err(None),
        });
    match held {
        Ok(held) => {
            let message = held.borrow_dependent();
            let (partition, offset) = (message.partition(), message.offset());
            let key = message.key().map(Bytes::copy_from_slice).unwrap_or_default();
            let has_value = message.payload().is_some();
            let value = has_value.then(|| Bytes::from_owner(Value(held)));
            Some(Ok(Received { partition, offset, key, value }))
        }
        Err(error) => error.map(Err),
    }
}
