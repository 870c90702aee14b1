//! What the programs differ in.

use std::env;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use tempfile::TempDir;

use crate::dataserver::DataServerType;
use crate::forward::{ForwardOptions, ForwardPlan, ReservedPort};

/// A program that can forward connections.
pub(super) trait Program: Send + Sync {
    /// As which type.
    fn kind(&self) -> DataServerType;

    /// Where it is, if all that it needs is there; otherwise what is missing, and how to get it.
    fn find(&self) -> Result<PathBuf, String>;

    /// What of these options it can't do, beyond what none of them can.
    fn refuses(&self, _options: &ForwardOptions) -> Option<&'static str> {
        None
    }

    /// Writes its configuration.
    fn prepare<'a>(&'a self, plan: ForwardPlan, workspace: &'a Workspace) -> BoxFuture<'a, io::Result<Prepared>>;
}

/// What a session's process runs on.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The program.
    pub(super) path: PathBuf,
    /// Its working directory, which holds all of its files, and none of anything else.
    pub(super) directory: TempDir,
}

/// How to run it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) arguments: Vec<String>,
    /// Added to its environment, which is otherwise empty.
    pub(super) environment: Vec<(&'static str, String)>,
    /// Handed to it, from [`FIRST_FD`] on.
    pub(super) listeners: Vec<OwnedFd>,
    /// Keep others away from ports that it binds by itself.
    pub(super) held: Vec<UdpSocket>,
    pub(super) ready: Ready,
    /// In its directory, the socket where HAProxy tells its counters.
    pub(super) counters: Option<&'static str>,
}

/// How it tells that it accepts connections.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    /// It prints this.
    Says(&'static str),
    /// The socket for its counters answers.
    Answers,
}

/// What comes after standard input, output and error. All lower ones than a process's first sockets: what is handed on under a number
/// must not hit what the standard library uses while it starts a process.
pub(super) const FIRST_FD: i32 = 3;

/// Lets a plan's ports accept.
pub(super) fn listeners(ports: Vec<ReservedPort>) -> io::Result<Vec<OwnedFd>> {
    ports.into_iter().map(|port| port.listen().map(|listener: TcpListener| listener.into())).collect()
}

/// Looks a program up where programs are, and where those for administrators are.
pub(super) fn find(names: &[&str], package: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places =
        env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin"].map(PathBuf::from));
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let missing = || format!("there is no {}; get it by: {}", names[0], how_to_get(package));
    places
        .filter(|place| place.is_absolute())
        .flat_map(|place| names.iter().map(move |name| place.join(name)))
        .find(is_program)
        .ok_or_else(missing)
}

/// The command for it.
pub(super) fn how_to_get(package: &str) -> String {
    format!("apt-get install {package}")
}

/// The first of these files that is there.
pub(super) fn first_of(places: &[&str]) -> Option<PathBuf> {
    places.iter().map(Path::new).find(|place| place.is_file()).map(Path::to_path_buf)
}
