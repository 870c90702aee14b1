//! Who a control server is, and whom it lets in.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use scistream::auth::{Anonymous, Authenticator, GLOBUS_AUTH, Globus, GlobusSettings, Tokens};
use scistream::tls::ServerTls;

use super::S2csError;
use crate::cli::gateway::yes_or_no;
use crate::options::OptionError;
use crate::options::read_secret;
use crate::units::Seconds;

const HEADING: &str = "Who it is, and whom it lets in";

/// The environment's secret of --globus-client-id.
const GLOBUS_SECRET: &str = "PSBENCH_GLOBUS_CLIENT_SECRET";

/// Who a control server is, and whom it lets in.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct IdentityOptions {
    /// The certificate that it shows, with those that lead to an authority's behind it; psbench s2cs init makes one
    #[arg(long, value_name = "FILE", default_value = "server.crt")]
    server_crt: PathBuf,

    /// The certificate's key
    #[arg(long, value_name = "FILE", default_value = "server.key")]
    server_key: PathBuf,

    /// Use TLS, as it does anyway; False is --insecure
    #[arg(long, num_args = 0..=1, default_missing_value = "True", value_parser = yes_or_no, hide = true)]
    ssl: Option<bool>,

    /// Serve this host alone, without TLS: whoever is on it can read tokens and sessions' keys
    #[arg(long)]
    insecure: bool,

    /// Let in only clients that show a certificate of this file, or one that an authority of it signed
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    client_ca: Option<PathBuf>,

    /// Let in only clients with a token of this file: `TOKEN` or `NAME TOKEN` in each line. It is read anew when it changes
    #[arg(long, value_name = "FILE", conflicts_with = "globus_client_id")]
    tokens: Option<PathBuf>,

    /// Let in only clients with a token of Globus Auth for this client's scistream scope. Its secret is the environment's
    /// PSBENCH_GLOBUS_CLIENT_SECRET, or in --globus-client-secret-file
    #[arg(long, alias = "client-id", value_name = "ID")]
    globus_client_id: Option<String>,

    /// A file with the secret of --globus-client-id
    #[arg(long, value_name = "FILE", requires = "globus_client_id")]
    globus_client_secret_file: Option<PathBuf>,

    /// The secret itself. Everybody on this host can see it
    #[arg(
        long,
        value_name = "SECRET",
        requires = "globus_client_id",
        conflicts_with = "globus_client_secret_file",
        hide = true
    )]
    client_secret: Option<String>,

    /// Where Globus Auth is
    #[arg(long, value_name = "URL", default_value = GLOBUS_AUTH, requires = "globus_client_id")]
    globus_address: String,

    /// The certificates that Globus Auth is known by [default: the system's authorities]
    #[arg(long, value_name = "FILE", requires = "globus_client_id")]
    globus_cert: Option<PathBuf>,

    /// How long Globus Auth may take to answer
    #[arg(long, value_name = "SECONDS", default_value = "5s", requires = "globus_client_id")]
    globus_timeout: Seconds,
}

impl IdentityOptions {
    /// The option by which it goes without TLS.
    pub(super) fn insecure(&self) -> Option<&'static str> {
        match (self.insecure, self.ssl) {
            (true, _) => Some("--insecure"),
            (false, Some(false)) => Some("--ssl=False"),
            (false, _) => None,
        }
    }

    /// `None`: without TLS.
    pub(super) fn tls(&self) -> Result<Option<ServerTls>, S2csError> {
        if self.insecure().is_some() {
            if let Some(path) = &self.client_ca {
                let problem = "without TLS clients show no certificate; leave --ssl=False out";
                return Err(OptionError::invalid("--client-ca", &path.display(), problem).into());
            }
            return Ok(None);
        }
        if !self.server_crt.exists() {
            return Err(S2csError::NoCertificate { path: self.server_crt.clone() });
        }
        Ok(Some(ServerTls::load(&self.server_crt, &self.server_key, self.client_ca.as_deref())?))
    }

    pub(super) fn authenticator(&self) -> Result<Arc<dyn Authenticator>, S2csError> {
        if let Some(tokens) = &self.tokens {
            return Ok(Arc::new(Tokens::load(tokens)?));
        }
        let Some(client_id) = &self.globus_client_id else { return Ok(Arc::new(Anonymous)) };
        let named = self.client_secret.as_ref().filter(|secret| !secret.is_empty());
        let client_secret = match (named, &self.globus_client_secret_file) {
            (Some(secret), _) => {
                tracing::warn!(
                    "--client-secret: everybody on this host can see it; {GLOBUS_SECRET} in the environment or \
                     --globus-client-secret-file keep it"
                );
                secret.clone()
            }
            (None, Some(file)) => read_secret("--globus-client-secret-file", file)?,
            (None, None) => {
                env::var(GLOBUS_SECRET).ok().filter(|secret| !secret.is_empty()).ok_or(OptionError::Missing {
                    option: "PSBENCH_GLOBUS_CLIENT_SECRET in the environment, or --globus-client-secret-file",
                    needed_by: "--globus-client-id",
                })?
            }
        };
        Ok(Arc::new(Globus::new(GlobusSettings {
            address: self.globus_address.clone(),
            client_id: client_id.clone(),
            client_secret,
            time_limit: self.globus_timeout.duration(),
            trusted: self.globus_cert.clone(),
        })?))
    }

    /// Whether whoever reaches it is let in.
    pub(super) fn lets_everybody_in(&self) -> bool {
        self.tokens.is_none() && self.globus_client_id.is_none() && self.client_ca.is_none()
    }
}
