//! The generator's side.

use redis::{RedisResult, Value};

use super::super::{BrokerError, Message, MessageFormat, Publisher, Route, proxystore, wire};
use super::resp::{Resp, redis_error};
use super::{Kind, Server};
use psbench_connectors::redis::RedisServer;

/// Publishes to one topic.
pub(in super::super) struct RedisPublisher {
    server: Server,
    connection: Resp,
    topic: String,
}

/// Messages of one write: at most five parts each, below the kernel's 1024.
const TOGETHER: usize = 200;

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
        Ok(Self { server, connection, topic: topic.into() })
    }

    /// Sends messages together, in this publisher's format; returns the answers.
    fn send(&mut self, messages: &[Message]) -> Result<Vec<Value>, BrokerError> {
        let answers = match self.server.format {
            MessageFormat::Psbench => {
                let prefixes: Vec<_> = messages.iter().map(wire::prefix).collect();
                let parts = |(message, prefix)| wire::parts(prefix, message);
                self.exchange(&messages.iter().zip(&prefixes).map(parts).collect::<Vec<_>>())
            }
            MessageFormat::ProxyStore => {
                let batch = proxystore::batch(&self.topic, messages)
                    .map_err(|reason| BrokerError::Protocol { broker: self.server.label(), reason })?;
                self.exchange(&[batch.parts().collect::<Vec<_>>()])
            }
        };
        answers.map_err(|source| self.server.error("publish", source))
    }

    fn exchange<'a, M: AsRef<[&'a [u8]]>>(&mut self, messages: &[M]) -> RedisResult<Vec<Value>> {
        let command = match self.server.kind {
            Kind::PubSub => "PUBLISH",
            Kind::Queue => "RPUSH",
        };
        self.connection.send_messages(command, &self.topic, messages).map_err(redis_error)?;
        messages.iter().map(|_| self.connection.answer()).collect()
    }
}

impl Publisher for RedisPublisher {
    fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        for messages in messages.chunks(TOGETHER) {
            let answers = self.send(messages)?;
            // PUBLISH answers with how many subscribers got it.
            if self.server.kind == Kind::PubSub && answers.contains(&Value::Int(0)) {
                return Err(BrokerError::NoSubscriber { broker: self.server.label(), topic: self.topic.clone() });
            }
        }
        Ok(())
    }
}
