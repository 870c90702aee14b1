//! Writing a batch of events.

use bytes::Bytes;

use super::store::{self, NotProxyStores, Theirs};
use super::{
    END_OF_STREAM, EVENT_BATCH, EVENT_TYPE, EVENTS, EVICT, KEY_TYPE, METADATA, NEW_OBJECT, NEW_OBJECT_KEY, OBJECT,
    RAW_KEY, STORE_CONFIG, TOPIC,
};
use crate::proxystore::PICKLED;
use crate::proxystore::pickle::{Pickle, Writer};
use crate::{Lifetime, Proxy};

/// Writes the events of one batch, in order.
#[derive(Debug)]
pub struct BatchWriter<'a> {
    writer: &'a mut Writer,
    topic: &'a str,
}

impl BatchWriter<'_> {
    /// The message that carries the events which `events` writes.
    ///
    /// # Errors
    ///
    /// What `events` returns.
    pub fn write<E>(topic: &str, events: impl FnOnce(&mut BatchWriter<'_>) -> Result<(), E>) -> Result<Pickle, E> {
        let mut writer = Writer::after(PICKLED);
        let mut written = Ok(());
        writer.dict(|writer| {
            writer.str(EVENTS);
            writer.list(|writer| written = events(&mut BatchWriter { writer, topic }));
            writer.str(TOPIC);
            writer.str(topic);
            writer.str(EVENT_TYPE);
            writer.str(EVENT_BATCH);
        });
        written.map(|()| writer.finish())
    }

    /// An object in full, which is not copied. `metadata` writes keys and values in turn.
    pub fn object(&mut self, object: Bytes, metadata: impl FnOnce(&mut Writer)) {
        self.event(NEW_OBJECT, |writer| {
            writer.str(OBJECT);
            writer.bytes(object);
            writer.str(METADATA);
            writer.dict(metadata);
        });
    }

    /// An object by proxy. Its size and checksum have no place of their own in such an event.
    ///
    /// # Errors
    ///
    /// ProxyStore has no such connector.
    pub fn proxy(&mut self, proxy: &Proxy, metadata: impl FnOnce(&mut Writer)) -> Result<(), NotProxyStores> {
        let connector = Theirs::at(&proxy.address)?;
        let (_, key_type) = connector.types();
        self.event(NEW_OBJECT_KEY, |writer| {
            writer.str(KEY_TYPE);
            writer.str(key_type);
            writer.str(RAW_KEY);
            writer.list(|writer| store::write_key(writer, &connector, &proxy.key));
            writer.str(EVICT);
            writer.bool(proxy.lifetime == Lifetime::Owned);
            writer.str(METADATA);
            writer.dict(metadata);
            writer.str(STORE_CONFIG);
            store::write(writer, &proxy.address, &connector);
        });
        Ok(())
    }

    /// The end of the stream.
    pub fn end(&mut self) {
        self.event(END_OF_STREAM, |_| {});
    }

    fn event(&mut self, kind: &str, fields: impl FnOnce(&mut Writer)) {
        let topic = self.topic;
        self.writer.dict(|writer| {
            writer.str(TOPIC);
            writer.str(topic);
            fields(writer);
            writer.str(EVENT_TYPE);
            writer.str(kind);
        });
    }
}
