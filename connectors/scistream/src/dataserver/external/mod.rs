//! `haproxy`, `stunnel` and `nginx`: programs that others wrote, a process for each session.
//!
//! They are here to be compared with, so they are configured as their authors mean them to be for bulk streams, and kept from what the
//! reference implementation suffers from: their output is always read, they are restarted when they die, and nothing of them outlives
//! its session or its control server, even one that is killed. HAProxy and nginx are handed their listeners, which stay this process's: no connection is refused while a program
//! starts, or between its death and its restart. stunnel can't be, and binds its own.
//!
//! What they can't do is refused when a session starts, not passed over: UDP, rates, stripes, connections ahead of time, and a congestion
//! control other than the system's. A target that is a name is looked up by HAProxy and nginx when the session starts, by stunnel at each
//! connection.

mod haproxy;
mod leftovers;
mod nginx;
mod parent;
mod process;
mod program;
mod stunnel;
mod supervisor;

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::leftovers::end_leftovers;
use self::program::{Program, Workspace};
use self::supervisor::Supervised;
use super::{DataServer, DataServerError, DataServerType};
use crate::forward::{Congestion, ForwardOptions, ForwardPlan, Forwarding, Transport};

/// A program as a data server.
#[derive(Clone)]
pub struct External {
    program: Arc<dyn Program>,
    /// Where each session has a directory.
    directory: PathBuf,
}

impl External {
    /// HAProxy, with its files in a directory.
    pub fn haproxy(directory: PathBuf) -> Self {
        Self { program: Arc::new(haproxy::Haproxy), directory }
    }

    /// stunnel, with its files in a directory.
    pub fn stunnel(directory: PathBuf) -> Self {
        Self { program: Arc::new(stunnel::Stunnel), directory }
    }

    /// nginx, with its files in a directory.
    pub fn nginx(directory: PathBuf) -> Self {
        Self { program: Arc::new(nginx::Nginx), directory }
    }

    async fn begin(&self, plan: ForwardPlan) -> Result<Box<dyn Forwarding>, DataServerError> {
        let kind = self.kind();
        let refused = match plan.rate {
            Some(_) => Some("can't keep a session to a rate; use copy".into()),
            None => self.refuses(&plan.options, plan.transport),
        };
        if let Some(problem) = refused {
            return Err(DataServerError::Unsupported { kind, problem });
        }
        let path = self.program.find().map_err(|problem| DataServerError::Unavailable { kind, problem })?;
        let failed = |what: String| move |source| DataServerError::Start { kind, what, source };
        // For their owner alone, and a session's gone with it.
        const MODE: u32 = 0o700;
        let prefix = leftovers::prefix(kind);
        let mut session = tempfile::Builder::new();
        session.prefix(&prefix).permissions(Permissions::from_mode(MODE));
        let directory = DirBuilder::new()
            .recursive(true)
            .mode(MODE)
            .create(&self.directory)
            .and_then(|()| session.tempdir_in(&self.directory))
            .map_err(failed(format!("can't make a directory in {}", self.directory.display())))?;
        let workspace = Workspace { path, directory };
        let prepared =
            self.program.prepare(plan, &workspace).await.map_err(failed("can't prepare its files".into()))?;
        let supervised = Supervised::start(kind, workspace, prepared).await;
        Ok(Box::new(supervised.map_err(failed("does not start".into()))?))
    }
}

/// What none of the programs can do.
fn refused(options: &ForwardOptions, transport: Transport) -> Option<&'static str> {
    if transport == Transport::Udp {
        Some("does not forward UDP; use copy")
    } else if options.stripes > 1 {
        Some("can't carry a stream over several connections; use copy")
    } else if options.preconnect > 0 {
        Some("can't connect ahead of time; use copy")
    } else if matches!(options.congestion, Congestion::Named(_)) {
        Some("uses the system's congestion control; set net.ipv4.tcp_congestion_control, or use copy")
    } else {
        None
    }
}

impl DataServer for External {
    fn kind(&self) -> DataServerType {
        self.program.kind()
    }

    fn check(&self) -> Result<(), DataServerError> {
        let unavailable = |problem| DataServerError::Unavailable { kind: self.kind(), problem };
        self.program.find().map(drop).map_err(unavailable)
    }

    fn enforces_rate(&self) -> bool {
        false
    }

    fn forwards_udp(&self) -> bool {
        false
    }

    fn refuses(&self, options: &ForwardOptions, transport: Transport) -> Option<String> {
        refused(options, transport).or_else(|| self.program.refuses(options)).map(Into::into)
    }

    fn start(&self, plan: ForwardPlan) -> BoxFuture<'_, Result<Box<dyn Forwarding>, DataServerError>> {
        Box::pin(self.begin(plan))
    }
}

/// What stands for "never" where a program has no word for it: the most that HAProxy can count is 24.8 days.
const NEVER: Duration = Duration::from_secs(24 * 24 * 3600);

/// A file for this user alone.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
