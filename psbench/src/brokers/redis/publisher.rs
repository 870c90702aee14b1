//! The generator's side.

use redis::{RedisResult, Value};

use super::super::{BrokerError, Message, Publisher};
use super::resp::{Resp, redis_error};
use super::{Kind, Server};

/// Publishes to one topic.
pub(in super::super) struct RedisPublisher {
    server: Server,
    connection: Resp,
    topic: String,
}

/// Commands of one write: four parts each, below the kernel's 1024.
const TOGETHER: usize = 200;

impl RedisPublisher {
    /// To a channel.
    pub(in super::super) fn pub_sub(address: &(String, u16), topic: &str) -> Result<Self, BrokerError> {
        Self::connect(address, Kind::PubSub, topic)
    }

    /// To a list.
    pub(in super::super) fn queue(address: &(String, u16), topic: &str) -> Result<Self, BrokerError> {
        Self::connect(address, Kind::Queue, topic)
    }

    fn connect(address: &(String, u16), kind: Kind, topic: &str) -> Result<Self, BrokerError> {
        let server = Server { address: address.clone(), kind };
        let connection = Resp::connect(address).map_err(|error| server.error("connect", redis_error(error)))?;
        Ok(Self { server, connection, topic: topic.into() })
    }

    fn exchange(&mut self, messages: &[Message]) -> RedisResult<Vec<Value>> {
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
            let answers = self.exchange(messages).map_err(|source| self.server.error("publish", source))?;
            // PUBLISH answers with how many subscribers got it.
            if self.server.kind == Kind::PubSub && answers.contains(&Value::Int(0)) {
                return Err(BrokerError::NoSubscriber { broker: self.server.label(), topic: self.topic.clone() });
            }
        }
        Ok(())
    }
}
