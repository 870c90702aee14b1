//! Reading a batch of events.

use bytes::Bytes;

use super::{
    END_OF_STREAM, EVENT_BATCH, EVENT_TYPE, EVENTS, EVICT, KEY_TYPE, METADATA, NEW_OBJECT, NEW_OBJECT_KEY, OBJECT,
    RAW_KEY, STORE_CONFIG, clip, store,
};
use crate::proxystore::pickle::{Document, PickleError, Value};
use crate::proxystore::{CLOUDPICKLED, MARK, PICKLED};
use crate::{Key, Lifetime, Proxy};

/// The most events of a batch.
pub const MAX_EVENTS: usize = 8192;

/// A message that is a batch of events.
#[derive(Debug)]
pub struct Batch(Document);

/// One event.
#[derive(Debug)]
pub enum Event<'a> {
    /// An object: in full (a slice of the message), or by a proxy without size and checksum, which such an event does not tell.
    Object {
        /// The object; or what is wrong with it, in words that follow its number.
        object: Result<Object, String>,
        /// A dictionary, as a rule; absent where the event has none.
        metadata: Option<Value<'a>>,
    },
    /// The end of the stream.
    End,
}

/// What an event brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// The object itself.
    Full(Bytes),
    /// Where it is.
    Proxy(Proxy),
}

/// Why a message is no batch of events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It has not ProxyStore's mark.
    #[error("a message that is no ProxyStore event: expected `PK\\n` ahead, found `{0}`")]
    Mark(String),
    /// Its pickle.
    #[error("a ProxyStore event that can't be read: {0}")]
    Pickle(#[from] PickleError),
    /// What the pickle is of.
    #[error("a ProxyStore event that can't be read: {0}")]
    Form(String),
}

impl Batch {
    /// Whether this may be a batch of events, by its mark.
    pub fn is_marked(message: &[u8]) -> bool {
        message.starts_with(PICKLED) || message.starts_with(CLOUDPICKLED)
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`EventError`] for anything else than a batch.
    pub fn read(message: &Bytes) -> Result<Self, EventError> {
        if !Self::is_marked(message) {
            let start = &message[..message.len().min(MARK)];
            return Err(EventError::Mark(start.escape_ascii().to_string()));
        }
        let document = Document::read(message.slice(MARK..))?;
        let root = document.root();
        if root.get(EVENT_TYPE).and_then(Value::as_str) != Some(EVENT_BATCH) {
            return Err(EventError::Form(format!("{} that is no {EVENT_BATCH}", root.type_name())));
        }
        match root.get(EVENTS).and_then(Value::elements).map(|events| events.len()) {
            Some(0..=MAX_EVENTS) => Ok(Self(document)),
            Some(events) => Err(EventError::Form(format!("a batch of {events} events, more than {MAX_EVENTS}"))),
            None => Err(EventError::Form("a batch without events".into())),
        }
    }

    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = Result<Event<'_>, EventError>> {
        self.0.root().get(EVENTS).and_then(Value::elements).into_iter().flatten().map(event)
    }
}

fn event(value: Value<'_>) -> Result<Event<'_>, EventError> {
    let kind = value.get(EVENT_TYPE).and_then(Value::as_str);
    let object = match kind {
        Some(END_OF_STREAM) => return Ok(Event::End),
        Some(NEW_OBJECT) => full(value),
        Some(NEW_OBJECT_KEY) => proxy(value),
        other => {
            let kind = match value.foreign() {
                Some((module, name)) => format!("an object of Python's {}.{}", clip(module), clip(name)),
                None => clip(other.unwrap_or(value.type_name())).to_owned(),
            };
            return Err(EventError::Form(format!("an event of an unknown kind: {kind}")));
        }
    };
    Ok(Event::Object { object, metadata: value.get(METADATA) })
}

fn full(event: Value<'_>) -> Result<Object, String> {
    let object = event.get(OBJECT).ok_or("its event has no object")?;
    // What is no plain bytes stays serialised.
    Ok(Object::Full(object.as_bytes().unwrap_or_else(|| object.serialised())))
}

fn proxy(event: Value<'_>) -> Result<Object, String> {
    let field = |name: &str| event.get(name).ok_or_else(|| format!("its event has no {name}"));
    let store = field(STORE_CONFIG)?;
    let key_type = field(KEY_TYPE)?.as_str().unwrap_or_default();
    let (address, id) = store::read(store, key_type, field(RAW_KEY)?)?;
    let evict = field(EVICT)?.as_bool().ok_or("whether to evict it is not said")?;
    let lifetime = if evict { Lifetime::Owned } else { Lifetime::Kept };
    Ok(Object::Proxy(Proxy { address, key: Key::named(id), checksum: None, lifetime }))
}
