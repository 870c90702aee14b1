//! How to reach a control server, and by which right.

use std::env;
use std::path::{Path, PathBuf};

use scistream::UserClient;
use scistream::client::{ClientError, ClientOptions};
use scistream::dataserver::Target;
use scistream::tls::ClientTls;

use super::S2ucError;
use crate::cli::gateway::read_secret;
use crate::options::OptionError;
use crate::units::Seconds;

/// The environment's token.
const TOKEN: &str = "PSBENCH_S2CS_TOKEN";
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
pub(super) struct Trust {
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

/// What an option says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<T> {
    pub(super) option: &'static str,
    pub(super) value: T,
}

/// One of perhaps two control servers, with what is its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<'a> {
    pub(super) s2cs: Named<&'a str>,
    pub(super) certificate: Option<&'a Path>,
    pub(super) token_file: Named<Option<&'a Path>>,
}

/// A way to a control server.
#[derive(Clone, Debug)]
pub(super) struct Way {
    address: String,
    options: ClientOptions,
    tls: Option<ClientTls>,
}

impl Access {
    pub(super) fn way(&self) -> Result<Way, S2ucError> {
        self.trust.way(&Side {
            s2cs: Named { option: "--s2cs", value: &self.s2cs },
            certificate: None,
            token_file: Named { option: "--token-file", value: None },
        })
    }
}

impl Trust {
    /// To one of perhaps two control servers.
    pub(super) fn way(&self, side: &Side<'_>) -> Result<Way, S2ucError> {
        let Named { option, value: address } = side.s2cs;
        let target: Target = address.parse().map_err(|_| S2ucError::BadInput(ClientError::Address(address.into())))?;
        let token = self.token(side)?;
        if self.insecure && token.is_some() && !is_this_host(&target) {
            let problem = "a token is not sent there without TLS; leave --insecure out";
            return Err(OptionError::invalid(option, &address, problem).into());
        }
        if !self.scope.is_empty() && token.is_none() {
            let problem = "psbench does not log in at Globus Auth; give it the token for that scope, by --token-file";
            return Err(OptionError::invalid("--scope", &self.scope, problem).into());
        }
        let tls = self.tls(side)?;
        let options =
            ClientOptions { tls: tls.as_ref().map(ClientTls::config), token, time_limit: self.timeout.duration() };
        Ok(Way { address: address.into(), options, tls })
    }

    fn tls(&self, side: &Side<'_>) -> Result<Option<ClientTls>, S2ucError> {
        if self.insecure {
            return Ok(None);
        }
        let client = self.client_cert.as_deref().zip(self.client_key.as_deref());
        if self.system_roots && side.certificate.is_none() {
            return Ok(Some(ClientTls::system_roots(client)?));
        }
        let certificate = side.certificate.or(self.server_cert.as_deref());
        if certificate.is_none() && !Path::new(USUAL_CERTIFICATE).exists() {
            let problem =
                "is not here; name the control server's certificate, or --system-roots if an authority signed it";
            return Err(OptionError::invalid("--server-cert", &USUAL_CERTIFICATE, problem).into());
        }
        Ok(Some(ClientTls::pinned(certificate.unwrap_or(Path::new(USUAL_CERTIFICATE)), client)?))
    }

    fn token(&self, side: &Side<'_>) -> Result<Option<String>, OptionError> {
        let token = match (side.token_file, &self.token, &self.token_file) {
            (Named { option, value: Some(file) }, ..) => return read_secret(option, file).map(Some),
            (_, Some(token), _) => Some(token.clone()),
            (_, None, Some(file)) => return read_secret("--token-file", file).map(Some),
            (_, None, None) => env::var(TOKEN).ok(),
        };
        Ok(token.filter(|token| !token.is_empty()))
    }
}

fn is_this_host(address: &Target) -> bool {
    address.host() == "localhost"
        || address.host().parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Way {
    pub(super) async fn connect(&self) -> Result<UserClient, S2ucError> {
        UserClient::connect(&self.address, &self.options).await.map_err(|error| self.wrong(error))
    }

    /// An error at this control server.
    pub(super) fn wrong(&self, error: ClientError) -> S2ucError {
        S2ucError::of(error, self.tls.as_ref())
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.options.token.as_deref()
    }
}
