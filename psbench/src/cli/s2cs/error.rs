//! Why a control server does not serve.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use scistream::auth::{GlobusError, TokensError};
use scistream::control::{ControlError, causes};
use scistream::tls::TlsError;
use tracing::dispatcher::SetGlobalDefaultError;

use crate::cli::Ending;
use crate::options::OptionError;

/// Why a control server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum S2csError {
    /// Options that don't fit.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There is no certificate to show.
    #[error(
        "no certificate: {} is not there; `psbench s2cs init` makes one, --server-crt and --server-key name others, and --insecure \
         serves this host alone without",
        path.display()
    )]
    NoCertificate {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// A certificate or a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tokens that are let in.
    #[error("--tokens: {0}")]
    Tokens(#[from] TokensError),
    /// Globus Auth.
    #[error(transparent)]
    Globus(#[from] GlobusError),
    /// An address can't be listened at.
    #[error("cannot listen at {address}: {source}; {option} names another")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The option that said so.
        option: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The control server itself.
    #[error("{}", causes(.0))]
    Control(#[from] ControlError),
    /// The system has no thread, descriptor or directory left.
    #[error("cannot serve: {0}")]
    System(io::Error),
    /// Something logs already.
    #[error("cannot start logging: {0}")]
    Logging(#[from] SetGlobalDefaultError),
    /// Standard output can't be written.
    #[error("cannot print: {0}")]
    Print(io::Error),
}

impl S2csError {
    /// How psbench ends for it.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Option(_)
            | Self::NoCertificate { .. }
            | Self::Tls(_)
            | Self::Tokens(_)
            | Self::Globus(_)
            | Self::Listen { .. }
            | Self::Logging(_) => Ending::BadInput,
            Self::Control(ControlError::Serve(_)) | Self::System(_) | Self::Print(_) => Ending::TrialFailed,
            Self::Control(_) => Ending::BadInput,
        }
    }
}
