//! A key and a certificate for somebody who has none.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::ServerName;
use tempfile::NamedTempFile;

use super::TlsError;

/// Clocks of other hosts may be behind by as much.
const CLOCKS: Duration = Duration::from_secs(3600);
/// Certificates have no dates past the year 9999.
const LONGEST: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);
/// Characters of a common name (RFC 5280, `ub-common-name`).
const COMMON_NAME: usize = 64;

/// A certificate that signs itself, to be made. It serves a server as well as a client.
#[derive(Clone, Debug)]
pub struct NewCertificate {
    /// Whom it is for: names and IP addresses of the host, the first of them its common name too.
    pub names: Vec<String>,
    /// For how long; a thousand years at most.
    pub valid: Duration,
}

impl NewCertificate {
    /// Makes a key (ECDSA, P-256), which only this user can read, and its certificate, which all can. Files that are there already are
    /// written over only if they are to be replaced.
    ///
    /// # Errors
    /// A name is none, a file is there, can't be written, or is to be both. Then what was there is there still.
    pub fn write(&self, certificate: &Path, key: &Path, replace: bool) -> Result<(), TlsError> {
        if placed_at(certificate)? == placed_at(key)? {
            return Err(TlsError::OneFile { path: key.into() });
        }
        for path in [certificate, key] {
            if !replace && path.symlink_metadata().is_ok() {
                return Err(TlsError::Exists { path: path.into() });
            }
        }
        let pair = KeyPair::generate()?;
        let made = self.parameters()?.self_signed(&pair)?;
        let new_key = written(key, &pair.serialize_pem(), 0o600)?;
        let new_certificate = written(certificate, &made.pem(), 0o644)?;
        let old_key = if replace { kept_aside(key)? } else { None };
        place(new_key, key, replace)?;
        place(new_certificate, certificate, replace).inspect_err(|_| {
            let _ = match old_key {
                // The certificate that stays needs it.
                Some(old_key) => old_key.persist(key).map(|_| ()).map_err(|error| error.error),
                // A key alone would be in the way the next time.
                None => fs::remove_file(key),
            };
        })
    }

    fn parameters(&self) -> Result<CertificateParams, TlsError> {
        for name in &self.names {
            let host = name.strip_prefix("*.").unwrap_or(name);
            ServerName::try_from(host).map_err(|_| TlsError::Name(name.clone()))?;
        }
        let mut parameters = CertificateParams::new(self.names.clone())?;
        // Whose key it is, and no authority's: neither basic constraints nor key usages, which some clients miss one in for whichever
        // they find of the other.
        let now = SystemTime::now();
        parameters.not_before = (now - CLOCKS).into();
        parameters.not_after = (now + self.valid.min(LONGEST)).into();
        let first = self.names.first().map_or("S2CS", String::as_str);
        parameters.distinguished_name.push(DnType::CommonName, first.chars().take(COMMON_NAME).collect::<String>());
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(parameters)
    }
}

/// What a host is called by those that are on it, and by itself.
pub fn usual_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
    let uname = rustix::system::uname();
    let own = uname.nodename().to_string_lossy();
    if !names.iter().any(|name| *name == own) && ServerName::try_from(&*own).is_ok() {
        names.push(own.into_owned());
    }
    names
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a file is to be, however that is written. A link there would be replaced itself.
fn placed_at(path: &Path) -> Result<PathBuf, TlsError> {
    let directory = directory(path).canonicalize().map_err(|source| TlsError::Write { path: path.into(), source })?;
    Ok(path.file_name().map_or_else(|| directory.clone(), |name| directory.join(name)))
}

/// The same file by another name beside it, which goes with what this returns; `None`: it is not there.
fn kept_aside(path: &Path) -> Result<Option<NamedTempFile<()>>, TlsError> {
    match tempfile::Builder::new().make_in(directory(path), |aside| fs::hard_link(path, aside)) {
        Ok(aside) => Ok(Some(aside)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TlsError::Write { path: path.into(), source }),
    }
}

/// A file beside where it is to be, with this content.
fn written(path: &Path, content: &str, mode: u32) -> Result<NamedTempFile, TlsError> {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory(path))
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.as_file().sync_all()?;
            Ok(file)
        })
        .map_err(|source| TlsError::Write { path: path.into(), source })
}

fn place(file: NamedTempFile, path: &Path, replace: bool) -> Result<(), TlsError> {
    let placed = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    match placed {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(TlsError::Exists { path: path.into() }),
        Err(error) => Err(TlsError::Write { path: path.into(), source: error.error }),
    }
}
