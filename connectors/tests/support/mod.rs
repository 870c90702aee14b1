//! Private servers for the tests.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod endpoint;
pub(crate) mod python;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Runs until it is dropped; keeps nothing on disk.
pub(crate) struct RedisServer {
    process: Child,
    pub(crate) port: u16,
}

impl RedisServer {
    /// Starts one on a free port, with further options of `redis-server`.
    pub(crate) fn start(options: &[&str]) -> Self {
        // A port that is free now may be another test's in a moment.
        (0..20).find_map(|_| Self::try_start_on(free_port(), options)).expect("found no port for redis-server")
    }

    /// Starts one on this port.
    pub(crate) fn start_on(port: u16, options: &[&str]) -> Self {
        Self::try_start_on(port, options).expect("another process took the port")
    }

    /// `None` where another process has the port.
    fn try_start_on(port: u16, options: &[&str]) -> Option<Self> {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--dir", "/tmp", "--port", &port.to_string()])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be on the PATH");
        let mut server = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.process.try_wait().unwrap().is_none() {
            if server.answers_itself() {
                return Some(server);
            }
            assert!(Instant::now() < deadline, "redis-server did not come up on port {port}");
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether the server at the port is this one, and not another test's that got the port first.
    fn answers_itself(&self) -> bool {
        let client = redis::Client::open(("127.0.0.1", self.port)).unwrap();
        let Ok(mut connection) = client.get_connection() else { return false };
        let info: redis::RedisResult<redis::InfoDict> = redis::cmd("INFO").arg("server").query(&mut connection);
        let pid = info.ok().and_then(|info| info.get::<u32>("process_id"));
        pid == Some(self.process.id())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nothing listens on. It is below those that the system hands out (to clients, and to whoever binds port 0), so that
/// it stays free while a server starts or restarts.
pub(crate) fn free_port() -> u16 {
    std::iter::repeat_with(|| 10_000 + (uuid::Uuid::new_v4().as_u128() % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("an endless search ends with a port")
}
