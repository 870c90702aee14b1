//! A psbench that is replaced while it runs goes on as it was, or says so.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bench, assert_complete, finish, text, wait_until};

/// A copy of the program, in a directory of its own.
fn copy(directory: &Path) -> PathBuf {
    let program = directory.join("psbench");
    fs::copy(env!("CARGO_BIN_EXE_psbench"), &program).unwrap();
    program
}

/// As an upgrade does it.
fn replace(program: &Path) {
    let other = program.with_extension("new");
    fs::write(&other, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(other, program).unwrap();
}

#[test]
fn one_that_is_replaced_before_it_has_its_options_does_not_begin() {
    let directory = tempfile::tempdir().unwrap();
    let program = copy(directory.path());
    let recipe = directory.path().join("recipe");
    assert!(Command::new("mkfifo").arg(&recipe).status().unwrap().success());
    let bench = Bench::new();
    let run = bench.command_of(&program, &format!("--executor mpi --recipe {}", recipe.display())).spawn().unwrap();
    // Once it reads.
    let mut options = File::options().write(true).open(&recipe).unwrap();
    replace(&program);
    options.write_all(b"task-count = 3").unwrap();
    drop(options);
    let output = finish(run);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("was replaced or removed since this psbench began"), "{}", text(&output));
}

const TRIALS: &str =
    "--max-workers 2 --stream-method default proxy --data-size-bytes 1kB --task-count 30 --rate 20 --repeat 2";

#[test]
fn later_trials_are_those_of_the_program_that_runs() {
    let directory = tempfile::tempdir().unwrap();
    let program = copy(directory.path());
    let bench = Bench::new();
    let arguments = format!("--executor process {TRIALS} --ps-connector scistream");
    let run = bench.command_of(&program, &arguments).spawn().unwrap();
    wait_until("the first trial has ended", || bench.log().contains("[1/4]"));
    replace(&program);
    let output = finish(run);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let results = bench.results();
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    trials.iter().for_each(assert_complete);
}

#[test]
fn workers_that_others_start_are_no_other_program() {
    let directory = tempfile::tempdir().unwrap();
    let program = copy(directory.path());
    let bench = Bench::new();
    let run = bench.command_of(&program, &format!("--executor mpi {TRIALS}")).spawn().unwrap();
    wait_until("the first trial has ended", || bench.log().contains("[1/4]"));
    replace(&program);
    let output = finish(run);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains(&format!("psbench at {} was replaced", program.display())), "{said}");
    assert_complete(&bench.results()["trials"][0]);
}
