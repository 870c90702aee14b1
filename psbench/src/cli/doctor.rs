//! `psbench doctor`.

use std::io;
use std::path::PathBuf;

use clap::Arg;

use super::s2uc::{Side, Trust};
use super::{Ending, print};
use crate::doctor::{self, Host};
use crate::open_files::OpenFiles;
use crate::options::{Named, OptionError};
use crate::report;

/// What to look at, and how to tell.
#[derive(Debug, clap::Args)]
#[command(mut_args = of_a_control_server)]
pub struct Doctor {
    /// Python whose engines are looked for [default: $PSBENCH_PYTHON, or that of the virtual environment psbench is in, or python3]
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,

    /// Print JSON: groups of findings, each with name, state, what, needed_for, remark and remedy
    #[arg(long)]
    json: bool,

    /// Control servers of SciStream's gateways, of which each is asked whether it answers: HOST:PORT
    #[arg(long, value_name = "ADDR", num_args = 1.., help_heading = "Control server")]
    s2cs: Vec<String>,

    #[command(flatten)]
    trust: Trust,
}

/// What says how a control server is reached goes with one.
fn of_a_control_server(arg: Arg) -> Arg {
    if arg.get_help_heading() == Some("Control server") && arg.get_id() != "s2cs" { arg.requires("s2cs") } else { arg }
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
        let access = |s2cs: &String| {
            self.trust.access(&Side {
                s2cs: Named { option: "--s2cs", value: s2cs },
                certificate: None,
                token_file: Named { option: "--token-file", value: None },
            })
        };
        let gateways = self.s2cs.iter().map(access).collect::<Result<_, _>>()?;
        let diagnosis = doctor::look(&Host::this(self.python, open_files)?.asking(gateways));
        Ok(if self.json {
            print(serde_json::to_string_pretty(&diagnosis).map_err(io::Error::from)?)
        } else {
            print(report::diagnosis(&diagnosis))
        }?)
    }
}
