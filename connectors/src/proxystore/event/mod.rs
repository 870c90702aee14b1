//! The events of ProxyStore's streams (`proxystore.stream.events`): one message of a broker is one batch of them.

mod read;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use self::read::{Batch, Event, EventError, MAX_EVENTS, Object};
pub use self::store::{NotProxyStores, is_proxystores};
pub use self::write::BatchWriter;

const TOPIC: &str = "topic";
const EVENTS: &str = "events";
const EVENT_TYPE: &str = "event_type";
const METADATA: &str = "metadata";
const OBJECT: &str = "obj";
const KEY_TYPE: &str = "key_type";
const RAW_KEY: &str = "raw_key";
const EVICT: &str = "evict";
const STORE_CONFIG: &str = "store_config";

/// Values of [`EVENT_TYPE`].
const EVENT_BATCH: &str = "EVENT_BATCH";
const NEW_OBJECT: &str = "NEW_OBJECT";
const NEW_OBJECT_KEY: &str = "NEW_OBJECT_KEY";
const END_OF_STREAM: &str = "END_OF_STREAM";

/// As much of a foreign text as an error should show.
fn clip(text: &str) -> &str {
    const MOST: usize = 120;
    text.char_indices().nth(MOST).map_or(text, |(end, _)| &text[..end])
}
