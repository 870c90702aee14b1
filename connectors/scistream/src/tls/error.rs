//! What can be wrong with certificates and keys.

use std::io;
use std::path::PathBuf;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is there that would be written over.
    #[error("{} is there already; name another file, or have it replaced", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A certificate and its key can't be one file.
    #[error("{} is to be the certificate and the key; name two files", path.display())]
    OneFile {
        /// The file.
        path: PathBuf,
    },
    /// A file's certificates are none.
    #[error("{}: {problem}; expected certificates as PEM, from -----BEGIN CERTIFICATE----- on", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file's key is none.
    #[error("{}: {problem}; expected a private key as PEM without a passphrase", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Certificate and key can't be used together.
    #[error("{} is not the certificate of the key in {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// Nobody can be called that.
    #[error("a certificate can't be for {0:?}; expected the name or the IP address of a host")]
    Name(String),
    /// A certificate can't be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The system trusts nobody.
    #[error(
        "this system has no authorities that it trusts ({0}); install ca-certificates, or name the server's certificate"
    )]
    NoRoots(String),
    /// The cryptography at hand can't do it.
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}
