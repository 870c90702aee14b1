//! What the two sides of a broker tell of a trial, beside its messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// What a publisher tells at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PublisherReport {
    /// Messages handed over of which the broker did not say that it has them. Some may be there all the same.
    pub unacknowledged: u64,
    /// What the broker's client counted; absent where it does not.
    pub client: Option<ClientStatistics>,
}

/// One look at what the broker holds for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagSample {
    /// When.
    pub at: Nanos,
    /// Messages that had been published, from the subscription on.
    pub published: u64,
    /// Of these, messages that the subscriber had handed on.
    pub taken: u64,
}

/// What a broker's client counted during a trial, looked at now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientStatistics {
    /// How often it was looked at.
    pub samples: u64,
    /// Messages in the client's queue, to be sent or to be taken: mean of the looks.
    pub queue_mean_messages: f64,
    /// The most messages in its queue.
    pub queue_max_messages: u64,
    /// The most bytes in its queue.
    pub queue_max_bytes: u64,
    /// Requests to the broker whose round trip was measured.
    pub round_trips: u64,
    /// Their mean time, ns; absent when there was none.
    pub round_trip_mean_ns: Option<f64>,
    /// The longest, ns; likewise.
    pub round_trip_max_ns: Option<u64>,
}
