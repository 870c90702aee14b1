//! `psbench completions`.

use std::io;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Cli, print};

/// For which shell.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    ///
    /// # Errors
    /// Standard output can't be written.
    pub fn run(self) -> io::Result<()> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "psbench", &mut script);
        print(String::from_utf8_lossy(&script).trim_end())
    }
}
