//! From what comes on a topic to messages.

use std::collections::VecDeque;

use bytes::Bytes;
use psbench_connectors::Proxy;
use psbench_connectors::proxystore::event::{Batch, Event, Object};

use super::metadata::{self, Told};
use crate::brokers::Message;
use crate::item::{self, Body, Head, ItemHead};

/// What the Python psbench sends at the end of a stream whose items travel in full (the spelling is its own).
const RAW_END: &[u8] = b"<publisher-close-topic-sentinal>";

/// Reads the messages of one topic.
#[derive(Debug, Default)]
pub(in super::super) struct Reader {
    dialect: Option<Dialect>,
    /// One past the highest number of an item so far: that of the next item whose producer does not number.
    next: u64,
    ended: bool,
}

/// What a producer sends; its first message tells.
#[derive(Clone, Copy, Debug)]
enum Dialect {
    /// Batches of events.
    Events,
    /// Payloads as they are.
    Raw,
}

impl Reader {
    /// Appends what is in one message; an error is why it can't be read.
    pub(in super::super) fn read(&mut self, bytes: Bytes, messages: &mut VecDeque<Message>) -> Result<(), String> {
        let first = if Batch::is_marked(&bytes) { Dialect::Events } else { Dialect::Raw };
        match *self.dialect.get_or_insert(first) {
            Dialect::Events => self.read_batch(&bytes, messages),
            Dialect::Raw if bytes == RAW_END => {
                messages.push_back(self.end());
                Ok(())
            }
            Dialect::Raw => {
                messages.push_back(self.item(Ok(Object::Full(bytes)), Told::default()));
                Ok(())
            }
        }
    }

    fn read_batch(&mut self, bytes: &Bytes, messages: &mut VecDeque<Message>) -> Result<(), String> {
        let batch = Batch::read(bytes).map_err(|error| error.to_string())?;
        for event in batch.events() {
            let message = match event.map_err(|error| error.to_string())? {
                Event::End => self.end(),
                Event::Object { object, metadata } => {
                    self.item(object, metadata.map(metadata::read).unwrap_or_default())
                }
            };
            messages.push_back(message);
        }
        Ok(())
    }

    /// Whether the end of the stream was read.
    pub(in super::super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn end(&mut self) -> Message {
        self.ended = true;
        Message { head: item::encode(&Head::End { generator: 0, generated: self.next }), payload: Bytes::new() }
    }

    fn item(&mut self, object: Result<Object, String>, told: Told) -> Message {
        let sequence = told.sequence.unwrap_or(self.next);
        self.next = self.next.max(sequence.saturating_add(1));
        let body = object.and_then(|object| match object {
            Object::Full(bytes) => {
                let size = told.size.unwrap_or(bytes.len() as u64);
                Ok((Body::Full { size, checksum: told.checksum }, bytes))
            }
            Object::Proxy(proxy) => proxied(proxy, &told).map(|bytes| (Body::Proxy, bytes)),
        });
        let (body, payload) = body.unwrap_or_else(|reason| (Body::Unusable, reason.into()));
        let Told { scheduled, created, stored, published, .. } = told;
        let head = ItemHead { sequence, scheduled, created, stored, published, body };
        Message { head: item::encode(&Head::Item(head)), payload }
    }
}

fn proxied(mut proxy: Proxy, told: &Told) -> Result<Bytes, String> {
    proxy.key.size = told.size;
    proxy.checksum = told.checksum;
    proxy.encode().map(Bytes::from).map_err(|error| error.to_string())
}
