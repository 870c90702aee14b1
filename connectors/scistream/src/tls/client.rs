//! The client's side.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::trust::Trust;
use super::{PROTOCOL, Pem, TlsError};

/// Which servers a client trusts, and how it makes itself known to them.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    trusted: String,
}

impl ClientTls {
    /// Trusts the certificates of a file, and what authorities among them signed. `client`: its own certificate and key, for servers
    /// that ask for one.
    ///
    /// # Errors
    /// A file is not there, or not what it should be.
    pub fn pinned(servers: &Path, client: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let client = match client {
            Some((certificate, key)) => Some((Pem::read(certificate)?, Pem::read(key)?)),
            None => None,
        };
        Self::pinned_to(&Pem::read(servers)?, client.as_ref())
    }

    /// As [`ClientTls::pinned`], with what the files hold.
    ///
    /// # Errors
    /// They hold something else.
    pub fn pinned_to(servers: &Pem, client: Option<&(Pem, Pem)>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let trust = Trust::of(servers)?;
        let by_authority = (!trust.authorities.is_empty())
            .then(|| server_verifier(Arc::clone(&trust.authorities), &provider))
            .transpose()?;
        let verifier = PinnedServer { trust, by_authority, algorithms: provider.signature_verification_algorithms };
        Self::new(Arc::new(verifier), servers.path().display().to_string(), provider, client)
    }

    /// Trusts what authorities signed that this system trusts. `client`: its own certificate and key.
    ///
    /// # Errors
    /// The system trusts nobody, or the files held something else.
    pub fn system_roots(client: Option<&(Pem, Pem)>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some systems keep a few that nobody can parse; the others serve.
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let problem = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(TlsError::NoRoots(problem));
        }
        Self::new(
            server_verifier(Arc::new(roots), &provider)?,
            "this system's authorities".to_owned(),
            provider,
            client,
        )
    }

    fn new(
        verifier: Arc<dyn ServerCertVerifier>,
        trusted: String,
        provider: Arc<CryptoProvider>,
        client: Option<&(Pem, Pem)>,
    ) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match client {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(certificate.certificates()?, key.key()?).map_err(|source| {
                    TlsError::Pair { certificate: certificate.path().into(), key: key.path().into(), source }
                })?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.into()];
        Ok(Self { config: Arc::new(config), trusted })
    }

    /// For a `TlsConnector`. HTTP/2 is asked for.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Why a connection failed, where that has to do with certificates; `None`: it has not.
    pub fn explain(&self, error: &(dyn Error + 'static)) -> Option<String> {
        Some(match of_tls(error)? {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                format!("its certificate is none of {}'s, nor signed by one: get the one that it has now", self.trusted)
            }
            rustls::Error::InvalidCertificate(problem) => format!("its certificate is refused: {problem}"),
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
                "it wants a certificate of the client's, and a key".to_owned()
            }
            // What servers say of a client's certificate; OpenSSL's and rustls' choose differently among them.
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied),
            ) => format!("it does not accept the client's certificate ({alert:?})"),
            rustls::Error::InvalidMessage(_) => "it does not speak TLS; ask it without".to_owned(),
            _ => return None,
        })
    }
}

/// The cause of TLS's, wherever in the chain it is.
fn of_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error passes its content's source for its own.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

fn server_verifier(
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))
}

/// Accepts pinned certificates, else what an authority among them signed. That the server has the key of what it shows is
/// verified either way.
#[derive(Debug)]
struct PinnedServer {
    trust: Trust,
    by_authority: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trust.is_pinned(end_entity, now)? {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.by_authority {
            Some(verifier) => verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    signatures_by_certificate!();
}
