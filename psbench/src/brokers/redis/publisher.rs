//! The generator's side.
//!
//! A connection that breaks is made anew, and what the server had not confirmed is sent again: what came twice is known by its number.

use std::thread;
use std::time::{Duration, Instant};

use psbench_connectors::redis::RedisServer;
use redis::{RedisError, Value};

use super::super::{Broker, BrokerError, Message, MessageFormat, Publisher, Route, proxystore, wire};
use super::resp::{Resp, redis_error};
use super::{Kind, PAUSE, RECONNECT, RedisBroker, Server, expiry, is_cut};

/// Publishes to one topic.
pub(in super::super) struct RedisPublisher {
    server: Server,
    connection: Resp,
    topic: String,
    /// Nobody was subscribed when it published last.
    deserted: bool,
}

/// Messages of one write: at most five parts each, below the kernel's 1024.
const TOGETHER: usize = 200;

/// For a subscriber that was cut off to come back, before somebody looks whether it is still waited for.
const RESUBSCRIBE: Duration = Duration::from_millis(250);

impl RedisPublisher {
    /// To a channel.
    pub(in super::super) fn pub_sub(
        address: &RedisServer,
        format: MessageFormat,
        topic: &str,
    ) -> Result<Self, BrokerError> {
        Self::connect(Server { address: address.clone(), route: Route::Direct, kind: Kind::PubSub, format }, topic)
    }

    /// To a list.
    pub(in super::super) fn queue(
        address: &RedisServer,
        format: MessageFormat,
        topic: &str,
    ) -> Result<Self, BrokerError> {
        Self::connect(Server { address: address.clone(), route: Route::Direct, kind: Kind::Queue, format }, topic)
    }

    fn connect(server: Server, topic: &str) -> Result<Self, BrokerError> {
        let connection = Resp::connect(&server, topic)?;
        Ok(Self { server, connection, topic: topic.into(), deserted: false })
    }

    /// Sends messages in this publisher's format; returns what the server answered to each, and what kept it from answering the others.
    fn send(&mut self, messages: &[Message]) -> Result<(Vec<Value>, Option<RedisError>), BrokerError> {
        Ok(match self.server.format {
            MessageFormat::Psbench => {
                let prefixes: Vec<_> = messages.iter().map(wire::prefix).collect();
                let parts = |(message, prefix)| wire::parts(prefix, message);
                self.exchange(&messages.iter().zip(&prefixes).map(parts).collect::<Vec<_>>())
            }
            MessageFormat::ProxyStore => {
                let batch = proxystore::batch(&self.topic, messages)
                    .map_err(|reason| BrokerError::Protocol { broker: self.server.label(), reason })?;
                let (answers, error) = self.exchange(&[batch.parts().collect::<Vec<_>>()]);
                // One answer for all.
                let each = answers.first().map_or(0, |_| messages.len());
                (std::iter::repeat_n(answers, each).flatten().collect(), error)
            }
        })
    }

    fn exchange<'a, M: AsRef<[&'a [u8]]>>(&mut self, messages: &[M]) -> (Vec<Value>, Option<RedisError>) {
        let command = match self.server.kind {
            Kind::PubSub => "PUBLISH",
            Kind::Queue => "RPUSH",
        };
        let mut answers = Vec::with_capacity(messages.len());
        // With each write, since a list that was emptied is another one, which does not expire.
        let refresh = self.server.has_own_lists().then(|| expiry::refresh(&self.topic));
        let sent = self.connection.send_messages(command, &self.topic, messages, refresh.as_ref()).map_err(redis_error);
        if let Err(error) = &sent
            && !is_cut(error)
        {
            return (answers, sent.err());
        }
        // Also where the connection ended meanwhile: what the server said before is the better reason.
        let answered = messages.iter().try_for_each(|_| {
            answers.push(self.connection.answer()?);
            Ok(())
        });
        let answered = answered.and_then(|()| match refresh.map(|_| self.connection.answer()) {
            // Who may not do that does without.
            Some(Err(error)) if error.is_io_error() => Err(error),
            _ => Ok(()),
        });
        let answered = answered.map_err(|said: RedisError| match sent {
            Err(error) if said.is_io_error() => error,
            _ => said,
        });
        (answers, answered.err())
    }

    /// Sends all of these, again over a new connection where one was cut.
    fn send_all(&mut self, mut messages: &[Message]) -> Result<Vec<Value>, BrokerError> {
        let mut answers = Vec::new();
        let mut cut = 0;
        loop {
            let (answered, error) = self.send(messages)?;
            messages = &messages[answered.len()..];
            cut = if answered.is_empty() { cut + 1 } else { 1 };
            answers.extend(answered);
            match error {
                None => return Ok(answers),
                // One that breaks again and again before anything is confirmed breaks for what it is sent.
                Some(error) if is_cut(&error) && cut <= MOST_CUTS => self.reconnect(&error)?,
                Some(error) => return Err(self.server.error("publish", error)),
            }
        }
    }

    /// Connects anew, within the time for that. `cause`: what ended the connection before.
    fn reconnect(&mut self, cause: &RedisError) -> Result<(), BrokerError> {
        let until = Instant::now() + RECONNECT;
        tracing::debug!("{}: the connection was cut ({cause}); connecting again", self.server.label());
        loop {
            match Resp::connect(&self.server, &self.topic) {
                Ok(connection) => {
                    self.connection = connection;
                    return Ok(());
                }
                Err(_) if Instant::now() < until => thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for somebody to subscribe; `false` where nobody does for long.
    fn subscriber_comes(&self) -> Result<bool, BrokerError> {
        let until = Instant::now() + RESUBSCRIBE;
        loop {
            match RedisBroker(self.server.clone()).subscribers(&self.topic) {
                Ok(Some(0)) => {}
                // Who may not ask does not learn of it.
                Ok(None) | Err(BrokerError::Redis { .. }) => return Ok(false),
                Ok(Some(_)) => return Ok(true),
                Err(error) => return Err(error),
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Cuts in a row, with nothing confirmed in between, after which a connection is not made anew.
const MOST_CUTS: u32 = 3;

impl Publisher for RedisPublisher {
    fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        let (broker, topic) = (self.server.label(), self.topic.clone());
        if self.deserted && !self.subscriber_comes()? {
            return Err(BrokerError::Unheard { broker, topic, heard: 0 });
        }
        self.deserted = false;
        for (n, messages) in messages.chunks(TOGETHER).enumerate() {
            let answers = self.send_all(messages)?;
            // PUBLISH answers with how many subscribers got it.
            let unheard = answers.iter().position(|answer| *answer == Value::Int(0));
            if let Some(unheard) = unheard.filter(|_| self.server.kind == Kind::PubSub) {
                // Whoever takes another program's stream leaves for good.
                if self.server.format == MessageFormat::ProxyStore {
                    return Err(BrokerError::NoSubscriber { broker, topic });
                }
                self.deserted = true;
                return Err(BrokerError::Unheard { broker, topic, heard: n * TOGETHER + unheard });
            }
        }
        Ok(())
    }

    fn end(&mut self, last: &Message) -> Result<(), BrokerError> {
        match self.publish(std::slice::from_ref(last)) {
            // It had what it wanted without the end.
            Err(BrokerError::NoSubscriber { .. }) => Ok(()),
            ended => ended,
        }
    }
}
