//! `psbench s2cs`.

mod data;
mod error;
mod identity;
mod init;
mod lifeline;
mod place;
mod serve;
mod sessions;

use clap::ArgAction;

use super::Ending;
use super::gateway::{underscores_too, yes_or_no};

use self::data::DataOptions;
pub use self::error::S2csError;
use self::identity::IdentityOptions;
use self::init::Init;
use self::place::PlaceOptions;
use self::sessions::SessionOptions;
use crate::logging::LogLevel;

/// How a control server works.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, mut_args = underscores_too)]
#[command(version = concat!("version: ", env!("CARGO_PKG_VERSION")), display_name = "s2cs,")]
pub struct S2cs {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    place: PlaceOptions,

    #[command(flatten)]
    identity: IdentityOptions,

    #[command(flatten)]
    sessions: SessionOptions,

    #[command(flatten)]
    data: DataOptions,

    /// Print where it listens as JSON
    #[arg(long)]
    json: bool,

    /// Let in whoever has the token in the first line of standard input, and end with that input: for psbench itself
    #[arg(long, hide = true, conflicts_with_all = ["tokens", "globus_client_id"])]
    lifeline: bool,

    /// What is logged, to standard error
    #[arg(long, value_name = "LEVEL", default_value = "INFO", ignore_case = true)]
    log_level: LogLevel,

    /// Log all that psbench has to tell, as --log-level DEBUG does
    #[arg(short, long, num_args = 0..=1, default_value = "False", default_missing_value = "True", value_parser = yes_or_no, action = ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "True|False")]
    verbose: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key, which stays here, and a certificate, which clients get
    Init(Init),
}

impl S2cs {
    /// Makes what is asked for, or serves until it is told to end.
    ///
    /// # Errors
    /// It was not made, or the server did not start, or fails.
    pub fn run(self) -> Result<Ending, S2csError> {
        match self.action {
            Some(Action::Init(ref init)) => init.run(),
            None => self.serve(),
        }
    }
}
