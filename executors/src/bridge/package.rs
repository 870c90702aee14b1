//! Python's side of the bridge, which this program brings with it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../python/psbench_executors/", $name)))),*]
    };
}

/// The package's files, by their places in it.
const FILES: &[(&str, &str)] = files![
    "__init__.py",
    "__main__.py",
    "bridge.py",
    "child.py",
    "frames.py",
    "processes.py",
    "worker.py",
    "writer.py",
    "engines/__init__.py",
    "engines/dask.py",
    "engines/globus.py",
    "engines/parsl.py",
    "engines/python.py",
];

/// Unpacks the package, unless it is there; returns the directory that belongs on Python's search path.
pub(super) fn unpack(packages: &Path) -> io::Result<PathBuf> {
    let root = packages.join(format!("python-{:016x}", fingerprint()));
    let package = root.join("psbench_executors");
    for (name, text) in FILES {
        let path = package.join(name);
        if fs::read_to_string(&path).is_ok_and(|found| found == *text) {
            continue;
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        // Others may be just doing the same.
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_extension(format!("{}-{copy}", std::process::id()));
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, &path)?;
    }
    Ok(root)
}

/// Differs with any byte of the package (FNV-1a).
fn fingerprint() -> u64 {
    let bytes = FILES.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Python's search path with this directory ahead.
pub(super) fn search_path(directory: &Path) -> OsString {
    let others = env::var_os("PYTHONPATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(env::split_paths(&others));
    // A directory with a colon can't be on the path in any way.
    env::join_paths(all).unwrap_or_else(|_| directory.into())
}
