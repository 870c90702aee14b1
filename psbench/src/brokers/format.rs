//! How messages look to a broker: psbench's own form, or that of another program's streams.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Message, proxystore, wire};

/// What a broker carries for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageFormat {
    /// psbench's own: a message each.
    #[default]
    Psbench,
    /// Batches of ProxyStore's stream events: see [`proxystore`](super::proxystore).
    ProxyStore,
}

/// Reads messages of one topic, in the order of their arrival.
pub(super) enum MessageReader {
    Psbench,
    ProxyStore(proxystore::Reader),
}

impl MessageReader {
    pub(super) fn new(format: MessageFormat) -> Self {
        match format {
            MessageFormat::Psbench => Self::Psbench,
            MessageFormat::ProxyStore => Self::ProxyStore(proxystore::Reader::default()),
        }
    }

    /// Appends what is in `bytes`; an error is why they are none of the format.
    pub(super) fn read(&mut self, bytes: Bytes, messages: &mut VecDeque<Message>) -> Result<(), String> {
        match self {
            Self::Psbench => wire::split(bytes).map(|message| messages.push_back(message)),
            Self::ProxyStore(reader) => reader.read(bytes, messages),
        }
    }

    /// Whether the end of the stream was read, where the format has one of its own.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Psbench => false,
            Self::ProxyStore(reader) => reader.has_ended(),
        }
    }
}
