//! From messages to a batch of events.

use psbench_connectors::Proxy;
use psbench_connectors::proxystore::event::BatchWriter;
use psbench_connectors::proxystore::pickle::Pickle;

use super::metadata;
use crate::brokers::Message;
use crate::item::{self, Body, Head, ItemHead};

/// The event batch that carries all of `messages`, whose payloads are not copied; an error is which of them it can't carry, and why.
pub(in super::super) fn batch(topic: &str, messages: &[Message]) -> Result<Pickle, String> {
    BatchWriter::write(topic, |events| messages.iter().try_for_each(|message| event(events, message)))
}

fn event(events: &mut BatchWriter<'_>, message: &Message) -> Result<(), String> {
    match item::decode(&message.head) {
        Some(Head::End { .. }) => events.end(),
        Some(Head::Item(head @ ItemHead { body: Body::Full { size, checksum }, .. })) => {
            let payload = message.payload.clone();
            events.object(payload, |writer| metadata::write(writer, &head, Some(size), checksum));
        }
        Some(Head::Item(head @ ItemHead { body: Body::Proxy, .. })) => {
            let cause = |error: &dyn std::error::Error| format!("item {}: {error}", head.sequence);
            let proxy = Proxy::decode(&message.payload).map_err(|error| cause(&error))?;
            let told = |writer: &mut _| metadata::write(writer, &head, proxy.key.size, proxy.checksum);
            events.proxy(&proxy, told).map_err(|error| cause(&error))?;
        }
        Some(Head::Item(ItemHead { sequence, body: Body::Unusable, .. })) => {
            return Err(format!("item {sequence} has nothing to publish"));
        }
        None => return Err("a message without metadata has no place in a ProxyStore stream".into()),
    }
    Ok(())
}
