//! Certificates and keys as PEM, of files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

/// What a file of certificates, or of a key, holds: other hosts have other files. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pem {
    path: PathBuf,
    text: Vec<u8>,
}

impl Pem {
    /// What is in this file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let text = fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })?;
        Ok(Self { path: path.into(), text })
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All certificates, at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let wrong = |problem: String| TlsError::Certificate { path: self.path.clone(), problem };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.text)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(format!("is no PEM: {error}")))?;
        for certificate in &certificates {
            parse(certificate).map_err(|error| wrong(format!("has a broken certificate: {error}")))?;
        }
        if certificates.is_empty() {
            return Err(wrong("holds no certificate".into()));
        }
        Ok(certificates)
    }

    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let wrong = |problem: String| TlsError::Key { path: self.path.clone(), problem };
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| {
            wrong(match error {
                pem::Error::NoItemsFound if self.text.windows(9).any(|word| word == b"ENCRYPTED") => {
                    format!("is encrypted: openssl pkey -in {} takes its passphrase off", self.path.display())
                }
                pem::Error::NoItemsFound => "holds no private key".into(),
                error => format!("is no PEM: {error}"),
            })
        })
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a certificate says.
pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|error| error.to_string())
}
