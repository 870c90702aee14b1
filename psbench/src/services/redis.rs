//! A private `redis-server`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::{Client, Connection, InfoDict, RedisResult};

use super::{Needed, Service, ServiceName, ServicesError};

/// `redis-server` of the PATH, with its own defaults but for these: it listens on the loopback interface, and saves nothing unless asked.
#[derive(Clone, Copy, Debug)]
pub struct RedisServer;

/// What it is started from.
pub(crate) const REDIS: Needed = Needed { program: "redis-server", packages: "redis-server" };

const CONFIGURATION: &str = "redis.conf";

/// To connect, and for each answer.
const ANSWER: Duration = Duration::from_secs(2);

impl Service for RedisServer {
    fn name(&self) -> ServiceName {
        ServiceName::Redis
    }

    fn check(&self) -> Result<(), ServicesError> {
        REDIS.check()
    }

    fn ports(&self) -> usize {
        1
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    fn prepare(&self, directory: &Path, ports: &[u16], _interrupted: &AtomicBool) -> Result<(), ServicesError> {
        let file = directory.join(CONFIGURATION);
        let port = ports.first().copied().unwrap_or_default();
        let lines = ["bind 127.0.0.1".into(), format!("port {port}"), "save \"\"".into(), "dir .".into()];
        fs::write(&file, lines.join("\n") + "\n").map_err(ServicesError::file(&file))
    }

    fn reconfigure(&self, _directory: &Path, _ports: &[u16]) -> Result<(), ServicesError> {
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("redis-server");
        command.arg(CONFIGURATION);
        command
    }

    fn answers(&self, port: u16, pid: u32, _log: &str) -> bool {
        process_at(port).ok().flatten() == Some(pid)
    }
}

/// The process of the server at this port, if it takes commands: one that still loads its data does not.
fn process_at(port: u16) -> RedisResult<Option<u32>> {
    let mut connection = connect(port)?;
    redis::cmd("PING").exec(&mut connection)?;
    let info: InfoDict = redis::cmd("INFO").arg("server").query(&mut connection)?;
    Ok(info.get("process_id"))
}

/// Has the server write down what it holds, which it reads when it starts again.
pub(super) fn save(port: u16) -> Result<(), ServicesError> {
    /// For what memory holds to go to a disk.
    const SAVING: Duration = Duration::from_secs(120);
    let saved = connect(port).and_then(|mut connection| {
        connection.set_read_timeout(Some(SAVING))?;
        redis::cmd("SAVE").exec(&mut connection)
    });
    saved.map_err(|error| ServicesError::Save { name: ServiceName::Redis, problem: error.to_string() })
}

fn connect(port: u16) -> RedisResult<Connection> {
    let connection = Client::open(("127.0.0.1", port))?.get_connection_with_timeout(ANSWER)?;
    connection.set_read_timeout(Some(ANSWER))?;
    connection.set_write_timeout(Some(ANSWER))?;
    Ok(connection)
}
