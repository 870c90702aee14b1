//! Certificates and keys in files, as PEM.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem: String| TlsError::Certificate { path: path.into(), problem };
    let text = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
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

/// The private key of a file: PKCS#8, PKCS#1 or SEC1.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |problem: String| TlsError::Key { path: path.into(), problem };
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        wrong(match error {
            pem::Error::NoItemsFound if text.windows(9).any(|word| word == b"ENCRYPTED") => {
                format!("is encrypted: openssl pkey -in {} takes its passphrase off", path.display())
            }
            pem::Error::NoItemsFound => "holds no private key".into(),
            error => format!("is no PEM: {error}"),
        })
    })
}

/// What a certificate says.
pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
}
