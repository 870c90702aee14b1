//! Secrets in files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::OptionError;

/// Of a file, in bytes.
const LARGEST: u64 = 64 << 10;
/// Bits of a mode that let others read a file.
const OTHERS: u32 = 0o044;

/// The secret in a file that nobody else can read.
pub(crate) fn read_secret(option: &'static str, path: &Path) -> Result<String, OptionError> {
    let wrong = |source| OptionError::File { option, path: path.into(), source };
    let file = File::open(path).map_err(wrong)?;
    if file.metadata().map_err(wrong)?.mode() & OTHERS != 0 {
        let problem = "others can read it; chmod 600 makes it yours";
        return Err(OptionError::invalid(option, &path.display(), problem));
    }
    let mut secret = String::new();
    file.take(LARGEST).read_to_string(&mut secret).map_err(wrong)?;
    match secret.trim() {
        "" => Err(wrong(io::Error::other("it is empty"))),
        secret => Ok(secret.to_owned()),
    }
}
