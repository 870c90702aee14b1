//! Whether engines are there, without starting any.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{BridgeOptions, package};
use crate::ask::ask;

/// An engine that is there, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its name.
    pub name: String,
    /// Its version, as it says.
    pub version: String,
    /// Python's program and version; absent for what is none of Python's.
    pub python: Option<String>,
}

impl fmt::Display for EngineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)?;
        self.python.as_ref().map_or(Ok(()), |python| write!(f, " of {python}"))
    }
}

/// Why an engine is not there.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Python can't be run.
    #[error("Python {} can't be run ({source}); name one that can by --python or PSBENCH_PYTHON", python.display())]
    Python {
        /// Its program.
        python: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Python's side of the bridge can't be unpacked.
    #[error("cannot write Python's side of the bridge to {}: {source}", packages.display())]
    Package {
        /// Where to.
        packages: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What Python said.
    #[error("{0}")]
    Engine(String),
}

/// What a Python has of all engines.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Survey {
    /// Python's version.
    pub python: String,
    /// Its program, as it says itself.
    pub executable: PathBuf,
    /// Where packages that are missing may be installed.
    pub installs: Installs,
    /// All engines, in the order of their names on the command line of `psbench_executors`.
    pub engines: Vec<PythonEngine>,
}

/// An engine as one Python has it, or not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PythonEngine {
    /// The engine, as [`BridgeOptions::engine`] has it.
    pub name: String,
    /// What is to be installed for it; absent where it needs nothing but Python.
    pub package: Option<String>,
    /// Version of its package; absent where that is not installed.
    pub version: Option<String>,
}

/// Where a Python's packages may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Installs {
    /// By pip, beside its others.
    Here,
    /// In a virtual environment that it makes: it has no pip, or is the system's own (PEP 668).
    Environment,
    /// Likewise, and it can't make one either, as Debian's without `python3-venv`.
    Nowhere,
}

/// What Python says of an engine.
#[derive(Deserialize)]
struct Checked {
    python: String,
    executable: String,
    version: String,
}

impl BridgeOptions {
    /// Makes sure that Python and the engine's package are there, without starting the engine.
    ///
    /// # Errors
    ///
    /// As their descriptions say: one line, with what to do.
    pub fn check(&self) -> Result<EngineInfo, CheckError> {
        let mut question = question(&self.python, &self.packages, self.engine)?;
        // The factory's module is the user's own, and takes what it takes, as the engine may.
        let told = ask(question.args(self.options["factory"].as_str()), self.ready_timeout);
        let Checked { python, executable, version } = answer(&self.python, told)?;
        let python = Some(format!("Python {python} ({executable})"));
        Ok(EngineInfo { name: self.engine.to_owned(), version, python })
    }
}

/// Asks a Python which engines it has, without starting or importing any. `packages` is that of [`BridgeOptions::packages`]; Python is
/// to answer within `limit`.
///
/// # Errors
///
/// [`CheckError::Python`] where it can't be run or does not answer in time, and as the other descriptions say.
pub fn check_all(python: &Path, packages: &Path, limit: Duration) -> Result<Survey, CheckError> {
    answer(python, ask(&mut question(python, packages, "all")?, limit))
}

fn question(python: &Path, packages: &Path, engine: &str) -> Result<Command, CheckError> {
    let failed = |source| CheckError::Package { packages: packages.to_owned(), source };
    let package = package::unpack(packages).map_err(failed)?;
    let mut question = Command::new(python);
    question.args(["-m", "psbench_executors", "check", engine]).env("PYTHONPATH", package::search_path(&package));
    Ok(question)
}

fn answer<T: DeserializeOwned>(python: &Path, told: io::Result<Output>) -> Result<T, CheckError> {
    let told = told.map_err(|source| CheckError::Python { python: python.to_owned(), source })?;
    let last_line =
        |text: &[u8]| String::from_utf8_lossy(text).trim_end().lines().last().unwrap_or_default().to_owned();
    let said = if told.status.success() { last_line(&told.stdout) } else { last_line(&told.stderr) };
    match serde_json::from_str(&said) {
        Ok(checked) if told.status.success() => Ok(checked),
        _ if said.is_empty() => {
            Err(CheckError::Engine(format!("Python {} does not run psbench's package", python.display())))
        }
        _ => Err(CheckError::Engine(said)),
    }
}
