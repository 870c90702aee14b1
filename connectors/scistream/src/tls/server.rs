//! The server's side.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DistinguishedName, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::pem::{Pem, parse};
use super::trust::Trust;
use super::{PROTOCOL, TlsError};

/// Bits of a key's mode that let others than its owner read it.
const READABLE: u32 = 0o044;

/// What a server shows, and which clients it lets in.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
}

impl ServerTls {
    /// Shows the certificates of a file, its own first, whatever they say that they are for. With `clients`, a client has to show one that
    /// is in that file, or that an authority of that file signed.
    ///
    /// # Errors
    /// A file is not there, or not what it should be.
    pub fn load(certificate: &Path, key: &Path, clients: Option<&Path>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::new(PinnedClient::load(clients, &provider)?)),
            None => builder.with_no_client_auth(),
        };
        let chain = Pem::read(certificate)?.certificates()?;
        let warnings = [readable_by_others(key), out_of_time(certificate, &chain)];
        let mut config = builder.with_single_cert(chain, Pem::read(key)?.key()?).map_err(|source| TlsError::Pair {
            certificate: certificate.into(),
            key: key.into(),
            source,
        })?;
        for warning in warnings.into_iter().flatten() {
            tracing::warn!("{warning}");
        }
        config.alpn_protocols = vec![PROTOCOL.into()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Shakes hands. HTTP/2 is what it offers.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

fn readable_by_others(key: &Path) -> Option<String> {
    let mode = fs::metadata(key).ok()?.permissions().mode();
    (mode & READABLE != 0).then(|| format!("others can read the key {0}; chmod 600 {0}", key.display()))
}

fn out_of_time(path: &Path, chain: &[CertificateDer<'static>]) -> Option<String> {
    let validity = parse(chain.first()?).ok()?.validity().clone();
    (!validity.is_valid()).then(|| {
        format!(
            "clients will refuse {}: it is valid from {} to {}; make another",
            path.display(),
            validity.not_before,
            validity.not_after
        )
    })
}

/// Accepts pinned certificates, else what an authority among them signed.
#[derive(Debug)]
struct PinnedClient {
    trust: Trust,
    by_authority: Option<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedClient {
    fn load(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let trust = Trust::of(&Pem::read(path)?)?;
        let by_authority = (!trust.authorities.is_empty())
            .then(|| {
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&trust.authorities), Arc::clone(provider))
                    .build()
            })
            .transpose()
            .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))?;
        Ok(Self { trust, by_authority, algorithms: provider.signature_verification_algorithms })
    }
}

impl ClientCertVerifier for PinnedClient {
    /// None: clients show what they have. A hint would keep those back whose certificate is pinned and not their authority's.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.trust.is_pinned(end_entity, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        match &self.by_authority {
            Some(verifier) => verifier.verify_client_cert(end_entity, intermediates, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    signatures_by_certificate!();
}
