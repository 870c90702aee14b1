//! The dispatcher's side: a thread reads from the server into a bounded queue.
//!
//! When the queue is full the thread stops reading: then the server holds what comes, up to its own bounds. From a list of another
//! program's it takes one message at a time, the next one when the last was taken from the queue, and none past the end of the stream:
//! so a subscriber that leaves early has taken one message at most that it did not hand on.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::redis::Closer;
use redis::{RedisError, RedisResult, Value};

use super::super::format::MessageReader;
use super::super::queue::Queue;
use super::super::{BrokerError, Message, Subscriber};
use super::expiry::{self, REFRESH};
use super::resp::{Resp, SILENCE, redis_error};
use super::{Kind, PAUSE, RECONNECT, Server, is_cut, server_info, setting};
use crate::clock::{Clock, Nanos, SystemClock};

struct RedisSubscriber {
    queue: Arc<Queue>,
    signs: Signs,
    /// Of the connection that is read at the time.
    waker: Arc<Mutex<Option<Closer>>>,
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
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::PubSub => Self::Heard(Arc::default()),
            Kind::Queue => Self::Empty(Arc::default()),
        }
    }

    /// Takes note of what comes over this connection.
    fn follow(&self, connection: &mut Resp) {
        if let Self::Heard(at) = self {
            connection.heard(at);
        }
    }

    /// What came last.
    fn last(&self) -> Nanos {
        let (Self::Heard(at) | Self::Empty(at)) = self;
        at.load(Ordering::Relaxed)
    }

    /// What came since says nothing of messages.
    fn unhear(&self, last: Nanos) {
        if let Self::Heard(at) = self {
            at.store(last, Ordering::Relaxed);
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
    let failed = |action: &'static str| move |error: io::Error| server.error(action, error.into());
    let mut connection = Resp::connect(server, topic)?;
    let mut reading = Reading {
        server: server.clone(),
        topic: topic.into(),
        queue: Arc::default(),
        signs: Signs::of(server.kind),
        waker: Arc::default(),
        source: match server.kind {
            Kind::PubSub => Source::Channel { pinged: None },
            Kind::Queue => Source::List {
                together: (!server.is_sparing()).then_some(1),
                refreshed: server.has_own_lists().then(Instant::now),
            },
        },
        // Before the subscription, since that is when it begins.
        dropped: server.overflows(),
        cuts: 0,
    };
    reading.begin(&mut connection)?;
    let (queue, signs, waker) = (Arc::clone(&reading.queue), reading.signs.clone(), Arc::clone(&reading.waker));
    let thread = thread::Builder::new()
        .name("redis-receive".into())
        .spawn(move || reading.run(connection))
        .map_err(failed("start the receiving thread"))?;
    Ok(Box::new(RedisSubscriber { queue, signs, waker, reading: Some(thread) }))
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
        if let Some(waker) = &*lock(&self.waker) {
            waker.close();
        }
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

/// What the receiving thread has.
struct Reading {
    server: Server,
    topic: String,
    queue: Arc<Queue>,
    signs: Signs,
    waker: Arc<Mutex<Option<Closer>>>,
    source: Source,
    /// How many subscribers the server had ended for falling behind, where it tells.
    dropped: Option<u64>,
    /// How often the connection was cut since something came.
    cuts: u32,
}

impl Reading {
    /// Subscribes over a new connection: what is published from now on comes.
    fn begin(&mut self, connection: &mut Resp) -> Result<(), BrokerError> {
        let failed = |error: io::Error| self.server.error("subscribe", error.into());
        if let Source::Channel { pinged } = &mut self.source {
            *pinged = None;
            let sent = connection.send(redis::cmd("SUBSCRIBE").arg(&self.topic)).map_err(redis_error);
            let confirmation =
                sent.and_then(|()| connection.answer()).map_err(|source| self.server.error("subscribe", source))?;
            if pushed(confirmation, "subscribe").is_none() {
                let reason =
                    "answered SUBSCRIBE with something else than its confirmation; is that a Redis server?".into();
                return Err(BrokerError::Protocol { broker: self.server.label(), reason });
            }
        }
        let waker = connection.waker().map_err(failed)?;
        *lock(&self.waker) = Some(waker);
        self.signs.follow(connection);
        Ok(())
    }

    fn run(mut self, mut connection: Resp) {
        let mut reader = MessageReader::new(self.server.format);
        let mut payloads = Vec::new();
        let mut messages = VecDeque::new();
        let sparing = self.server.is_sparing();
        let reason = loop {
            if sparing && self.queue.wait_until_empty().is_err() {
                return;
            }
            let received = self.source.next(&mut connection, &self.topic, &self.signs, &mut payloads);
            self.signs.note(!payloads.is_empty() || received.is_err());
            if !payloads.is_empty() {
                self.cuts = 0;
            }
            self.queue.count(payloads.iter().map(|payload| payload.len() as u64).sum());
            let read = payloads.drain(..).try_for_each(|payload| reader.read(payload, &mut messages));
            // What came ahead of a failure came whole.
            if self.queue.push(&mut messages, || true).is_err() {
                return;
            }
            if let Err(reason) = read {
                break BrokerError::Protocol { broker: self.server.label(), reason };
            }
            if let Err(error) = received {
                match self.again(error) {
                    Ok(Some(new)) => connection = new,
                    Ok(None) => return,
                    Err(reason) => break reason,
                }
            }
            if sparing && reader.has_ended() {
                return;
            }
        };
        self.queue.end(reason);
    }

    /// Another connection in place of one that ended; `None` where nobody wants it any more.
    fn again(&mut self, cause: RedisError) -> Result<Option<Resp>, BrokerError> {
        if !is_cut(&cause) && !cause.is_timeout() {
            return if self.queue.is_abandoned() { Ok(None) } else { Err(self.server.error("receive", cause)) };
        }
        self.cuts += 1;
        let until = Instant::now() + RECONNECT;
        while !self.queue.is_abandoned() {
            let error = match Resp::connect(&self.server, &self.topic) {
                Ok(mut connection) => {
                    self.was_not_dropped()?;
                    match self.begin(&mut connection) {
                        // Whoever left meanwhile woke the connection before.
                        Ok(()) if self.queue.is_abandoned() => break,
                        Ok(()) => {
                            self.tell(&cause);
                            return Ok(Some(connection));
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if Instant::now() >= until {
                return Err(error);
            }
            thread::sleep(PAUSE);
        }
        Ok(None)
    }

    fn tell(&self, cause: &RedisError) {
        let broker = self.server.label();
        match self.source {
            Source::Channel { .. } => tracing::warn!(
                "{broker}: the subscription was cut ({cause}) and made anew; what was published in between is lost, which its numbers tell"
            ),
            Source::List { .. } => tracing::debug!("{broker}: the connection was cut ({cause}) and made anew"),
        }
    }

    /// Makes sure that the server did not end the subscriber for falling behind: that it would do again.
    fn was_not_dropped(&self) -> Result<(), BrokerError> {
        if self.server.kind == Kind::Queue {
            return Ok(());
        }
        let reason = match (self.dropped, self.server.overflows()) {
            (Some(before), Some(now)) if now > before => {
                format!("the server ends subscribers that fall behind its output buffer limit ({now} since it started)")
            }
            // Before Redis 7.4 the server does not tell.
            (None, _) if self.cuts >= MOST_CUTS => {
                format!(
                    "cut off {MOST_CUTS} times with nothing in between: perhaps it falls behind the server's output buffer limit"
                )
            }
            _ => return Ok(()),
        };
        let told =
            self.server.control().ok().and_then(|mut control| setting(&mut control, "client-output-buffer-limit"));
        let limit = told.and_then(|limits| pubsub_limit(&limits));
        let limit = limit.map_or_else(String::new, |limit| format!(", which is {limit}"));
        Err(BrokerError::Dropped {
            broker: self.server.label(),
            remedy: format!(
                ": {reason}{limit}; raise it with `redis-cli CONFIG SET client-output-buffer-limit \"pubsub 0 0 0\"`, or use --stream \
                 redis-queue, or --stream-method proxy"
            ),
        })
    }
}

/// Cuts in a row, with nothing in between, that are no accident.
const MOST_CUTS: u32 = 3;

/// Where the next payloads come from.
enum Source {
    /// A channel that is subscribed to.
    Channel {
        /// When the server was asked for a sign of life, and when something else than that came last.
        pinged: Option<(Instant, Nanos)>,
    },
    /// A list that is taken from.
    List {
        /// How many to ask for beyond the first; `None` where no payload is to be taken before it is wanted.
        together: Option<usize>,
        /// When it was let live on, where it is psbench's own.
        refreshed: Option<Instant>,
    },
}

/// The server waits for the first payload this long, seconds; then it is asked again, so that the end of this side is seen.
const PATIENCE: f64 = 0.2;

/// Payload bytes to ask for with one request.
const TOGETHER_BYTES: usize = 1 << 20;

/// Payloads to ask for with one request.
const MOST_TOGETHER: usize = 256;

/// Silence after which a sign of life goes to and fro, so that nobody between takes the connection for an idle one.
const IDLE: Duration = Duration::from_secs(1);

impl Source {
    /// Appends the next payloads; may append none when none came for a while.
    fn next(
        &mut self,
        connection: &mut Resp,
        topic: &str,
        signs: &Signs,
        payloads: &mut Vec<Bytes>,
    ) -> RedisResult<()> {
        match self {
            Self::Channel { pinged } => {
                if !connection.wait(IDLE)? {
                    return match pinged {
                        Some((at, _)) if at.elapsed() > SILENCE => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                        Some(_) => Ok(()),
                        None => {
                            *pinged = Some((Instant::now(), signs.last()));
                            connection.send(&redis::cmd("PING")).map_err(redis_error)
                        }
                    };
                }
                let push = connection.answer()?;
                if is_pong(&push) {
                    // It says nothing of messages.
                    if let Some((_, last)) = pinged.take() {
                        signs.unhear(last);
                    }
                } else if let Some((_, last)) = pinged {
                    *last = signs.last();
                }
                payloads.extend(pushed(push, "message"));
                Ok(())
            }
            Self::List { together, refreshed } => {
                if let Some(at) = refreshed.as_mut().filter(|at| at.elapsed() > REFRESH) {
                    *at = Instant::now();
                    connection.send(&expiry::refresh(topic)).map_err(redis_error)?;
                    match connection.answer() {
                        Err(error) if error.is_io_error() => return Err(error),
                        // Who may not do that does without.
                        _ => {}
                    }
                }
                connection.send(redis::cmd("BLPOP").arg(topic).arg(PATIENCE)).map_err(redis_error)?;
                if let Some(together) = together {
                    // In the same round trip, since the server works through what it is sent.
                    connection.send(redis::cmd("LPOP").arg(topic).arg(*together)).map_err(redis_error)?;
                }
                if let Value::Array(mut pair) = connection.answer()? {
                    payloads.extend(pair.pop().and_then(payload));
                }
                let Some(together) = together else { return Ok(()) };
                if let Value::Array(rest) = connection.answer()? {
                    payloads.extend(rest.into_iter().filter_map(payload));
                }
                if let Some(largest) = payloads.iter().map(Bytes::len).max() {
                    *together = (TOGETHER_BYTES / largest.max(1)).clamp(1, MOST_TOGETHER);
                }
                Ok(())
            }
        }
    }
}

/// Whether a push is the answer to a `PING`.
fn is_pong(push: &Value) -> bool {
    matches!(push, Value::Array(parts) if matches!(&parts[..], [Value::BulkString(kind), ..] if kind == b"pong"))
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn payload(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(payload) => Some(payload.into()),
        _ => None,
    }
}

impl Server {
    /// How many clients the server has ended for falling behind, where it tells. Asked in a moment: whoever waits for messages waits for
    /// this, too, and a gateway that has lost its peer would leave it without an answer.
    fn overflows(&self) -> Option<u64> {
        const MOMENT: Duration = Duration::from_secs(1);
        if self.kind == Kind::Queue {
            return None;
        }
        let mut control = self.control_within(MOMENT).ok()?;
        server_info(&mut control, "stats", "client_output_buffer_limit_disconnections")?.parse().ok()
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
        assert!(is_pong(&push("pong")) && !is_pong(&push("message")));
        assert_eq!(pushed(Value::Okay, "message"), None);
    }
}
