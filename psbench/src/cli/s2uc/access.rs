//! How to reach a control server, and by which right.

use std::env;
use std::path::{Path, PathBuf};

use scistream::client::{ClientError, GatewayAccess, Way};

use super::S2ucError;
use crate::options::{AccessOptions, Named, OptionError, TOKEN, Trusted, read_secret};
use crate::units::Seconds;

/// Where the usual user client looks for the server's certificate.
const USUAL_CERTIFICATE: &str = "server.crt";

/// How to reach one control server.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Access {
    /// The control server: HOST:PORT
    #[arg(long, value_name = "ADDR", default_value = "localhost:5000", help_heading = "Control server")]
    pub(super) s2cs: String,

    #[command(flatten)]
    pub(super) trust: Trust,
}

/// Whom to trust, and as whom to come.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Control server")]
pub(in crate::cli) struct Trust {
    /// The control server's certificate, or that of the authority that signed it [default: server.crt]
    #[arg(long, value_name = "FILE")]
    server_cert: Option<PathBuf>,

    /// Trust the authorities that this system trusts
    #[arg(long, conflicts_with = "server_cert")]
    system_roots: bool,

    /// Ask without TLS: whoever is on the way can read tokens and sessions' keys
    #[arg(long, conflicts_with_all = ["server_cert", "system_roots", "client_cert"])]
    insecure: bool,

    /// This client's certificate, for control servers that want one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,

    /// The key of --client-cert
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,

    /// The token to show. Everybody on this host can see it: a file or the environment's PSBENCH_S2CS_TOKEN keep it
    #[arg(long, alias = "access-token", value_name = "TOKEN")]
    token: Option<String>,

    /// A file with the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,

    /// Of Globus Auth, which psbench does not log in at: it takes the token as it is
    #[arg(long, value_name = "SCOPE", hide = true, default_value = "")]
    scope: String,

    /// How long connecting, and each answer, may take
    #[arg(long, value_name = "SECONDS", default_value = "5s")]
    timeout: Seconds,
}

/// One of perhaps two control servers, with what is its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Side<'a> {
    pub(in crate::cli) s2cs: Named<&'a str>,
    pub(in crate::cli) certificate: Option<&'a Path>,
    pub(in crate::cli) token_file: Named<Option<&'a Path>>,
}

impl Access {
    pub(super) fn way(&self) -> Result<Way, S2ucError> {
        let access = self.trust.access(&Side {
            s2cs: Named { option: "--s2cs", value: &self.s2cs },
            certificate: None,
            token_file: Named { option: "--token-file", value: None },
        })?;
        Ok(access.way().map_err(ClientError::Tls)?)
    }
}

impl Trust {
    /// To one of perhaps two control servers.
    pub(in crate::cli) fn access(&self, side: &Side<'_>) -> Result<GatewayAccess, OptionError> {
        let token = self.token(side.token_file)?;
        if !self.scope.is_empty() && token.is_none() {
            let problem = "psbench does not log in at Globus Auth; give it the token for that scope, by --token-file";
            return Err(OptionError::invalid("--scope", &self.scope, problem));
        }
        AccessOptions {
            s2cs: side.s2cs,
            trusted: self.trusted(side)?,
            client: self.client_cert.as_deref().zip(self.client_key.as_deref()),
            token,
            time_limit: self.timeout.duration(),
        }
        .access()
    }

    /// The token that is shown to every control server.
    pub(super) fn shown(&self) -> Result<Option<String>, OptionError> {
        self.token(Named { option: "--token-file", value: None })
    }

    /// That of Globus Auth; empty where nobody named one.
    pub(super) fn scope(&self) -> &str {
        &self.scope
    }

    fn trusted<'a>(&'a self, side: &Side<'a>) -> Result<Trusted<'a>, OptionError> {
        if self.insecure {
            return Ok(Trusted::Anybody("--insecure"));
        }
        if self.system_roots && side.certificate.is_none() {
            return Ok(Trusted::SystemRoots);
        }
        let certificate = side.certificate.or(self.server_cert.as_deref());
        if certificate.is_none() && !Path::new(USUAL_CERTIFICATE).exists() {
            let problem =
                "is not here; name the control server's certificate, or --system-roots if an authority signed it";
            return Err(OptionError::invalid("--server-cert", &USUAL_CERTIFICATE, problem));
        }
        Ok(Trusted::Pinned(certificate.unwrap_or(Path::new(USUAL_CERTIFICATE))))
    }

    fn token(&self, own_file: Named<Option<&Path>>) -> Result<Option<String>, OptionError> {
        match (own_file, &self.token, &self.token_file) {
            (Named { option, value: Some(file) }, ..) => read_secret(option, file).map(Some),
            (_, Some(token), _) => Ok(Some(token.clone())),
            (_, None, Some(file)) => read_secret("--token-file", file).map(Some),
            (_, None, None) => Ok(env::var(TOKEN).ok()),
        }
    }
}
