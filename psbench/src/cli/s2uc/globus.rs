//! What SciStream's own user client does about Globus Auth: psbench takes tokens as they are, and keeps none.

use super::S2ucError;
use super::access::Trust;
use crate::cli::gateway::underscores_too;
use crate::cli::{Ending, print};
use crate::options::OptionError;

/// Where tokens are taken from.
const TOKENS: &str = "PSBENCH_S2CS_TOKEN in the environment, --token-file, or --token";

/// `login`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct Login {
    #[command(flatten)]
    trust: Trust,
}

impl Login {
    pub(super) fn run(&self) -> Result<Ending, S2ucError> {
        if self.trust.shown()?.is_none() {
            let scope = match self.trust.scope() {
                "" => "<client id of the control server>",
                scope => scope,
            };
            return Err(S2ucError::NoLogin { scope: scope.to_owned(), tokens: TOKENS });
        }
        print("You are already logged in: requests show the token that is given")?;
        Ok(Ending::Success)
    }
}

/// `logout`.
#[derive(Debug, clap::Args)]
pub(super) struct Logout {}

impl Logout {
    pub(super) fn run(&self) -> Result<Ending, S2ucError> {
        print("psbench keeps no token: there is nothing to log out of")?;
        Ok(Ending::Success)
    }
}

/// `check-auth`.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct CheckAuth {
    #[command(flatten)]
    trust: Trust,

    /// Of no effect here: tokens are for whichever control server is asked
    #[arg(long, value_name = "IP", hide = true)]
    ip: Option<String>,
}

impl CheckAuth {
    pub(super) fn run(&self) -> Result<Ending, S2ucError> {
        let token = self.trust.shown()?.ok_or(OptionError::Missing { option: TOKENS, needed_by: "check-auth" })?;
        print(format_args!("Access Token for scope '{}': {token}", self.trust.scope()))?;
        Ok(Ending::Success)
    }
}
