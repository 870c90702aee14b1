//! Why a user client gets nothing.

use std::io;

use scistream::client::ClientError;

use crate::cli::Ending;
use crate::options::OptionError;

/// Why a user client gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum S2ucError {
    /// Options that don't fit.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There is no token to go on with.
    #[error(
        "psbench does not log in at Globus Auth: get a token for https://auth.globus.org/scopes/{scope}/scistream there, and give it by \
         {tokens}"
    )]
    NoLogin {
        /// The scope, as Globus Auth has it.
        scope: String,
        /// The ways that a token goes.
        tokens: &'static str,
    },
    /// A control server refuses, or is not there.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The system has no thread or descriptor left.
    #[error("cannot ask: {0}")]
    System(io::Error),
    /// Standard output can't be written.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl S2ucError {
    /// How psbench ends for it.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Option(_)
            | Self::NoLogin { .. }
            | Self::Client(
                ClientError::Address(_) | ClientError::Token | ClientError::OneServer(_) | ClientError::Tls(_),
            ) => Ending::BadInput,
            Self::Client(_) | Self::System(_) | Self::Print(_) => Ending::TrialFailed,
        }
    }
}
