//! `psbench s2cs init`.

use std::path::PathBuf;
use std::time::Duration;

use scistream::tls::{NewCertificate, TlsError, usual_names};

use super::S2csError;
use crate::cli::gateway::underscores_too;
use crate::cli::{Ending, print};

/// What to make.
#[derive(Debug, clap::Args)]
#[command(mut_args = underscores_too)]
pub(super) struct Init {
    /// The certificate's file
    #[arg(long, alias = "server-crt", value_name = "FILE", default_value = "server.crt")]
    cert: PathBuf,

    /// The key's file, which nobody else will be able to read
    #[arg(long, alias = "server-key", value_name = "FILE", default_value = "server.key")]
    key: PathBuf,

    /// A name or an IP address of this host, as clients know it; several between commas, or the option several times [default:
    /// localhost, 127.0.0.1, ::1 and this host's name]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    san: Vec<String>,

    /// For how many days it is valid
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Replace what is there
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn run(&self) -> Result<Ending, S2csError> {
        let names = if self.san.is_empty() { usual_names() } else { self.san.clone() };
        let valid = Duration::from_secs(u64::from(self.days) * 24 * 3600);
        let new = NewCertificate { names, valid };
        new.write(&self.cert, &self.key, self.force).map_err(|error| match error {
            TlsError::Exists { path } => Exists(path).into(),
            error => S2csError::Tls(error),
        })?;
        print(format_args!(
            "{}: for {}, {} days; give it to clients (psbench s2uc --server-cert)\n{}: its key; keep it here",
            self.cert.display(),
            new.names.join(", "),
            self.days,
            self.key.display()
        ))
        .map_err(S2csError::Print)?;
        Ok(Ending::Success)
    }
}

/// A file that is there and stays.
struct Exists(PathBuf);

impl From<Exists> for S2csError {
    fn from(Exists(path): Exists) -> Self {
        let problem = "is there already; name another file, or replace it by --force";
        crate::options::OptionError::invalid("init:", &path.display(), problem).into()
    }
}
