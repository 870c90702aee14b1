//! Which endpoint this host uses, and where it is.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use uuid::Uuid;

use super::{EndpointConnector, EndpointLocation};
use crate::{ConnectorError, KeySource};

/// The largest configuration file that is read, bytes.
const CONFIG_LIMIT: u64 = 1 << 20;

/// What is needed of an endpoint's `config.toml`.
#[derive(Debug, Deserialize)]
struct Endpoint {
    name: String,
    uuid: Uuid,
    /// Absent until the endpoint is started for the first time.
    host: Option<String>,
    port: u16,
}

/// ProxyStore's directory on this host: `$PROXYSTORE_HOME`, else `proxystore` in `$XDG_DATA_HOME` or `~/.local/share`; `None` where
/// not even the home directory is known.
pub fn directory() -> Option<PathBuf> {
    if let Some(home) = env::var_os("PROXYSTORE_HOME") {
        return Some(home.into());
    }
    let data = env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    Some(data.or_else(|| Some(env::home_dir()?.join(".local/share")))?.join("proxystore"))
}

/// The first of `endpoints` that is configured in ProxyStore's directory `dir` and answers: the home endpoint, as ProxyStore
/// calls it.
///
/// # Errors
///
/// [`ConnectorError::Unreachable`], with what to do, where none of them is configured and running.
pub fn home(endpoints: &[Uuid], dir: &Path) -> Result<EndpointLocation, ConnectorError> {
    let configured = configured(dir)?;
    let mut problems = Vec::new();
    for endpoint in endpoints.iter().filter_map(|id| configured.iter().find(|endpoint| endpoint.uuid == *id)) {
        let Some(host) = &endpoint.host else {
            problems
                .push(format!("{0} was never started: start it with `proxystore-endpoint start {0}`", endpoint.name));
            continue;
        };
        let location = EndpointLocation { host: host.clone(), port: endpoint.port, id: endpoint.uuid };
        match EndpointConnector::open(&location, KeySource::random()) {
            Ok(_) => return Ok(location),
            Err(error) => problems.push(format!(
                "{0} does not answer: start it with `proxystore-endpoint start {0}` ({error})",
                endpoint.name
            )),
        }
    }
    if problems.is_empty() {
        problems.push(not_configured(dir, &configured));
    }
    Err(unreachable(problems.join("; ")))
}

/// Where the endpoint `id` is, which is configured in ProxyStore's directory on this host. What was found once is not looked for again.
///
/// # Errors
///
/// Why it is not known, in words.
pub fn locate(id: Uuid) -> Result<EndpointLocation, String> {
    static FOUND: Mutex<BTreeMap<Uuid, EndpointLocation>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = found.get(&id) {
        return Ok(known.clone());
    }
    let dir = directory().ok_or("neither PROXYSTORE_HOME nor HOME is set")?;
    let configured = configured(&dir).map_err(|error| error.to_string())?;
    let Some(endpoint) = configured.iter().find(|endpoint| endpoint.uuid == id) else {
        return Err(format!("endpoint {id} is {}", not_configured(&dir, &configured)));
    };
    let host = endpoint.host.clone().ok_or_else(|| format!("endpoint {} was never started", endpoint.name))?;
    let location = EndpointLocation { host, port: endpoint.port, id };
    found.insert(id, location.clone());
    Ok(location)
}

fn not_configured(dir: &Path, configured: &[Endpoint]) -> String {
    let dir = dir.display();
    if configured.is_empty() {
        return format!("no endpoint is configured in {dir}: `proxystore-endpoint configure NAME` makes one");
    }
    let known: Vec<_> = configured.iter().map(|endpoint| format!("{} ({})", endpoint.uuid, endpoint.name)).collect();
    format!("not configured in {dir}; there are: {}", known.join(", "))
}

/// The endpoints whose configurations lie in the directories of `dir`, by name. One that can't be read is skipped, as ProxyStore
/// does.
fn configured(dir: &Path) -> Result<Vec<Endpoint>, ConnectorError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| ConnectorError::Io {
            connector: "endpoint".into(),
            action: format!("look for endpoints in {}", dir.display()),
            source,
        })?,
    };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path().join("config.toml")) {
        match read(&path) {
            Ok(Some(endpoint)) => found.push(endpoint),
            Ok(None) => {}
            Err(reason) => tracing::warn!("endpoint configuration {} is skipped: {reason}", path.display()),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// `None` where there is no such file.
fn read(path: &Path) -> Result<Option<Endpoint>, String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= CONFIG_LIMIT => {}
        Ok(_) => return Err("not a small file".into()),
        Err(_) => return Ok(None),
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    toml::from_str(&text).map(Some).map_err(|error| error.message().to_owned())
}

fn unreachable(reason: String) -> ConnectorError {
    ConnectorError::Unreachable { connector: "endpoint".into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x4b1d_0c6f_1f9a_4d3e_8a55_0242_ac12_0002);

    fn configure(dir: &Path, name: &str, host: &str) {
        let text = format!(
            "name = \"{name}\"\nuuid = \"{ID}\"\nport = 1\n{host}host_type = \"ip\"\n[relay]\npeer_channels = 1\n"
        );
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("config.toml"), text).unwrap();
    }

    fn refusal(dir: &Path) -> String {
        home(&[Uuid::nil(), ID], dir).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_configured_is_told_with_what_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refusal(&dir.path().join("missing")).contains("proxystore-endpoint configure"));
        fs::write(dir.path().join("a-file"), "").unwrap();
        fs::create_dir(dir.path().join("broken")).unwrap();
        fs::write(dir.path().join("broken/config.toml"), "name = 3").unwrap();
        configure(dir.path(), "mine", "");
        let error = home(&[Uuid::nil()], dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("there are: {ID} (mine)")), "{error}");
    }

    #[test]
    fn what_is_not_running_is_told_how_to_start() {
        let dir = tempfile::tempdir().unwrap();
        configure(dir.path(), "mine", "");
        assert!(refusal(dir.path()).contains("never started: start it with `proxystore-endpoint start mine`"));
        let dir = tempfile::tempdir().unwrap();
        configure(dir.path(), "mine", "host = \"127.0.0.1\"\n");
        let error = refusal(dir.path());
        assert!(error.contains("start mine") && error.contains("127.0.0.1:1"), "{error}");
    }
}
