//! Why a user client gets nothing.

use std::io;

use scistream::client::ClientError;
use scistream::tls::{ClientTls, TlsError};

use crate::cli::Ending;
use crate::options::OptionError;

/// Why a user client gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum S2ucError {
    /// Options that don't fit.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A certificate or a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A control server refuses, or is not there.
    #[error("{0}")]
    Refused(String),
    /// What is asked for can't be.
    #[error(transparent)]
    BadInput(ClientError),
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
            Self::Option(_) | Self::Tls(_) | Self::BadInput(_) => Ending::BadInput,
            Self::Refused(_) | Self::System(_) | Self::Print(_) => Ending::TrialFailed,
        }
    }

    /// What a client says, in the words of who knows its certificates.
    pub(super) fn of(error: ClientError, tls: Option<&ClientTls>) -> Self {
        match &error {
            ClientError::Address(_) | ClientError::Token | ClientError::OneServer(_) => Self::BadInput(error),
            ClientError::Connect { address, source } => match tls.and_then(|tls| tls.explain(source)) {
                Some(why) => Self::Refused(format!("can't connect to the control server at {address}: {why}")),
                None => Self::Refused(error.to_string()),
            },
            // With TLS 1.3 a server looks at the client's certificate when the client has begun to ask, and what it says of it may be lost.
            ClientError::Refused { address, message, .. } if tls.is_some() && broke_off(message) => {
                Self::Refused(format!(
                    "the control server at {address} ended the connection ({message}); perhaps it wants a certificate that it knows: \
                 --client-cert and --client-key"
                ))
            }
            // Only what is asked first fails at that: without TLS there is nothing to say before.
            ClientError::Refused { message, .. } if tls.is_none() && broke_off(message) => {
                Self::Refused(format!("{error}: perhaps it wants TLS; leave --insecure out"))
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Whether that is said here, of a connection, and not by a control server.
fn broke_off(message: &str) -> bool {
    ["CertificateRequired", "operation was canceled", "transport error", "connection error", "broken pipe"]
        .iter()
        .any(|words| message.contains(words))
}
