//! Where nobody reads what psbench tells, or nothing more can be written, a run goes on, and its results are on disk.

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

use crate::support::{Bench, assert_complete, finish, text};

const RUN: &str =
    "--executor thread --max-workers 2 --data-size-bytes 1kB 2kB --task-count 20 --task-sleep 0 --log-level DEBUG";

/// Which of its outputs can't be written.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn assert_kept(bench: &Bench) {
    let results = bench.results();
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    trials.iter().for_each(assert_complete);
}

#[test]
fn a_closed_output_ends_no_run() {
    let bench = Bench::new();
    let mut run = bench.command(RUN).spawn().unwrap();
    drop((run.stdout.take(), run.stderr.take()));
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_kept(&bench);
}

#[test]
fn a_full_output_ends_no_run() {
    let bench = Bench::new();
    let output = finish(bench.command(RUN).stderr(full()).spawn().unwrap());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_kept(&bench);

    let bench = Bench::new();
    let output = finish(bench.command(RUN).stdout(full()).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("error: cannot print: No space left on device"), "{}", text(&output));
    assert_kept(&bench);
}

#[test]
fn bad_input_and_help_need_no_output() {
    for (arguments, code) in [("stream-scaling --stream nothing", 2), ("stream-scaling --help", 0), ("doctor", 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
        let output = command.args(arguments.split(' ')).stdout(full()).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}");
    }
}

#[test]
fn a_file_that_may_not_grow_is_told_by_name() {
    let bench = Bench::new();
    let run = bench.command(RUN);
    // In units of 1024 bytes: less than the results of one trial.
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    let output: Output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("File too large"), "{}", text(&output));
}
