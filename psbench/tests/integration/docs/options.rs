//! Which options there are.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};
use psbench::cli::Cli;

/// Options of other programs that the text names.
const FOREIGN: [(&str, &[&str]); 4] = [
    ("cargo", &["--features", "--no-default-features", "--path"]),
    ("test.sh", &["--all"]),
    ("srun", &["--export", "--input", "--kill-on-bad-exit", "--overlap", "--quiet", "--unbuffered", "--wait"]),
    ("examples/two-facilities.sh", &["--delay", "--at"]),
];

/// All options of psbench, hidden ones and other names for them, too.
pub(crate) fn all() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    add(&Cli::command(), &mut known);
    known.extend(["--help", "--version"].map(str::to_owned));
    known.extend(FOREIGN.iter().flat_map(|(_, options)| options.iter()).map(|option| (*option).to_owned()));
    known
}

fn add(command: &Command, known: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        let names = argument.get_long().into_iter().chain(argument.get_all_aliases().into_iter().flatten());
        known.extend(names.map(|name| format!("--{name}")));
    }
    command.get_subcommands().for_each(|sub| add(sub, known));
}

/// The options that a text names; one that ends in `-` is the beginning of several, as `--scistream-…`.
pub(crate) fn named_in(text: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || ['-', '_'].contains(&letter);
    let mut options = Vec::new();
    for (at, _) in text.match_indices("--") {
        let before = text[..at].chars().next_back();
        let rest = &text[at + 2..];
        if before.is_some_and(|letter| is_part(letter) || letter.is_alphanumeric())
            || !rest.starts_with(|letter: char| letter.is_ascii_lowercase())
        {
            continue;
        }
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        options.push(format!("--{}", &rest[..end]));
    }
    options
}

/// Whether there is this option, or there are several that begin so.
pub(crate) fn is_known(option: &str, known: &BTreeSet<String>) -> bool {
    known.contains(option) || (option.ends_with('-') && known.iter().any(|other| other.starts_with(option)))
}
