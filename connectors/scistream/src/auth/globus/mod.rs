//! Tokens of Globus Auth.

#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use reqwest::{Client, Response, StatusCode, Url, redirect};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{AuthError, Authenticator, Identity, bare};
#[cfg(test)]
use crate::tls::ServerTls;
use crate::tls::{ClientTls, TlsError};

/// Where Globus Auth is.
pub const GLOBUS_AUTH: &str = "https://auth.globus.org";

/// Of an answer, in bytes; real ones have a few hundred.
const LARGEST: usize = 64 << 10;
/// Questions at once.
const AT_ONCE: usize = 16;
/// For so long a token that was active is taken to be so still.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Tokens that are remembered.
const MEMORY: usize = 1024;

/// How a control server asks Globus Auth whose token it was shown.
#[derive(Clone)]
pub struct GlobusSettings {
    /// Where: `https://host[:port]`. [`GLOBUS_AUTH`], but for trials.
    pub address: String,
    /// The client of Globus Auth that this control server is; tokens have to be for its `scistream` scope.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// After how long an answer is no longer waited for.
    pub time_limit: Duration,
    /// Certificates that are trusted in place of the system's authorities.
    pub trusted: Option<PathBuf>,
}

impl fmt::Debug for GlobusSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobusSettings")
            .field("address", &self.address)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Why Globus Auth can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum GlobusError {
    /// Not where it could be.
    #[error(
        "not an address of Globus Auth: {address:?}; expected https://host (http:// on this host alone: what is sent is secret)"
    )]
    Address {
        /// What was given.
        address: String,
    },
    /// There is nothing to be known by.
    #[error("Globus Auth wants to know who asks: {0} is empty")]
    Credentials(&'static str),
    /// Nobody's certificates are trusted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client can't be set up.
    #[error("cannot set up the client of Globus Auth: {0}")]
    Setup(#[from] reqwest::Error),
}

/// Asks Globus Auth whose a token is (introspection, RFC 7662). Identities are the `sub` of its answers.
#[derive(Debug)]
pub struct Globus {
    settings: GlobusSettings,
    client: Client,
    url: Url,
    scope: String,
    room: Semaphore,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    identity: Identity,
    until: Instant,
}

/// An answer, as far as it matters.
#[derive(Debug, Deserialize)]
struct Introspection {
    active: bool,
    sub: Option<String>,
    scope: Option<String>,
    /// In seconds since 1970.
    exp: Option<u64>,
}

impl Globus {
    /// Asks as these settings say. Nothing is sent yet.
    ///
    /// # Errors
    /// They can't be right.
    pub fn new(settings: GlobusSettings) -> Result<Self, GlobusError> {
        for (name, value) in [("the client's id", &settings.client_id), ("its secret", &settings.client_secret)] {
            if value.trim().is_empty() {
                return Err(GlobusError::Credentials(name));
            }
        }
        let url = introspection(&settings.address)
            .ok_or_else(|| GlobusError::Address { address: settings.address.clone() })?;
        let tls = match &settings.trusted {
            Some(file) => ClientTls::pinned(file, None)?,
            None => ClientTls::system_roots(None)?,
        };
        let mut tls = (*tls.config()).clone();
        tls.alpn_protocols.clear();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            // Tokens and the secret are for this address alone.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("psbench/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let scope = format!("https://auth.globus.org/scopes/{}/scistream", settings.client_id);
        Ok(Self { settings, client, url, scope, room: Semaphore::new(AT_ONCE), remembered: Mutex::default() })
    }

    async fn identify(&self, token: &str) -> Result<Identity, AuthError> {
        let mut code = [0; 32];
        code.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(identity) = self.recall(&code) {
            return Ok(identity);
        }
        let limit = self.settings.time_limit;
        let answer = timeout(limit, self.introspect(token))
            .await
            .map_err(|_| self.unavailable(&format!("did not answer within {} s", limit.as_secs_f64())))??;
        let (identity, left) = self.judge(answer)?;
        self.remember(code, identity.clone(), left);
        Ok(identity)
    }

    async fn introspect(&self, token: &str) -> Result<Introspection, AuthError> {
        // Never closed, and waiting counts towards the limit.
        let _room = self.room.acquire().await.map_err(|error| self.unavailable(&error.to_string()))?;
        let answer = self
            .client
            .post(self.url.clone())
            .basic_auth(&self.settings.client_id, Some(&self.settings.client_secret))
            .form(&[("token", token)])
            .send()
            .await
            .map_err(|error| self.unavailable(&format!("can't be asked: {}", cause(&error.without_url()))))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                tracing::error!("Globus Auth does not accept this server's client id and secret");
                return Err(self.unavailable("does not accept this control server's own id and secret"));
            }
            status => return Err(self.unavailable(&format!("answered {status}"))),
        }
        let body = self.read(answer).await?;
        serde_json::from_slice(&body).map_err(|error| self.unavailable(&format!("answered something else: {error}")))
    }

    async fn read(&self, mut answer: Response) -> Result<Vec<u8>, AuthError> {
        let mut body = Vec::new();
        let failed = |error: reqwest::Error| self.unavailable(&format!("broke off: {}", cause(&error.without_url())));
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(self.unavailable("answered more than there is to say"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Whose the token is, and for how long yet.
    fn judge(&self, answer: Introspection) -> Result<(Identity, Duration), AuthError> {
        let refused = |why: &str| Err(AuthError::Unauthenticated(format!("Globus Auth says that the token {why}")));
        if !answer.active {
            return refused("is not active: get a new one");
        }
        let scopes = answer.scope.unwrap_or_default();
        if !scopes.split_whitespace().any(|scope| scope == self.scope) {
            return refused(&format!("is not for the scope {}", self.scope));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = answer.exp.map_or(Duration::MAX, |end| Duration::from_secs(end).saturating_sub(now));
        if left.is_zero() {
            return refused("has expired: get a new one");
        }
        match answer.sub.filter(|sub| !sub.is_empty()) {
            Some(sub) => Ok((Identity::new(sub), left)),
            None => Err(self.unavailable("did not say whose the token is")),
        }
    }

    fn recall(&self, code: &[u8; 32]) -> Option<Identity> {
        let remembered = self.remembered();
        let found = remembered.get(code).filter(|found| Instant::now() < found.until)?;
        Some(found.identity.clone())
    }

    fn remember(&self, code: [u8; 32], identity: Identity, left: Duration) {
        let now = Instant::now();
        let mut remembered = self.remembered();
        if remembered.len() >= MEMORY {
            remembered.retain(|_, token| now < token.until);
        }
        // Where they are all that new, this one is asked for again the next time.
        if remembered.len() < MEMORY {
            remembered.insert(code, Remembered { identity, until: now + left.min(REMEMBERED) });
        }
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<[u8; 32], Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, problem: &str) -> AuthError {
        tracing::warn!("Globus Auth at {} {problem}", self.settings.address);
        AuthError::Unavailable(format!("Globus Auth at {} {problem}; try again later", self.settings.address))
    }
}

impl Authenticator for Globus {
    fn authenticate<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(async move { self.identify(bare(token)?).await })
    }
}

/// Where tokens are introspected. Without TLS only on this host.
fn introspection(address: &str) -> Option<Url> {
    let base = Url::parse(address).ok()?;
    let host = base.host_str()?;
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if base.scheme() != "https" && !(base.scheme() == "http" && here) {
        return None;
    }
    base.join("/v2/oauth2/token/introspect").ok()
}

/// The innermost says most.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}
