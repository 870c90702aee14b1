//! A broker of one's own: a spool directory, in which each message is a file that appears whole or not at all.
//! `cargo run --release --example own_broker -- stream-scaling --stream spool --stream-servers /dev/shm/spool`
use std::time::{Duration, Instant};
use std::{fs, path::Path, path::PathBuf, process::ExitCode, thread};

use bytes::{Buf, Bytes};
use psbench::brokers::{Broker, BrokerConfig, BrokerError, BrokerFactory, Message, Publisher, Subscriber};

pub(crate) struct Spool(pub(crate) PathBuf);
pub(crate) struct Factory;
/// Either side of a topic: its directory, and the number of the message that comes next.
struct Side(PathBuf, u64);
impl Broker for Spool {
    fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscriber>, BrokerError> {
        fs::create_dir_all(self.0.join(topic)).map_err(BrokerError::own)?;
        Ok(Box::new(Side(self.0.join(topic), 0)))
    }
    fn config(&self) -> BrokerConfig {
        BrokerConfig::Own { name: "spool".into(), place: self.0.display().to_string() }
    }
    fn delete(&self, topic: &str) -> Result<(), BrokerError> {
        fs::remove_dir_all(self.0.join(topic)).map_err(BrokerError::own)
    }
}
impl Publisher for Side {
    fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        for Message { head, payload } in messages {
            let (part, whole) = (self.0.join("part"), self.0.join(self.1.to_string()));
            let content = [&(head.len() as u32).to_le_bytes()[..], head, payload].concat();
            fs::write(&part, content).and_then(|()| fs::rename(part, whole)).map_err(BrokerError::own)?;
            self.1 += 1;
        }
        Ok(())
    }
}
impl Subscriber for Side {
    fn receive(&mut self, messages: &mut Vec<Message>, wait: Duration) -> Result<(), BrokerError> {
        let (next, until) = (self.0.join(self.1.to_string()), Instant::now() + wait);
        while !next.exists() && Instant::now() < until {
            thread::sleep(Duration::from_micros(100));
        }
        let Ok(mut payload) = fs::read(&next).map(Bytes::from) else { return Ok(()) };
        let head = payload.get_u32_le() as usize;
        messages.push(Message { head: payload.split_to(head), payload });
        self.1 += 1;
        fs::remove_file(next).map_err(BrokerError::own)
    }
}
impl BrokerFactory for Factory {
    fn open(&self, servers: &[String]) -> Result<Box<dyn Broker>, BrokerError> {
        Ok(Box::new(Spool(servers.concat().into())))
    }
    fn publisher(&self, place: &str, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
        Ok(Box::new(Side(Path::new(place).join(topic), 0)))
    }
}
fn main() -> ExitCode {
    psbench::Program::new().broker("spool", Factory).run()
}
