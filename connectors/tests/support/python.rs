//! The Python in which the tests' packages are installed.

use std::env;
use std::path::{Path, PathBuf};

/// The interpreter: `$PSBENCH_TEST_PYTHON`, or that of the virtual environment that `test.sh` makes.
pub(crate) fn python() -> PathBuf {
    let python = match env::var_os("PSBENCH_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python"),
    };
    assert!(python.exists(), "no {}: run ./test.sh once: it makes target/python", python.display());
    python
}
