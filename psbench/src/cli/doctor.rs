//! `psbench doctor`.

use std::io;
use std::path::PathBuf;

use super::{Ending, print};
use crate::doctor::{self, Host};
use crate::open_files::OpenFiles;
use crate::options::OptionError;
use crate::report;

/// What to look at, and how to tell.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Python whose engines are looked for [default: $PSBENCH_PYTHON, or python3]
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,

    /// Print JSON: groups of findings, each with name, state, what, needed_for, remark and remedy
    #[arg(long)]
    json: bool,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// What the command line names is not there.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Standard output can't be written.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl DoctorError {
    /// How psbench ends for it.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Option(_) => Ending::BadInput,
            Self::Print(_) => Ending::TrialFailed,
        }
    }
}

impl Doctor {
    /// Looks at everything, and prints it.
    ///
    /// # Errors
    /// There is no such Python, or standard output can't be written. What is missing otherwise is no error.
    pub(crate) fn run(self, open_files: OpenFiles) -> Result<(), DoctorError> {
        let diagnosis = doctor::look(&Host::this(self.python, open_files)?);
        Ok(if self.json {
            print(serde_json::to_string_pretty(&diagnosis).map_err(io::Error::from)?)
        } else {
            print(report::diagnosis(&diagnosis))
        }?)
    }
}
