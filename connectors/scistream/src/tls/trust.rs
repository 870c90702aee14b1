//! Certificates that are trusted.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, RootCertStore};

use super::TlsError;
use super::pem::{Pem, parse};

/// The certificates of a file: each is trusted itself, and those of authorities for whatever they signed, too.
#[derive(Debug)]
pub(super) struct Trust {
    pinned: Vec<CertificateDer<'static>>,
    /// Not all that are pinned: who has the key of a certificate that is nobody's authority can't make others with it.
    pub(super) authorities: Arc<RootCertStore>,
}

impl Trust {
    pub(super) fn of(pem: &Pem) -> Result<Self, TlsError> {
        let pinned = pem.certificates()?;
        let mut authorities = RootCertStore::empty();
        for certificate in &pinned {
            if parse(certificate).is_ok_and(|parsed| parsed.is_ca()) {
                authorities.add(certificate.clone())?;
            }
        }
        Ok(Self { pinned, authorities: Arc::new(authorities) })
    }

    /// Whether this very certificate is pinned.
    ///
    /// # Errors
    /// It is, and its time has not come yet, or is over.
    pub(super) fn is_pinned(&self, shown: &CertificateDer<'_>, now: UnixTime) -> Result<bool, rustls::Error> {
        if !self.pinned.iter().any(|pinned| pinned == shown) {
            return Ok(false);
        }
        let parsed = parse(shown).map_err(|_| CertificateError::BadEncoding)?;
        let [not_before, not_after] = [parsed.validity().not_before, parsed.validity().not_after].map(|time| {
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default()))
        });
        if now < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        Ok(true)
    }
}
