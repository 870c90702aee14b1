//! Which Redis: where it is, how one gets in, and what kind of a server it is. Passwords are no part of it.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// The port of a server as it is installed.
pub const REDIS_PORT: u16 = 6379;
/// The port of a Sentinel as it is installed.
pub const SENTINEL_PORT: u16 = 26_379;

/// How a Redis, a Valkey or what else speaks their protocol is reached. Small, as proxies carry it, and without secrets: the user's password
/// comes from each process's environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RedisServer {
    /// Where it is, or the first of its sentinels.
    pub place: RedisPlace,
    /// Further sentinels: `host`, `port`.
    pub others: Vec<(String, u16)>,
    /// The user; absent for the one of the environment, or the default one.
    pub user: Option<String>,
    /// The number of the database.
    pub database: u32,
    /// Whom TLS trusts; absent for a connection without TLS.
    pub tls: Option<Box<RedisTls>>,
    /// What is there.
    pub kind: RedisKind,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RedisPlace {
    /// At a port of a host.
    Tcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// At a Unix socket of each host.
    Unix(PathBuf),
}

/// What answers at a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RedisKind {
    /// The server.
    Server,
    /// Sentinels, which know the server of this name.
    Sentinel(String),
    /// Nodes of a cluster, each of which knows where keys are.
    Cluster,
}

/// Files of TLS, the same on every host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RedisTls {
    /// The authorities to trust; absent for those of the system.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl RedisTls {
    /// Makes sure that the files are there and hold what they should.
    ///
    /// # Errors
    /// One is not, or does not.
    pub fn check(&self) -> Result<(), scistream::tls::TlsError> {
        super::transport::client_tls(self).map(drop)
    }
}

/// A URL that names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BadRedisUrl {
    /// The URL, without what may be a password.
    pub shown: String,
    /// What is wrong with it and what to write instead.
    pub problem: String,
}

const EXAMPLE: &str =
    "write redis://[USER@]HOST[:PORT][/DATABASE], rediss:// for TLS, or redis+unix:///PATH[?db=DATABASE]";

impl RedisServer {
    /// One without TLS at a port.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::at(RedisPlace::Tcp { host: host.into(), port })
    }

    fn at(place: RedisPlace) -> Self {
        Self { place, others: Vec::new(), user: None, database: 0, tls: None, kind: RedisKind::Server }
    }

    /// What a URL says; `port` where it has none.
    ///
    /// # Errors
    /// It is none of a Redis server, or holds a password.
    pub fn from_url(url: &str, port: u16) -> Result<Self, BadRedisUrl> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        // A path may hold an `@`, too.
        let (authority, _) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let user_end = authority.rfind('@').or_else(|| rest.rfind('@').filter(|_| authority.contains(':')));
        let (user, rest) = match user_end {
            Some(end) => (Some(&rest[..end]), &rest[end + 1..]),
            None => (None, rest),
        };
        let shown = if user.is_some() { format!("{scheme}://…@{rest}") } else { url.to_owned() };
        let wrong = |problem: String| BadRedisUrl { shown: shown.clone(), problem };
        if user.is_some_and(|user| user.contains(':')) {
            let problem = "a password does not belong there; put it in PSBENCH_REDIS_PASSWORD (and the user in the URL, or in PSBENCH_REDIS_USERNAME)";
            return Err(wrong(problem.into()));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut server = match scheme {
            "redis" | "rediss" | "valkey" | "valkeys" | "redis+cluster" | "rediss+cluster" => {
                let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
                let (host, port) = host_and_port(address, port).map_err(|what| wrong(format!("{what}; {EXAMPLE}")))?;
                let mut server = Self::tcp(host, port);
                server.tls = matches!(scheme, "rediss" | "valkeys" | "rediss+cluster").then(Box::default);
                if scheme.ends_with("+cluster") {
                    server.kind = RedisKind::Cluster;
                }
                if !database.is_empty() {
                    server.database = number(database).map_err(|what| wrong(format!("{what}; {EXAMPLE}")))?;
                }
                server
            }
            "redis+unix" | "redis+socket" | "valkey+unix" | "unix" => {
                if !rest.starts_with('/') {
                    return Err(wrong(format!("no absolute path of a socket; {EXAMPLE}")));
                }
                Self::at(RedisPlace::Unix(decoded(rest).into()))
            }
            _ => return Err(wrong(format!("no URL of a Redis server; {EXAMPLE}"))),
        };
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("db", database)) => {
                    server.database = number(database).map_err(|what| wrong(format!("{what}; {EXAMPLE}")))?;
                }
                Some(("password" | "pass", _)) => {
                    let shown = shown.split('?').next().unwrap_or_default().to_owned();
                    let problem = "a password does not belong there; put it in PSBENCH_REDIS_PASSWORD".into();
                    return Err(BadRedisUrl { shown, problem });
                }
                _ => return Err(wrong(format!("`{setting}` is no setting of it; {EXAMPLE}"))),
            }
        }
        server.user = user.filter(|user| !user.is_empty()).map(decoded);
        Ok(server)
    }

    /// Host and port, where it has them.
    pub fn address(&self) -> Option<(&str, u16)> {
        match &self.place {
            RedisPlace::Tcp { host, port } => Some((host, *port)),
            RedisPlace::Unix(_) => None,
        }
    }

    /// All places by TCP: of a server one, of sentinels each.
    pub fn addresses(&self) -> Vec<(&str, u16)> {
        let others = self.others.iter().map(|(host, port)| (host.as_str(), *port));
        self.address().into_iter().chain(others).collect()
    }

    /// Whether it is of each host itself.
    pub fn is_local(&self) -> bool {
        matches!(self.place, RedisPlace::Unix(_))
    }

    /// The same server at another place, with what is known of the first one: what answers there is no sentinel.
    #[must_use]
    pub fn moved_to(&self, host: String, port: u16) -> Self {
        let place = RedisPlace::Tcp { host, port };
        Self { place, others: Vec::new(), kind: RedisKind::Server, ..self.clone() }
    }
}

/// `host`, `host:port`, `[address]`, `[address]:port`.
fn host_and_port(text: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inside) => {
            let (host, rest) = inside.split_once(']').ok_or("no closing bracket")?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() || (host.contains(':') && !text.starts_with('[')) {
        return Err("no host".into());
    }
    let port = match port {
        None => default,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("not a port from 1 to 65535")?,
    };
    Ok((host.to_owned(), port))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no number of a database"))
}

/// `%XX` as what it stands for.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Where it is, as errors and results name it.
impl fmt::Display for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls.is_some() {
            f.write_str("rediss://")?;
        }
        match &self.place {
            RedisPlace::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}")?,
            RedisPlace::Tcp { host, port } => write!(f, "{host}:{port}")?,
            RedisPlace::Unix(path) => write!(f, "unix:{}", path.display())?,
        }
        for (host, port) in &self.others {
            write!(f, ",{host}:{port}")?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        match &self.kind {
            RedisKind::Server => Ok(()),
            RedisKind::Cluster => f.write_str(" (cluster)"),
            RedisKind::Sentinel(name) => write!(f, " (sentinel, {name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> RedisServer {
        RedisServer::from_url(text, REDIS_PORT).unwrap()
    }

    #[test]
    fn urls_say_where_a_server_is() {
        assert_eq!(url("redis://h"), RedisServer::tcp("h", 6379));
        assert_eq!(url("valkey://[::1]:7/"), RedisServer::tcp("::1", 7));
        let server = url("rediss://a%40b@h:7/3");
        assert_eq!((server.user.as_deref(), server.database, server.tls.is_some()), (Some("a@b"), 3, true));
        let server = url("redis+unix://u@/run/a%20b@c.sock?db=2");
        assert_eq!(server.place, RedisPlace::Unix("/run/a b@c.sock".into()));
        assert_eq!((server.user.as_deref(), server.database), (Some("u"), 2));
        assert_eq!(url("unix:///a@b").place, RedisPlace::Unix("/a@b".into()));
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for text in [
            "redis://:secret@h",
            "redis://u:secret@h:1/2",
            "rediss://u:se@secret@h",
            "redis://u:secret/x@h",
            "redis+unix://u:secret@/p",
            "redis+unix:///p?password=secret",
            "http://u:secret@h",
        ] {
            let error = RedisServer::from_url(text, 1).unwrap_err();
            assert!(error.problem.contains("PSBENCH_REDIS_PASSWORD"), "{text}: {error}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for text in [
            "http://h",
            "h:1",
            "redis://",
            "redis://h:0",
            "redis://h:x",
            "redis://h/x",
            "redis+unix://p",
            "redis://h?x=1",
        ] {
            let error = RedisServer::from_url(text, 1).unwrap_err();
            assert!(error.problem.contains("redis+unix:///PATH"), "{text}: {error}");
        }
    }

    #[test]
    fn servers_are_named() {
        assert_eq!(url("redis://h").to_string(), "h:6379");
        assert_eq!(url("rediss://u@[::1]/3").to_string(), "rediss://[::1]:6379/3");
        assert_eq!(url("unix:///p").to_string(), "unix:/p");
    }
}
