//! Sessions that outlive their control server: a file for each, for this user alone, since it has the session's key.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ask::{self, Ask};
use super::directory::Directory;
use super::error::{ControlError, SessionError};
use super::report::texts;
use super::session::Session;
use crate::auth::Identity;
use crate::dataserver::DataServer;
use crate::forward::{SECRET_LEN, Target, Transport};

/// How a file's name begins while it is written.
const HALF: &str = ".session-";

/// The files.
#[derive(Debug)]
pub(crate) struct Kept {
    directory: PathBuf,
    keep: bool,
}

/// A session that forwards.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptSession {
    pub(crate) uid: Uuid,
    role: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    udp: bool,
    identity: String,
    rate: u64,
    key: Option<[u8; SECRET_LEN]>,
    preconnect: Option<usize>,
    stripes: Option<usize>,
    #[serde(default)]
    attended: Option<Duration>,
    /// When it was requested, since 1970.
    since: Duration,
    /// That are bound, one for each target.
    pub(crate) ports: Vec<u16>,
    pub(crate) listeners: Vec<String>,
    pub(crate) targets: Vec<String>,
}

impl KeptSession {
    pub(crate) fn of(session: &Session, ports: &[u16], targets: &[Target]) -> Self {
        let ask = &session.ask;
        Self {
            uid: ask.uid,
            role: ask.role.to_string(),
            kind: ask.server.kind().to_string(),
            udp: ask.transport == Transport::Udp,
            identity: session.owner.to_string(),
            rate: ask.rate,
            key: ask.key,
            preconnect: ask.preconnect,
            stripes: ask.stripes,
            attended: ask.attended,
            since: session.since.duration_since(UNIX_EPOCH).unwrap_or_default(),
            ports: ports.into(),
            listeners: texts(&session.listeners),
            targets: texts(targets),
        }
    }

    /// What was asked for, whose it is, and since when it is there.
    pub(crate) fn ask(&self, server: Arc<dyn DataServer>) -> Result<(Ask, Identity, SystemTime), SessionError> {
        let ask = Ask {
            uid: self.uid,
            role: self.role.parse()?,
            count: self.ports.len(),
            rate: self.rate,
            server,
            transport: if self.udp { Transport::Udp } else { Transport::Tcp },
            key: self.key,
            preconnect: self.preconnect,
            stripes: self.stripes,
            attended: self.attended,
        };
        if self.targets.len() != self.ports.len() || self.listeners.len() != self.ports.len() {
            return Err(ask::invalid("ports", "not as many as there are listeners and targets"));
        }
        Ok((ask, Identity::new(self.identity.clone()), UNIX_EPOCH + self.since))
    }
}

impl Kept {
    /// Those of a control server's directory. One that keeps no sessions forgets those that were kept there, and their keys.
    pub(crate) fn open(directory: &Directory, keep: bool) -> Result<Self, ControlError> {
        let path = directory.path().join("sessions");
        let wrong = |what, source| ControlError::Directory { path: path.clone(), what, source };
        if keep {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|error| wrong("can't make it", error))?;
        }
        let kept = Self { directory: path.clone(), keep };
        if !keep {
            kept.forget().map_err(|error| wrong("can't remove sessions that were kept", error))?;
        }
        Ok(kept)
    }

    /// Removes what is a session, or half of one that was being written, and nothing else.
    fn forget(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(HALF) || (name.ends_with(".json") && read(&path).is_ok()) {
                fs::remove_file(&path)?;
            }
        }
        match fs::remove_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                tracing::warn!("{} has files that are no sessions; they stay", self.directory.display());
                Ok(())
            }
            removed => removed,
        }
    }

    fn file(&self, uid: Uuid) -> PathBuf {
        self.directory.join(format!("{uid}.json"))
    }

    /// Writes one down, where sessions are kept. Where that fails it goes on, and does not outlive this process.
    pub(crate) fn write(&self, session: impl FnOnce() -> KeptSession) {
        if !self.keep {
            return;
        }
        let session = session();
        let write = || -> io::Result<()> {
            // For this user alone from its first moment on.
            let mut file = tempfile::Builder::new().prefix(HALF).tempfile_in(&self.directory)?;
            file.write_all(&serde_json::to_vec(&session)?)?;
            file.persist(self.file(session.uid))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::error!(uid = %session.uid, "can't keep the session in {}: {error}", self.directory.display());
        }
    }

    pub(crate) fn remove(&self, uid: Uuid) {
        if !self.keep {
            return;
        }
        let file = self.file(uid);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%uid, "can't remove {}: {error}", file.display());
            }
            _ => {}
        }
    }

    /// Those that were kept. What can't be read is no session, and stays where it is.
    pub(crate) fn read(&self) -> Vec<KeptSession> {
        if !self.keep {
            return Vec::new();
        }
        let files = match fs::read_dir(&self.directory) {
            Ok(files) => files,
            Err(error) => {
                tracing::error!("can't read sessions from {}: {error}", self.directory.display());
                return Vec::new();
            }
        };
        let mut sessions = Vec::new();
        for file in files.filter_map(Result::ok) {
            let path = file.path();
            if file.file_name().to_string_lossy().starts_with(HALF) {
                let _ = fs::remove_file(&path);
                continue;
            }
            match read(&path) {
                Ok(session) => sessions.push(session),
                Err(error) => tracing::warn!("{} is no session: {error}", path.display()),
            }
        }
        sessions.sort_by_key(|session| session.since);
        sessions
    }
}

fn read(path: &Path) -> io::Result<KeptSession> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
