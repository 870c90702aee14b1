//! `psbench worker`: a worker process.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use psbench_connectors::scistream;
use psbench_executors::pilot::{self, ConnectError, Invitation, TOKEN_VARIABLE};
use psbench_executors::worker::{self, ServeError};
use psbench_executors::{ClockOffset, Work};

use super::Ending;
use crate::logging;
use crate::worker::StreamWork;

/// Where a worker gets its tasks.
#[derive(Debug, clap::Args)]
pub struct Worker {
    /// The dispatcher: HOST:PORT [default: whoever is at the other end of standard input]
    #[arg(long, value_name = "ADDR")]
    connect: Option<String>,

    /// A file with the token that the dispatcher wants, in place of the environment's PSBENCH_TOKEN
    #[arg(long, value_name = "FILE", requires = "connect")]
    token_file: Option<PathBuf>,

    /// The site where this worker is, for objects behind gateways, in place of the environment's PSBENCH_SITE
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
}

/// Why a worker did not serve to its end.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// There is no token.
    #[error("a worker that connects needs a token: put it in PSBENCH_TOKEN, or in a file for --token-file")]
    NoToken,
    /// The file of the token can't be read.
    #[error("--token-file {}: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It could not connect, or not serve.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It was not started by an executor, or their conversation broke off.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl WorkerError {
    /// How psbench ends for it.
    pub fn ending(&self) -> Ending {
        match self {
            Self::NoToken | Self::TokenFile { .. } | Self::Connect(ConnectError::Token) => Ending::BadInput,
            Self::Connect(_) | Self::Serve(_) => Ending::TrialFailed,
        }
    }
}

impl Worker {
    /// Runs tasks until the dispatcher asks for the end, or is gone.
    ///
    /// # Errors
    /// As their descriptions say.
    pub fn run(self) -> Result<(), WorkerError> {
        logging::start_in_worker();
        if let Some(site) = self.site {
            scistream::be_at(site);
        }
        let Some(address) = self.connect else {
            return Ok(worker::serve(|setup| make_work(&setup, ClockOffset::default()))?);
        };
        let token = match self.token_file {
            Some(path) => fs::read_to_string(&path).map_err(|source| WorkerError::TokenFile { path, source })?,
            None => std::env::var(TOKEN_VARIABLE).map_err(|_| WorkerError::NoToken)?,
        };
        let invitation = Invitation { address, token: token.trim().to_owned() };
        Ok(pilot::connect(&invitation, |setup, clock| make_work(&setup, clock))?)
    }
}

fn make_work(setup: &[u8], clock: ClockOffset) -> Result<Arc<dyn Work>, String> {
    Ok(Arc::new(StreamWork::from_setup(setup, clock)?))
}
