//! The dispatcher's side: a thread reads from the server into a bounded queue.
//!
//! When the queue is full the thread stops reading: then the server holds what comes, up to its own bounds. From a list of another
//! program's it takes one message at a time, the next one when the last was taken from the queue, and none past the end of the stream:
//! so a subscriber that leaves early has taken one message at most that it did not hand on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use psbench_connectors::redis::Closer;
use redis::{RedisResult, Value};

use super::super::format::MessageReader;
use super::super::queue::Queue;
use super::super::{BrokerError, Message, Subscriber};
use super::resp::{CONNECT_TIME, Resp, redis_error};
use super::{Kind, Server, server_info, setting};
use crate::clock::{Clock, Nanos, SystemClock};

struct RedisSubscriber {
    queue: Arc<Queue>,
    signs: Signs,
    waker: Closer,
    reading: Option<JoinHandle<()>>,
}

/// By what a subscriber knows whether more can come.
#[derive(Clone)]
enum Signs {
    /// When the server sent something last, be it a part of a message.
    Heard(Arc<AtomicU64>),
    /// When the server said last that there is nothing.
    Empty(Arc<AtomicU64>),
}

/// Silence after which a server has nothing more for a channel: it sends on what it has been sent at once, and does not stop within a
/// message.
const QUIET: Duration = Duration::from_secs(1);

impl Signs {
    fn of(kind: Kind, connection: &Resp) -> Self {
        match kind {
            Kind::PubSub => Self::Heard(connection.heard()),
            Kind::Queue => Self::Empty(Arc::default()),
        }
    }

    /// Takes note of an answer.
    fn note(&self, any: bool) {
        if let (Self::Empty(at), false) = (self, any) {
            at.store(SystemClock.now(), Ordering::Relaxed);
        }
    }

    /// Whether something that was sent by then can still come.
    fn may_come(&self, sent_by: Nanos) -> bool {
        match self {
            Self::Heard(at) => {
                let last = sent_by.max(at.load(Ordering::Relaxed));
                SystemClock.now().saturating_sub(last) < QUIET.as_nanos() as u64
            }
            Self::Empty(at) => at.load(Ordering::Relaxed) <= sent_by,
        }
    }
}

pub(super) fn subscribe(server: &Server, topic: &str) -> Result<Box<dyn Subscriber>, BrokerError> {
    let failed = |action: &'static str| move |error| server.error(action, redis_error(error));
    let mut connection = Resp::connect(server, topic)?;
    let source: Box<dyn Source> = match server.kind {
        Kind::PubSub => {
            connection.set_patience(Some(CONNECT_TIME)).map_err(failed("subscribe"))?;
            connection.send(redis::cmd("SUBSCRIBE").arg(topic)).map_err(failed("subscribe"))?;
            // The server's confirmation: what is published from now on comes.
            let confirmation = connection.answer().map_err(|source| server.error("subscribe", source))?;
            if pushed(confirmation, "subscribe").is_none() {
                let reason =
                    "answered SUBSCRIBE with something else than its confirmation; is that a Redis server?".into();
                return Err(BrokerError::Protocol { broker: server.label(), reason });
            }
            connection.set_patience(None).map_err(failed("subscribe"))?;
            Box::new(Channel)
        }
        Kind::Queue => Box::new(List { topic: topic.into(), together: (!server.is_sparing()).then_some(1) }),
    };
    let waker = connection.waker().map_err(failed("subscribe"))?;
    let queue = Arc::new(Queue::default());
    let signs = Signs::of(server.kind, &connection);
    let (reader_queue, reader_server, noted) = (Arc::clone(&queue), server.clone(), signs.clone());
    let reading = thread::Builder::new()
        .name("redis-receive".into())
        .spawn(move || read(connection, source, &reader_server, &reader_queue, &noted))
        .map_err(failed("start the receiving thread"))?;
    Ok(Box::new(RedisSubscriber { queue, signs, waker, reading: Some(reading) }))
}

impl Subscriber for RedisSubscriber {
    fn receive(&mut self, messages: &mut Vec<Message>, wait: Duration) -> Result<(), BrokerError> {
        self.queue.pop(messages, wait)
    }

    fn received_bytes(&self) -> Option<u64> {
        Some(self.queue.received())
    }

    fn may_come(&self, sent_by: Nanos) -> Option<bool> {
        Some(!self.queue.is_drained() || self.signs.may_come(sent_by))
    }
}

impl Drop for RedisSubscriber {
    fn drop(&mut self) {
        self.queue.abandon();
        self.waker.close();
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

/// Where the next payloads come from.
trait Source: Send {
    /// Appends the next payloads; may append none when none came for a while.
    fn next(&mut self, connection: &mut Resp, payloads: &mut Vec<Bytes>) -> RedisResult<()>;
}

fn read(mut connection: Resp, mut source: Box<dyn Source>, server: &Server, queue: &Queue, signs: &Signs) {
    let mut reader = MessageReader::new(server.format);
    let mut payloads = Vec::new();
    let mut messages = VecDeque::new();
    let sparing = server.is_sparing();
    let reason = loop {
        if sparing && queue.wait_until_empty().is_err() {
            return;
        }
        let received = source.next(&mut connection, &mut payloads);
        signs.note(!payloads.is_empty() || received.is_err());
        queue.count(payloads.iter().map(|payload| payload.len() as u64).sum());
        let read = payloads.drain(..).try_for_each(|payload| reader.read(payload, &mut messages));
        // What came ahead of a failure came whole.
        if queue.push(&mut messages, || true).is_err() {
            return;
        }
        if let Err(reason) = read {
            break BrokerError::Protocol { broker: server.label(), reason };
        }
        if let Err(error) = received {
            if queue.is_abandoned() {
                return;
            }
            break explain(server, error);
        }
        if sparing && reader.has_ended() {
            return;
        }
    };
    queue.end(reason);
}

/// A channel that is subscribed to.
struct Channel;

impl Source for Channel {
    fn next(&mut self, connection: &mut Resp, payloads: &mut Vec<Bytes>) -> RedisResult<()> {
        payloads.extend(pushed(connection.answer()?, "message"));
        Ok(())
    }
}

/// The payload of a pushed `[kind, channel, payload]`, without copying.
fn pushed(value: Value, kind: &str) -> Option<Bytes> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(is), _, payload] = <[Value; 3]>::try_from(parts).ok()? else { return None };
    let payload = match payload {
        Value::BulkString(payload) => Bytes::from(payload),
        _ => Bytes::new(),
    };
    (is == kind.as_bytes()).then_some(payload)
}

/// A list that is taken from.
struct List {
    topic: String,
    /// How many to ask for beyond the first; `None` where no payload is to be taken before it is wanted.
    together: Option<usize>,
}

/// The server waits for the first payload this long, seconds; then it is asked again, so that the end of this side is seen.
const PATIENCE: f64 = 0.2;

/// Payload bytes to ask for with one request.
const TOGETHER_BYTES: usize = 1 << 20;

/// Payloads to ask for with one request.
const MOST_TOGETHER: usize = 256;

impl Source for List {
    fn next(&mut self, connection: &mut Resp, payloads: &mut Vec<Bytes>) -> RedisResult<()> {
        let first = redis::cmd("BLPOP").arg(&self.topic).arg(PATIENCE).to_owned();
        connection.send(&first).map_err(redis_error)?;
        if let Some(together) = self.together {
            // In the same round trip, since the server works through what it is sent.
            connection.send(redis::cmd("LPOP").arg(&self.topic).arg(together)).map_err(redis_error)?;
        }
        if let Value::Array(mut pair) = connection.answer()? {
            payloads.extend(pair.pop().and_then(payload));
        }
        let Some(together) = &mut self.together else { return Ok(()) };
        if let Value::Array(rest) = connection.answer()? {
            payloads.extend(rest.into_iter().filter_map(payload));
        }
        if let Some(largest) = payloads.iter().map(Bytes::len).max() {
            *together = (TOGETHER_BYTES / largest.max(1)).clamp(1, MOST_TOGETHER);
        }
        Ok(())
    }
}

fn payload(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(payload) => Some(payload.into()),
        _ => None,
    }
}

/// For the server to tell why it ended a connection.
const EXPLAIN_TIME: Duration = Duration::from_secs(1);

/// Why the server ended the connection, as far as it tells.
fn explain(server: &Server, error: redis::RedisError) -> BrokerError {
    if server.kind == Kind::Queue || !error.is_connection_dropped() {
        return server.error("receive", error);
    }
    // Whoever waits for messages waits for this, too; a gateway that has lost its peer would leave it without an answer.
    let Ok(mut control) = server.control_within(EXPLAIN_TIME) else {
        return server.error("receive", error);
    };
    let disconnections = server_info(&mut control, "stats", "client_output_buffer_limit_disconnections");
    if disconnections.as_deref() == Some("0") {
        return server.error("receive", error);
    }
    let limit = setting(&mut control, "client-output-buffer-limit").and_then(|limits| pubsub_limit(&limits));
    let counted = disconnections.map(|n| format!(" ({n} such disconnections since it started)")).unwrap_or_default();
    let limit = limit.map_or_else(String::new, |limit| format!(" of {limit}"));
    BrokerError::Dropped {
        broker: server.label(),
        remedy: format!(
            ": the server ends subscribers that fall behind its output buffer limit{limit}{counted}; raise it with `redis-cli CONFIG SET \
             client-output-buffer-limit \"pubsub 0 0 0\"`, or use --stream redis-queue, or --stream-method proxy"
        ),
    }
}

/// `normal 0 0 0 slave … pubsub HARD SOFT SECONDS`, for people.
fn pubsub_limit(limits: &str) -> Option<String> {
    let mut words = limits.split_whitespace().skip_while(|word| *word != "pubsub").skip(1);
    let (hard, soft, seconds) = (words.next()?, words.next()?, words.next()?);
    Some(format!("{hard} bytes at once, {soft} bytes for {seconds} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_told_from_the_others() {
        let limits = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(pubsub_limit(limits).unwrap(), "33554432 bytes at once, 8388608 bytes for 60 s");
        assert_eq!(pubsub_limit("normal 0 0 0"), None);
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let push = |kind: &str| {
            Value::Array(vec![
                Value::BulkString(kind.into()),
                Value::BulkString(b"topic".to_vec()),
                Value::BulkString(b"payload".to_vec()),
            ])
        };
        assert_eq!(pushed(push("message"), "message").unwrap(), "payload");
        assert_eq!(pushed(push("pong"), "message"), None);
        assert_eq!(pushed(Value::Okay, "message"), None);
    }
}
