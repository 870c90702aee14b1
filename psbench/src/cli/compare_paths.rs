//! `psbench compare-paths`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::sweep::SweepArgs;
use super::{CliError, Ending};
use crate::options::StreamScalingOptions;

/// The options of a sweep over paths.
#[derive(Debug, clap::Args)]
#[command(mut_args = as_here)]
pub struct ComparePaths {
    #[command(flatten)]
    sweep: SweepArgs,
}

/// What options of stream-scaling mean here, where that is something else.
const HELP: [(&str, &str); 2] = [
    ("data-size-bytes", "Sizes of an item, each swept [default: 10kB 100kB 1MB 10MB]"),
    ("repeat", "Rounds: each measures every path once at each size and number of workers [default: 6]"),
];

/// Options whose place --paths takes are parsed, so that they get an answer, but not offered.
fn as_here(argument: clap::Arg) -> clap::Arg {
    let Some(name) = argument.get_long() else { return argument };
    let replaced = ["stream-method", "ps-connector"].contains(&name);
    let help = HELP.iter().find(|(option, _)| *option == name).map(|(_, help)| *help);
    let argument = argument.hide(replaced);
    match help {
        Some(help) => argument.help(help),
        None => argument,
    }
}

impl ComparePaths {
    /// Runs the sweep, or prints its plan. `interrupted` may be set at any time to end it early and in order.
    ///
    /// # Errors
    /// Nothing was run, or not all results could be kept.
    pub fn run(&self, interrupted: Arc<AtomicBool>) -> Result<Ending, CliError> {
        self.sweep.run(StreamScalingOptions::plan_compare_paths, interrupted)
    }
}
