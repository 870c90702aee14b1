//! What a control server answers instead, and why it does not start.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tonic::{Code, Status};
use uuid::Uuid;

use super::ports::PortsError;
use crate::VocabularyError;
use crate::auth::{AuthError, Identity};
use crate::dataserver::{DataServerError, DataServerType};

/// Why a control server does not start, or no longer serves.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A type that it was to offer does not work.
    #[error(transparent)]
    DataServer(#[from] DataServerError),
    /// Rates were to be enforced.
    #[error("data server {0} can't keep to a rate; choose another default --type, or leave --enforce-rate out")]
    Rate(DataServerType),
    /// No socket can have the congestion control.
    #[error("{0}")]
    Congestion(io::Error),
    /// The host that others are to be told of is none.
    #[error("can't advertise {0:?}: it is no address and no host's name")]
    Advertise(String),
    /// Its directory can't be used.
    #[error("the control server's directory {path}: {what}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Another control server has the directory.
    #[error("another control server uses {0}; end it, or give this one another directory")]
    Locked(PathBuf),
    /// The system has no thread, descriptor or memory left.
    #[error("the control server can't serve: {0}")]
    Serve(String),
}

/// Why a request to a control server fails. The words that the reference implementation has for it come first.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("entry not found for uid '{0}': it was not requested here, or has ended")]
    NotFound(Uuid),
    #[error("entry not found for uid '{uid}', whose request came to nothing: {problem}")]
    Refused { uid: Uuid, problem: String },
    #[error("entry not found for uid '{uid}' within {} s: nobody requested it", .waited.as_secs_f64())]
    NeverRequested { uid: Uuid, waited: Duration },
    #[error("entry not found for uid '{0}', and no more hellos can wait for their request; try again later")]
    TooManyHellos(Uuid),
    #[error("Entry already found for uid '{0}': release it, or ask with another UUID")]
    AlreadyExists(Uuid),
    #[error("Entry already found for uid '{0}': it is still ending; ask again in a moment, or with another UUID")]
    Ending(Uuid),
    #[error("Hello not received within the timeout period of {} s; the ports were given back", .0.as_secs_f64())]
    HelloTimeout(Duration),
    #[error("session '{0}' belongs to somebody else")]
    NotOwner(Uuid),
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error("type {kind} is not offered here; there {}", are(.offered))]
    NotOffered { kind: DataServerType, offered: Vec<DataServerType> },
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Ports(#[from] PortsError),
    #[error("{identity} may have {most} {what}, and would have {wanted}; release a session first")]
    Quota { identity: Identity, what: &'static str, most: u64, wanted: u64 },
    #[error("rate: 0 kb/s is as much as there is, and {identity} may have {most} kb/s in all; ask for a rate (--rate)")]
    NoRate { identity: Identity, most: u64 },
    #[error("this control server has {0} sessions, which is all it takes on; try again later")]
    Full(usize),
    #[error("session '{0}' has not been greeted; send hello first")]
    NotGreeted(Uuid),
    #[error("session '{0}' forwards already; release it, and request a new one for other targets")]
    Forwards(Uuid),
    #[error("session '{0}' is being started or ended")]
    Busy(Uuid),
    #[error("session '{0}' was ended meanwhile: {1}")]
    Ended(Uuid, Why),
    #[error("{}; the session was ended", causes(.0))]
    Start(#[source] DataServerError),
    #[error("data server {kind} did not start within {} s; the session was ended", .limit.as_secs_f64())]
    StartTimeout { kind: DataServerType, limit: Duration },
    #[error(
        "this control server listens at any address and does not know by which others reach it; start it with --advertise"
    )]
    NoAddress,
    #[error("this control server is being ended")]
    Closing,
}

fn are(types: &[DataServerType]) -> String {
    let names: Vec<_> = types.iter().map(|kind| kind.as_str()).collect();
    format!("{} {}", if names.len() == 1 { "is" } else { "are" }, names.join(", "))
}

/// An error and what caused it, in a line: whoever asked sees no more.
pub fn causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some tell their cause themselves.
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Why {
    #[error("it was released")]
    Released,
    #[error("nobody said hello")]
    NoHello,
    #[error("its client went away")]
    Disconnected,
    #[error("its targets did not come")]
    NoTargets,
    #[error("its data server did not start")]
    NotStarted,
    #[error("it lasted as long as it may")]
    Lease,
    #[error("nothing went through it for as long as that may be")]
    Idle,
    #[error("its client has not asked about it for as long as it said")]
    Unattended,
    #[error("the control server ends")]
    Shutdown,
}

impl From<VocabularyError> for SessionError {
    fn from(error: VocabularyError) -> Self {
        let field = match error {
            VocabularyError::Role(_) => "role",
            VocabularyError::Listener(_) => "listeners",
            VocabularyError::Target(_) => "remote_listeners",
        };
        Self::Invalid { field, problem: error.to_string() }
    }
}

impl From<SessionError> for Status {
    fn from(error: SessionError) -> Self {
        use SessionError as E;
        let code = match &error {
            E::Auth(AuthError::Unauthenticated(_)) => Code::Unauthenticated,
            E::Auth(AuthError::Unavailable(_)) | E::Closing | E::Ended(_, Why::Shutdown) => Code::Unavailable,
            E::Auth(AuthError::Denied(_)) | E::NotOwner(_) => Code::PermissionDenied,
            E::NotFound(_) | E::Refused { .. } => Code::NotFound,
            E::AlreadyExists(_) | E::Ending(_) => Code::AlreadyExists,
            E::NeverRequested { .. } | E::HelloTimeout(_) => Code::DeadlineExceeded,
            E::Invalid { .. } | E::NoRate { .. } => Code::InvalidArgument,
            E::TooManyHellos(_)
            | E::Quota { .. }
            | E::Full(_)
            | E::Ports(PortsError::Short { .. } | PortsError::NoDescriptors { .. }) => Code::ResourceExhausted,
            E::NotOffered { .. }
            | E::Unsupported(_)
            | E::NotGreeted(_)
            | E::Forwards(_)
            | E::Busy(_)
            | E::NoAddress
            | E::Start(DataServerError::Unavailable { .. } | DataServerError::Unsupported { .. }) => {
                Code::FailedPrecondition
            }
            E::Ended(..) => Code::Aborted,
            E::Ports(PortsError::Bind { .. }) | E::Start(_) | E::StartTimeout { .. } => Code::Internal,
        };
        Self::new(code, causes(&error))
    }
}
