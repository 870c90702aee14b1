//! A directory in which what the pages take for granted is there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::page::root;

/// Hosts that pages name, and others for them that have addresses.
const STAND_INS: [(&str, &str); 4] = [
    ("gw1.example.org", "127.0.0.1"),
    ("gw2.example.org", "127.0.0.2"),
    ("gw3.example.org", "127.0.0.3"),
    ("gw4.example.org", "127.0.0.4"),
];

/// Where commands are run.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for folder in ["runs", "examples", "executors"] {
            symlink(root().join(folder), place.0.path().join(folder)).unwrap();
        }
        for gateway in ["gw1", "gw2", "both"] {
            let made = place.run(
                psbench(),
                &[
                    "s2cs",
                    "init",
                    "--san",
                    gateway,
                    "--cert",
                    &format!("{gateway}.crt"),
                    "--key",
                    &format!("{gateway}.key"),
                ],
            );
            assert!(made.status.success(), "{made:?}");
        }
        for (file, text) in
            [("token", "abcdefghijklmnop\n"), ("tokens", "me abcdefghijklmnop\n"), ("site.py", "config = None\n")]
        {
            let path = place.0.path().join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        place
    }

    /// Runs a program here, with addresses in place of hosts that are nowhere.
    pub(crate) fn run(&self, program: &Path, arguments: &[impl AsRef<str>]) -> Output {
        let arguments = arguments.iter().map(|argument| {
            let text = argument.as_ref().to_owned();
            STAND_INS.iter().fold(text, |text, (host, address)| text.replace(host, address))
        });
        Command::new(program).args(arguments).current_dir(self.0.path()).output().unwrap()
    }
}

/// The program.
pub(crate) fn psbench() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_psbench"))
}
