//! Who asks a control server for something.

mod globus;
mod only;
mod tokens;

use std::fmt;

use futures_util::future::BoxFuture;

pub use self::globus::{GLOBUS_AUTH, Globus, GlobusError, GlobusSettings};
pub use self::only::OnlyToken;
pub use self::tokens::{Tokens, TokensError};

/// Finds out who asks. A control server calls it at each request, from many tasks at once.
pub trait Authenticator: Send + Sync + 'static {
    /// Whose token this is: the raw value of the request's `authorization` metadata; `None`: there was none. Bounds its own time.
    ///
    /// # Errors
    /// The token is nobody's, whoever would know does not answer, or its owner may not.
    fn authenticate<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>>;

    /// Whether all are one identity to it. Then a client's certificate, where it had to prove one, tells them apart.
    fn knows_nobody(&self) -> bool {
        false
    }
}

/// Who asks. Sessions belong to an identity, and quotas apply to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(String);

impl Identity {
    /// Of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a request is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token, or one that is nobody's: gRPC's `UNAUTHENTICATED`.
    #[error("{0}")]
    Unauthenticated(String),
    /// Whoever would know does not answer: gRPC's `UNAVAILABLE`.
    #[error("{0}")]
    Unavailable(String),
    /// Its owner is known and may not: gRPC's `PERMISSION_DENIED`.
    #[error("{0}")]
    Denied(String),
}

/// Lets everybody in, as one identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Authenticator for Anonymous {
    fn authenticate<'a>(&'a self, _token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(std::future::ready(Ok(Identity::new("anonymous"))))
    }

    fn knows_nobody(&self) -> bool {
        true
    }
}

/// A token as it is: some clients put `Bearer` in front.
fn bare(token: Option<&str>) -> Result<&str, AuthError> {
    let mut words = token.unwrap_or_default().split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("Bearer"), Some(token), None) => Ok(token),
        (Some(token), None, None) if token != "Bearer" => Ok(token),
        (Some(_), Some(_), _) => Err(AuthError::Unauthenticated("a token is one word".into())),
        _ => Err(AuthError::Unauthenticated("this control server wants a token".into())),
    }
}
