//! What commands do, as far as that shows without doing it.

use std::fs;
use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;
use psbench::cli::{Cli, Command};
use psbench::trace::STAGES;

use super::page::root;
use super::place::{Place, psbench};

/// What is wrong with a command.
pub(crate) fn check(line: &str, place: &Place) -> Result<(), String> {
    let words = words(line)?;
    let is_assignment = |word: &&String| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|it| it.is_ascii_uppercase() || it == '_'))
    };
    let words: Vec<&str> =
        words.iter().skip_while(|word| *word == "sudo" || is_assignment(word)).map(String::as_str).collect();
    match &words[..] {
        ["psbench", arguments @ ..] => of_psbench(psbench(), arguments, place),
        ["python", "-m", "psbench.run.stream_scaling", arguments @ ..] => {
            exists("executors/python/psbench/run/stream_scaling.py")?;
            of_psbench(psbench(), &[&["stream-scaling"], arguments].concat(), place)
        }
        ["python", file] => exists(file),
        ["cargo", arguments @ ..] => of_cargo(arguments, place),
        ["./test.sh", arguments @ ..] => {
            let script = fs::read_to_string(root().join("test.sh")).map_err(|error| error.to_string())?;
            let known =
                |option: &str| script.split(|it: char| !(it.is_alphanumeric() || it == '-')).any(|it| it == option);
            let unknown = arguments.iter().find(|word| word.starts_with("--") && !known(word));
            unknown.map_or(Ok(()), |option| Err(format!("test.sh does not know {option}")))
        }
        ["examples/two-facilities.sh", arguments @ ..] => of_two_facilities(arguments),
        ["pip", "install", package] => of_pip(package),
        ["duckdb", "-c", query] => of_traces(query),
        // Others' affairs.
        ["mkdir", "-p", _] | ["redis-cli", "CONFIG", "SET", _, _] => Ok(()),
        _ => Err("a command of a new kind: tell this test how to check it".to_owned()),
    }
}

fn exists(path: &str) -> Result<(), String> {
    if root().join(path).exists() { Ok(()) } else { Err(format!("there is no {path}")) }
}

/// The words of a command, its comment left out.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (_, Some(end)) if letter == end => quote = None,
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            ('\\', None) => word.get_or_insert_default().extend(letters.next()),
            ('|' | ';' | '&' | '<' | '>' | '$' | '`' | '(', None) => {
                return Err(format!("{letter} takes a shell: write a command by itself"));
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote without its end".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// Run with `--dry-run` by this program, where the command has it; parsed where it has not.
fn of_psbench(program: &Path, arguments: &[&str], place: &Place) -> Result<(), String> {
    let parsed = Cli::try_parse_from([&["psbench"], arguments].concat());
    let command = match parsed {
        // Names of a program's own are known to it alone.
        _ if program != psbench() => None,
        Ok(cli) => Some(cli.command),
        Err(error) if [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind()) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !matches!(command, None | Some(Command::StreamScaling(_) | Command::ComparePaths(_)))
        || !can_be_planned(arguments)
    {
        return Ok(());
    }
    let output = place.run(program, &[arguments, &["--dry-run"]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || output.stdout.is_empty() || told.contains("has no effect") {
        Err(told)
    } else {
        Ok(())
    }
}

/// Whether a plan takes no more than what is here.
fn can_be_planned(arguments: &[&str]) -> bool {
    // An endpoint is asked for its address.
    let asks = arguments.contains(&"--ps-endpoints");
    let kafka = !arguments.contains(&"kafka") || cfg!(feature = "kafka");
    let ssl = !arguments.iter().any(|it| it.contains("SASL_SSL")) || cfg!(feature = "kafka-ssl");
    !asks && kafka && ssl
}

fn of_cargo(arguments: &[&str], place: &Place) -> Result<(), String> {
    let after =
        |option: &str| arguments.iter().position(|it| *it == option).and_then(|at| arguments.get(at + 1)).copied();
    let package = match after("-p").or(after("--package")) {
        None | Some("psbench") => "psbench",
        Some("psbench-executors") => "executors",
        Some("psbench-connectors") => "connectors",
        Some("scistream") => "connectors/scistream",
        Some(other) => return Err(format!("there is no package {other}")),
    };
    let target = |kind: &str, name: &str| {
        let file = format!("{package}/{kind}/{name}.rs");
        exists(&file).or_else(|problem| exists(&format!("{package}/{kind}/{name}/main.rs")).map_err(|_| problem))
    };
    let has = |file: &str, line: String| {
        let text = fs::read_to_string(root().join(file)).map_err(|error| error.to_string())?;
        if text.lines().any(|it| it.starts_with(&line)) { Ok(()) } else { Err(format!("{file} has no {line}")) }
    };
    if let Some(feature) = after("--features") {
        has(&format!("{package}/Cargo.toml"), format!("{feature} = "))?;
    }
    if let Some(profile) = after("--profile") {
        has("Cargo.toml", format!("[profile.{profile}]"))?;
    }
    if let Some(bench) = after("--bench") {
        target("benches", bench)?;
    }
    if let Some(test) = after("--test") {
        target("tests", test)?;
    }
    match arguments {
        ["run", ..] => {
            let ours = arguments.iter().position(|it| *it == "--").map_or(&[][..], |at| &arguments[at + 1..]);
            match after("--example") {
                None => of_psbench(psbench(), ours, place),
                Some(example) => {
                    target("examples", example)?;
                    of_psbench(&psbench().with_file_name("examples").join(example), ours, place)
                }
            }
        }
        ["+nightly", "fuzz", "run", target, ..] => exists(&format!("fuzz/fuzz_targets/{target}.rs")),
        ["install", "--path", folder] => exists(&format!("{folder}/Cargo.toml")),
        ["deny", "--all-features", "check", checks @ ..] if !checks.is_empty() => {
            let known = fs::read_to_string(root().join("deny.toml")).map_err(|error| error.to_string())?;
            let section = |check: &&str| known.lines().any(|line| line == format!("[{check}]"));
            checks.iter().all(section).then_some(()).ok_or("deny.toml has no section of that name".to_owned())
        }
        ["build" | "bench" | "test" | "doc" | "fmt" | "clippy" | "check", ..] => Ok(()),
        _ => Err("cargo is used in a new way: tell this test how to check it".to_owned()),
    }
}

/// A folder, perhaps with what else of it is wanted.
fn of_pip(package: &str) -> Result<(), String> {
    let (folder, extra) = package.trim_end_matches(']').split_once('[').unwrap_or((package, ""));
    let project = fs::read_to_string(root().join(folder).join("pyproject.toml"));
    let project = project.map_err(|error| format!("{folder}/pyproject.toml: {error}"))?;
    let has = extra.is_empty() || project.lines().any(|line| line.starts_with(&format!("{extra} = [")));
    if has { Ok(()) } else { Err(format!("{folder}/pyproject.toml has no {extra}")) }
}

/// Its own options, then those of a sweep.
fn of_two_facilities(arguments: &[&str]) -> Result<(), String> {
    let mut rest = arguments;
    while let ["--type" | "--delay", _, more @ ..] = rest {
        rest = more;
    }
    let (benchmark, options) = match rest {
        [name @ ("stream-scaling" | "compare-paths"), options @ ..] => (*name, options),
        options => ("stream-scaling", options),
    };
    let parsed = Cli::try_parse_from([&["psbench", benchmark], options].concat());
    parsed.map(drop).map_err(|error| error.to_string())
}

/// A query on traces names columns that these have.
fn of_traces(query: &str) -> Result<(), String> {
    const OTHERS: [&str; 4] = ["method", "failure", "epoch_ns", "quantile_cont"];
    let outside_of_quotes = query.split('\'').step_by(2).collect::<Vec<_>>().join(" ");
    let names = outside_of_quotes.split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'));
    let unknown = names.filter(|name| !name.is_empty()).find(|name| !STAGES.contains(name) && !OTHERS.contains(name));
    unknown.map_or(Ok(()), |name| Err(format!("traces have no column {name}")))
}
