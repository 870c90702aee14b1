//! The endpoint's requests.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, SendBody, Timeout};
use uuid::Uuid;

use super::{EndpointLocation, NAME};
use crate::{ConnectorError, Key};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may make no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections to keep.
const CONNECTIONS: usize = 64;
/// The server closes a connection that was idle for 5 s; one that is older than this is not worth a request that may fail.
const IDLE_AGE: Duration = Duration::from_secs(4);
/// The largest value that is read where its size is not known, bytes.
const UNKNOWN_SIZE_LIMIT: u64 = 4 << 30;
/// What is reserved at once for a value; a proxy alone may say that it is larger.
const MOST_RESERVED: u64 = 128 << 20;
/// The longest answer that is not a value, bytes.
const ANSWER_LIMIT: u64 = 64 << 10;
/// As much of a refusal as an error shows, characters.
const SHOWN: usize = 200;

/// One endpoint's address and the connections to it.
#[derive(Debug)]
pub(super) struct Http {
    connector: String,
    address: String,
    id: Uuid,
    agent: Agent,
}

impl Http {
    pub(super) fn new(endpoint: &EndpointLocation) -> Self {
        let EndpointLocation { host, port, id } = endpoint;
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // An endpoint is on the local network.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(CONNECTIONS)
            .max_idle_connections_per_host(CONNECTIONS)
            .max_idle_age(IDLE_AGE)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_write(Some(STALL_TIMEOUT))
            .timeout_per_read(Some(STALL_TIMEOUT))
            .timeout_recv_response(Some(STALL_TIMEOUT))
            .build()
            .new_agent();
        Self { connector: format!("{NAME} {endpoint}"), address: format!("http://{host}:{port}"), id: *id, agent }
    }

    /// Makes sure that the endpoint itself answers.
    pub(super) fn check(&self) -> Result<(), ConnectorError> {
        #[derive(Deserialize)]
        struct Identity {
            uuid: Uuid,
        }
        let failed = |source| ConnectorError::Io {
            connector: self.connector.clone(),
            action: "connect (is the endpoint running? `proxystore-endpoint list` shows it, \
                     `proxystore-endpoint start NAME` starts it)"
                .into(),
            source,
        };
        let request = || self.agent.get(format!("{}/endpoint", self.address)).call();
        let mut answer = request().map_err(io_error).map_err(failed)?;
        let text = small_body(&mut answer).map_err(failed)?;
        let reason = match serde_json::from_slice::<Identity>(&text) {
            Ok(Identity { uuid }) if uuid == self.id => return Ok(()),
            Ok(Identity { uuid }) => format!("endpoint {uuid} answers there: start the right one, or name that one"),
            Err(_) => format!("this is no endpoint of ProxyStore: it answered {}", shown(answer.status(), &text)),
        };
        Err(ConnectorError::Unreachable { connector: self.connector.clone(), reason })
    }

    /// Stores the concatenated `parts`.
    pub(super) fn set(&self, key: &Key, parts: &[&[u8]]) -> Result<(), ConnectorError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let answer = self.repeated("put", key, || {
            let mut body = Parts(parts.to_vec());
            self.agent
                .post(self.url("set", key))
                .content_type("application/octet-stream")
                .header("content-length", len)
                .send(SendBody::from_reader(&mut body))
        })?;
        let hint = "its config.toml has the largest object it takes, storage.max_object_size: 100 MB unless changed";
        self.done("put", key, answer, hint)
    }

    /// The value, or `None` where there is none; it has `extra` bytes more than the object.
    pub(super) fn get(&self, key: &Key, extra: u64) -> Result<Option<Vec<u8>>, ConnectorError> {
        let mut answer = self.repeated("get", key, || self.agent.get(self.url("get", key)).call())?;
        if answer.status() == StatusCode::NOT_FOUND {
            // Read, so that the connection can be used again.
            small_body(&mut answer).map_err(|error| self.failed("get", key, error))?;
            return Ok(None);
        }
        if answer.status() != StatusCode::OK {
            return Err(self.refused("get", key, answer, ""));
        }
        let limit = key.size.map_or(UNKNOWN_SIZE_LIMIT, |size| size.saturating_add(extra));
        let told = answer.body().content_length();
        if let Some(len) = told.filter(|len| *len > limit) {
            return Err(self.protocol("get", key, format!("{len} bytes came where {limit} were expected")));
        }
        let reserved = told.or(key.size.map(|_| limit)).unwrap_or_default().min(MOST_RESERVED);
        let value = read(answer.body_mut().as_reader(), limit, reserved).map_err(|e| self.failed("get", key, e))?;
        if value.len() as u64 > limit {
            return Err(self.protocol("get", key, format!("more than {limit} bytes came")));
        }
        Ok(Some(value))
    }

    pub(super) fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        #[derive(Deserialize)]
        struct Found {
            exists: bool,
        }
        let mut answer = self.repeated("look for", key, || self.agent.get(self.url("exists", key)).call())?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused("look for", key, answer, ""));
        }
        let text = small_body(&mut answer).map_err(|error| self.failed("look for", key, error))?;
        match serde_json::from_slice(&text) {
            Ok(Found { exists }) => Ok(exists),
            Err(error) => Err(self.protocol("look for", key, error.to_string())),
        }
    }

    /// Deletes the object, if there is one.
    pub(super) fn evict(&self, key: &Key) -> Result<(), ConnectorError> {
        let answer = self.repeated("evict", key, || self.agent.post(self.url("evict", key)).send_empty())?;
        self.done("evict", key, answer, "")
    }

    /// What the endpoint sent is not an answer to this request.
    pub(super) fn protocol(&self, action: &str, key: &Key, reason: String) -> ConnectorError {
        ConnectorError::Protocol { connector: self.connector.clone(), action: format!("{action} {key}"), reason }
    }

    fn url(&self, request: &str, key: &Key) -> String {
        format!("{}/{request}?key={key}&endpoint={}", self.address, self.id)
    }

    /// The answer; asked for a second time where the connection turned out dead. Every request here may be repeated.
    fn repeated(
        &self,
        action: &str,
        key: &Key,
        request: impl Fn() -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ConnectorError> {
        let attempt = || request().map_err(|error| self.failed(action, key, io_error(error)));
        match attempt() {
            Err(error) if error.is_disconnect() => attempt(),
            answer => answer,
        }
    }

    fn done(&self, action: &str, key: &Key, mut answer: Response<Body>, hint: &str) -> Result<(), ConnectorError> {
        if answer.status() != StatusCode::OK {
            return Err(self.refused(action, key, answer, hint));
        }
        small_body(&mut answer).map(drop).map_err(|error| self.failed(action, key, error))
    }

    fn refused(&self, action: &str, key: &Key, mut answer: Response<Body>, hint: &str) -> ConnectorError {
        let text = small_body(&mut answer).unwrap_or_default();
        let hint = if hint.is_empty() { "the endpoint's log.txt may tell why" } else { hint };
        self.protocol(action, key, format!("the endpoint answered {} ({hint})", shown(answer.status(), &text)))
    }

    fn failed(&self, action: &str, key: &Key, source: io::Error) -> ConnectorError {
        ConnectorError::Io { connector: self.connector.clone(), action: format!("{action} {key}"), source }
    }
}

/// Slices, read one after the other.
struct Parts<'a>(Vec<&'a [u8]>);

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for part in &mut self.0 {
            if !part.is_empty() {
                return part.read(buffer);
            }
        }
        Ok(0)
    }
}

fn io_error(error: ureq::Error) -> io::Error {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            io::Error::new(ErrorKind::TimedOut, format!("no answer for {CONNECT_TIMEOUT:?}"))
        }
        ureq::Error::Timeout(_) => io::Error::new(ErrorKind::TimedOut, format!("no progress for {STALL_TIMEOUT:?}")),
        other => other.into_io(),
    }
}

/// Reads to the end, or until there is more than `limit` bytes.
fn read(source: impl Read, limit: u64, reserved: u64) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    // One more, so that the end is seen without growing.
    let room = usize::try_from(reserved).unwrap_or_default() + 1;
    value.try_reserve_exact(room).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    source.take(limit.saturating_add(1)).read_to_end(&mut value)?;
    Ok(value)
}

/// An answer that is not a value.
fn small_body(answer: &mut Response<Body>) -> io::Result<Vec<u8>> {
    read(answer.body_mut().as_reader(), ANSWER_LIMIT, 0)
}

/// An answer as an error shows it, in one line.
fn shown(status: StatusCode, text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().take(SHOWN).collect();
    if text.is_empty() { status.to_string() } else { format!("{status}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_one() {
        let mut all = Vec::new();
        Parts(vec![b"BS\n", b"", b"abc"]).read_to_end(&mut all).unwrap();
        assert_eq!(all, b"BS\nabc");
    }

    #[test]
    fn no_more_than_one_byte_beyond_the_limit_is_read() {
        assert_eq!(read(io::repeat(7), 10, 10).unwrap().len(), 11);
    }

    #[test]
    fn an_answer_is_shown_in_one_short_line() {
        let text = shown(StatusCode::INTERNAL_SERVER_ERROR, format!("<html>\n  {}", "x".repeat(1000)).as_bytes());
        assert!(text.starts_with("500 Internal Server Error: <html> xxx") && text.len() < 250, "{text}");
    }
}
