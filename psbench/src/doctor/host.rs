//! Where things are looked for.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use psbench_executors::ask;
use scistream::client::GatewayAccess;

use crate::open_files::OpenFiles;
use crate::options::{OptionError, choose_python};
use crate::services::{ServicesError, cache_directory, find_program};

/// For a program to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// This host, as far as it depends on how psbench was started.
#[derive(Debug)]
pub struct Host {
    /// Where programs are, as a shell looks for them.
    pub(super) path: OsString,
    /// Python of the engines, and why there is none.
    pub(super) python: Result<PathBuf, String>,
    /// What is kept between runs.
    pub(super) cache: Result<PathBuf, ServicesError>,
    /// What psbench was given.
    pub(super) open_files: OpenFiles,
    /// Control servers of SciStream to ask whether they answer.
    pub(super) gateways: Vec<GatewayAccess>,
    /// For a program to answer.
    pub(super) patience: Duration,
}

impl Host {
    /// That of this process, with the Python that the user named, else the one that engines would have.
    ///
    /// # Errors
    /// The Python that the user named is not there.
    pub(crate) fn this(python: Option<PathBuf>, open_files: OpenFiles) -> Result<Self, OptionError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let python = match python {
            None => choose_python(None).map_err(|error| error.to_string()),
            Some(named) => {
                let python = choose_python(Some(named))?;
                if find(&python, &path).is_none() {
                    let source = io::Error::new(io::ErrorKind::NotFound, "no such program on the PATH");
                    return Err(OptionError::File { option: "--python", path: python, source });
                }
                Ok(python)
            }
        };
        Ok(Self { path, python, cache: cache_directory(), open_files, gateways: Vec::new(), patience: PATIENCE })
    }

    /// The same, which asks these control servers of SciStream, too.
    pub(crate) fn asking(self, gateways: Vec<GatewayAccess>) -> Self {
        Self { gateways, ..self }
    }

    /// Where a program is. A path stays as it is.
    pub(super) fn find(&self, program: &Path) -> Option<PathBuf> {
        find(program, &self.path)
    }

    /// What a program answers.
    ///
    /// # Errors
    /// It can't be run, did not answer in time, or ended badly: with the last that it said.
    pub(super) fn ask(&self, question: &mut Command) -> io::Result<Output> {
        self.ask_within(question, self.patience)
    }

    /// The same with a patience of its own.
    ///
    /// # Errors
    /// Likewise.
    pub(super) fn ask_within(&self, question: &mut Command, patience: Duration) -> io::Result<Output> {
        let told = ask(question.env("PATH", &self.path), patience)?;
        if told.status.success() {
            return Ok(told);
        }
        let said = [&told.stderr, &told.stdout].map(|said| String::from_utf8_lossy(said).trim_end().to_owned());
        let last = said.iter().filter_map(|said| said.lines().last()).next();
        Err(io::Error::other(last.map_or_else(|| told.status.to_string(), |line| line.trim().to_owned())))
    }
}

fn find(program: &Path, path: &std::ffi::OsStr) -> Option<PathBuf> {
    match program.to_str() {
        Some(name) if program.components().count() <= 1 => find_program(name, path),
        _ => Some(program.to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A host whose programs are these scripts.
    pub(in crate::doctor) fn host(programs: &[(&str, &str)]) -> (TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        for (name, script) in programs {
            let program = directory.path().join(name);
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let host = Host {
            path: directory.path().into(),
            python: Ok("python3".into()),
            cache: Ok(directory.path().join("cache")),
            open_files: OpenFiles { given: Some(1024), now: Some(4096), most: Some(4096) },
            gateways: Vec::new(),
            patience: Duration::from_secs(100),
        };
        (directory, host)
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let (directory, host) = host(&[("tool", "echo tool 1.2"), ("bad", "echo usage; echo no config >&2; exit 1")]);
        fs::write(directory.path().join("text"), "").unwrap();
        assert_eq!(host.find(Path::new("tool")), Some(directory.path().join("tool")));
        assert_eq!(host.find(Path::new("text")), None, "it can't be run");
        assert_eq!(host.find(Path::new("nothing")), None);
        let ask = |name: &str| host.ask(&mut Command::new(directory.path().join(name)));
        assert_eq!(ask("tool").unwrap().stdout, b"tool 1.2\n");
        assert_eq!(ask("bad").unwrap_err().to_string(), "no config");
    }

    #[test]
    fn a_program_that_hangs_is_not_waited_for() {
        let (directory, mut host) = host(&[("hangs", "/bin/sleep 60")]);
        host.patience = Duration::from_millis(100);
        let error = host.ask(&mut Command::new(directory.path().join("hangs"))).unwrap_err();
        assert_eq!(error.to_string(), "did not answer within 0.1 s");
    }
}
