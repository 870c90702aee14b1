//! The program that runs. What lies at its path may be replaced meanwhile, by an upgrade or a build: other code would be measured.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static IMAGE: OnceLock<File> = OnceLock::new();

/// Holds on to the program, whatever becomes of its path.
fn image() -> io::Result<&'static File> {
    if let Some(image) = IMAGE.get() {
        return Ok(image);
    }
    let image = File::open("/proc/self/exe")?;
    Ok(IMAGE.get_or_init(|| image))
}

/// To be called when a process begins.
pub(crate) fn hold() {
    // Where there is no /proc, whoever needs the program says so.
    let _ = image();
}

/// A path to the program that runs, for processes that this one starts on its host, as long as it lives.
pub(crate) fn path() -> io::Result<PathBuf> {
    Ok(format!("/proc/{}/fd/{}", std::process::id(), image()?.as_raw_fd()).into())
}

/// Whether what lies at this path is the program that runs, for processes that others start.
pub(crate) fn is_at(path: &Path) -> io::Result<bool> {
    let (held, found) = (image()?.metadata()?, path.metadata()?);
    Ok((held.dev(), held.ino()) == (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_from_others() {
        let own = std::env::current_exe().unwrap();
        assert!(is_at(&own).unwrap() && is_at(&path().unwrap()).unwrap());
        assert!(!is_at(Path::new("/bin/sh")).unwrap());
    }
}
