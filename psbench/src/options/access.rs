//! How to reach a control server of SciStream, and by which right.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use scistream::client::{GatewayAccess, GatewayTls};
use scistream::dataserver::{DataServerError, DataServerType, Target};
use scistream::tls::{Pem, TlsError};

use super::OptionError;

/// The environment's token.
pub(crate) const TOKEN: &str = "PSBENCH_S2CS_TOKEN";

/// What an option says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<T> {
    pub(crate) option: &'static str,
    pub(crate) value: T,
}

/// Which control servers are trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trusted<'a> {
    /// Whoever answers, without TLS, by this option.
    Anybody(&'static str),
    /// Those of whom the system's authorities know.
    SystemRoots,
    /// Those with a certificate of this file, or with one that an authority in it signed.
    Pinned(&'a Path),
}

/// What options say of one control server.
#[derive(Clone, Debug)]
pub(crate) struct AccessOptions<'a> {
    /// HOST:PORT.
    pub(crate) s2cs: Named<&'a str>,
    pub(crate) trusted: Trusted<'a>,
    /// The client's certificate and its key.
    pub(crate) client: Option<(&'a Path, &'a Path)>,
    pub(crate) token: Option<String>,
    pub(crate) time_limit: Duration,
}

impl AccessOptions<'_> {
    /// With what the files hold.
    pub(crate) fn access(self) -> Result<GatewayAccess, OptionError> {
        let Named { option, value } = self.s2cs;
        let problem = "not a control server's address; expected HOST:PORT";
        let address: Target = value.parse().map_err(|_| OptionError::invalid(option, &value, problem))?;
        let token = self.token.filter(|token| !token.is_empty());
        let pinned = match self.trusted {
            Trusted::Anybody(insecure) if token.is_some() && !is_this_host(&address) => {
                let problem = format!("a token is not sent there without TLS; leave {insecure} out");
                return Err(OptionError::invalid(option, &value, problem));
            }
            Trusted::Anybody(_) => {
                return Ok(GatewayAccess { token, time_limit: self.time_limit, ..GatewayAccess::plain(address) });
            }
            Trusted::SystemRoots => None,
            Trusted::Pinned(file) => Some(Pem::read(file)?),
        };
        let client = self.client.map(read_pair).transpose()?;
        Ok(GatewayAccess { address, tls: Some(GatewayTls { pinned, client }), token, time_limit: self.time_limit })
    }
}

fn read_pair((certificate, key): (&Path, &Path)) -> Result<(Pem, Pem), TlsError> {
    Ok((Pem::read(certificate)?, Pem::read(key)?))
}

/// A type of data server, also as SciStream's own programs name them: `HaproxySubprocess`, `Stunnel`.
pub(crate) fn data_server_type(text: &str) -> Result<DataServerType, DataServerError> {
    let lower = text.to_ascii_lowercase();
    lower.strip_suffix("subprocess").unwrap_or(&lower).parse().map_err(|_| DataServerError::Unknown(text.into()))
}

/// Whether a control server is on this host, so that what is said to it stays here.
fn is_this_host(address: &Target) -> bool {
    address.host() == "localhost" || address.host().parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_by_the_references_names_too() {
        for (name, kind) in [
            ("copy", DataServerType::Copy),
            ("HaproxySubprocess", DataServerType::Haproxy),
            ("Stunnel", DataServerType::Stunnel),
            ("StunnelSubprocess", DataServerType::Stunnel),
            ("Nginx", DataServerType::Nginx),
        ] {
            assert_eq!(data_server_type(name).unwrap(), kind, "{name}");
        }
        let error = data_server_type("Squid").unwrap_err().to_string();
        assert!(error.contains("\"Squid\""), "{error}");
    }
}
