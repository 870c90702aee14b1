//! `psbench stream-scaling`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::sweep::SweepArgs;
use super::{CliError, Ending};
use crate::options::StreamScalingOptions;

/// The options of a sweep over methods.
#[derive(Debug, clap::Args)]
#[command(mut_arg("paths", |paths| paths.hide(true)))]
pub struct StreamScaling {
    #[command(flatten)]
    sweep: SweepArgs,
}

impl StreamScaling {
    /// Runs the sweep, or prints its plan. `interrupted` may be set at any time to end it early and in order.
    ///
    /// # Errors
    /// Nothing was run, or not all results could be kept.
    pub fn run(&self, interrupted: Arc<AtomicBool>) -> Result<Ending, CliError> {
        self.sweep.run(StreamScalingOptions::plan, interrupted)
    }
}
