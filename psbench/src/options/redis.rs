//! Redis servers: of the stream and of the redis connector.

use std::path::PathBuf;

use psbench_connectors::redis::{REDIS_PORT, RedisKind, RedisServer, RedisTls, SENTINEL_PORT};

use super::checks::absolute;
use super::{OptionError, StreamScalingOptions, server};

const SERVERS: &str = "--stream-servers";
const HOST: &str = "--ps-host";
const LOCAL: &str = "localhost";

impl StreamScalingOptions {
    /// The server of the stream.
    pub(super) fn redis_broker(&mut self) -> Result<RedisServer, OptionError> {
        if self.stream_servers.is_empty() {
            self.stream_servers.push(format!("{LOCAL}:{}", self.redis_port()));
        }
        self.redis(SERVERS, &self.stream_servers.join(","), self.redis_port())
    }

    /// The server of the redis connector.
    pub(super) fn redis_store(&mut self) -> Result<RedisServer, OptionError> {
        let text = self.ps_host.get_or_insert_with(|| LOCAL.into()).clone();
        if self.ps_port == Some(0) {
            return Err(OptionError::invalid("--ps-port", &0, "write the server's port"));
        }
        let port = self.ps_port.unwrap_or(self.redis_port());
        let server = self.redis(HOST, &text, port)?;
        let used = server.addresses().iter().any(|(_, of_one)| *of_one == port);
        if !used && self.ps_port.is_some() {
            let problem = "--ps-host says already where to connect; leave one of the two out";
            return Err(OptionError::invalid("--ps-port", &port, problem));
        }
        if used && !text.contains("://") {
            self.ps_port = Some(port);
        }
        Ok(server)
    }

    fn redis_port(&self) -> u16 {
        if self.redis_sentinel.is_some() { SENTINEL_PORT } else { REDIS_PORT }
    }

    /// What a list with commas says, at this port where it names none.
    fn redis(&self, option: &'static str, text: &str, port: u16) -> Result<RedisServer, OptionError> {
        let mut servers = Vec::new();
        for text in text.split(',') {
            servers.push(if text.contains("://") {
                RedisServer::from_url(text, port)
                    .map_err(|error| OptionError::invalid(option, &error.shown, error.problem.clone()))?
            } else {
                server::parse_at(option, text, port).map(|(host, port)| RedisServer::tcp(host, port))?
            });
        }
        let mut servers = servers.into_iter();
        let Some(mut server) = servers.next() else {
            return Err(OptionError::invalid(option, &text, "names no server"));
        };
        server.others =
            servers.filter_map(|other| other.address().map(|(host, port)| (host.to_owned(), port))).collect();
        if let Some(name) = &self.redis_sentinel {
            if server.is_local() {
                return Err(OptionError::invalid(
                    option,
                    &server,
                    "sentinels have no Unix socket; write their HOST:PORT",
                ));
            }
            server.kind = RedisKind::Sentinel(name.clone());
        } else if !server.others.is_empty() && server.kind != RedisKind::Cluster {
            let problem = "Redis takes one server; write one, or --redis-sentinel NAME where these are sentinels";
            return Err(OptionError::invalid(option, &text, problem));
        }
        self.redis_tls(option, &mut server)?;
        Ok(server)
    }

    /// Whom to trust, and who psbench is, where there is TLS.
    fn redis_tls(&self, option: &'static str, server: &mut RedisServer) -> Result<(), OptionError> {
        let file = |option, path: &Option<PathBuf>| path.as_ref().map(|path| absolute(option, path));
        let ca = file("--redis-ca-file", &self.redis_ca_file).transpose()?;
        let certificate = file("--redis-cert-file", &self.redis_cert_file).transpose()?;
        let key = file("--redis-key-file", &self.redis_key_file).transpose()?;
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(OptionError::Missing { option: "--redis-key-file", needed_by: "--redis-cert-file" });
            }
            (None, Some(_)) => {
                return Err(OptionError::Missing { option: "--redis-cert-file", needed_by: "--redis-key-file" });
            }
        };
        let files = RedisTls { ca, client };
        if server.tls.is_some() {
            files.check()?;
            server.tls = Some(Box::new(files));
        } else if files != RedisTls::default() && !self.redis_has_tls() {
            let problem = "it is asked without TLS, for which the files of --redis-ca-file and its like are; write rediss://HOST:PORT";
            return Err(OptionError::invalid(option, server, problem));
        }
        Ok(())
    }

    /// Whether one server or another has TLS.
    fn redis_has_tls(&self) -> bool {
        let is_secure = |text: &String| text.starts_with("rediss") || text.starts_with("valkeys://");
        self.stream_servers.iter().chain(&self.ps_host).any(is_secure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(server: &[&str]) -> StreamScalingOptions {
        let stream_servers = server.iter().map(ToString::to_string).collect();
        StreamScalingOptions { stream_servers, ..StreamScalingOptions::default() }
    }

    #[test]
    fn servers_are_addresses_or_urls() {
        assert_eq!(stream(&[]).redis_broker().unwrap(), RedisServer::tcp("localhost", 6379));
        assert_eq!(stream(&["h:1"]).redis_broker().unwrap(), RedisServer::tcp("h", 1));
        assert_eq!(stream(&["redis://h"]).redis_broker().unwrap(), RedisServer::tcp("h", 6379));
        let ps_host = |host: &str| StreamScalingOptions { ps_host: Some(host.into()), ps_port: Some(7), ..stream(&[]) };
        assert_eq!(ps_host("h").redis_store().unwrap(), RedisServer::tcp("h", 7));
        assert_eq!(ps_host("redis://h").redis_store().unwrap(), RedisServer::tcp("h", 7));
        assert_eq!(ps_host("[::1]").redis_store().unwrap(), RedisServer::tcp("::1", 7));
        assert_eq!(ps_host("h:7").redis_store().unwrap(), RedisServer::tcp("h", 7));
        for elsewhere in ["redis://h:8", "h:8", "redis+unix:///s"] {
            let error = ps_host(elsewhere).redis_store().unwrap_err().to_string();
            assert!(error.starts_with("--ps-port 7: --ps-host says"), "{error}");
        }
    }

    #[test]
    fn several_are_sentinels() {
        let error = stream(&["a:1", "b:2"]).redis_broker().unwrap_err().to_string();
        assert!(error.contains("--redis-sentinel"), "{error}");
        let mut options = stream(&["a:1,b:2", "redis://c"]);
        options.redis_sentinel = Some("main".into());
        let server = options.redis_broker().unwrap();
        assert_eq!(server.addresses(), [("a", 1), ("b", 2), ("c", 26_379)]);
        assert_eq!(server.kind, RedisKind::Sentinel("main".into()));
    }

    #[test]
    fn a_password_is_not_repeated() {
        let error = stream(&["redis://u:hunter2@h"]).redis_broker().unwrap_err().to_string();
        assert!(error.starts_with("--stream-servers redis://…@h: a password does not belong there"), "{error}");
    }

    #[test]
    fn files_of_tls_are_looked_at_and_want_tls() {
        let mut options = stream(&["h:1"]);
        options.redis_ca_file = Some("nowhere.pem".into());
        assert!(options.redis_broker().unwrap_err().to_string().contains("rediss://"));
        options.stream_servers = vec!["rediss://h".into()];
        assert!(options.redis_broker().unwrap_err().to_string().contains("nowhere.pem"));
        options.redis_ca_file = None;
        options.redis_cert_file = Some("c.pem".into());
        assert!(options.redis_broker().unwrap_err().to_string().contains("--redis-key-file"));
    }
}
