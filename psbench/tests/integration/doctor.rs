//! `psbench doctor` from outside: it looks at everything, whatever is missing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

use crate::support::{Gateway, NOBODY, Reference};

/// The programs of this directory, and nothing of the user's.
fn doctor(programs: &Path) -> Command {
    let mut command = Command::cargo_bin("psbench").unwrap();
    command.arg("doctor").env("PATH", programs).env("PSBENCH_CACHE", programs.join("cache")).current_dir(programs);
    for variable in ["PSBENCH_PYTHON", "PSBENCH_KAFKA_HOME"] {
        command.env_remove(variable);
    }
    command
}

fn text(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// All findings, by their names.
fn findings(command: &mut Command) -> Vec<(String, Value)> {
    let diagnosis: Value = serde_json::from_str(&text(command.arg("--json"))).unwrap();
    assert_eq!(diagnosis["psbench"], env!("CARGO_PKG_VERSION"));
    let groups = diagnosis["groups"].as_array().unwrap();
    let findings = groups.iter().flat_map(|group| group["findings"].as_array().unwrap().clone());
    findings.map(|finding| (finding["name"].as_str().unwrap().to_owned(), finding)).collect()
}

fn of<'a>(findings: &'a [(String, Value)], name: &str) -> &'a Value {
    &findings.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("{name}: {findings:#?}")).1
}

#[test]
fn without_any_program_everything_is_named_with_its_remedy() {
    let nothing = tempfile::tempdir().unwrap();
    let findings = findings(&mut doctor(nothing.path()));
    for name in ["python", "parsl, dask, globus", "mpiexec", "srun", "ssh", "redis-server", "java", "Kafka", "mvn"] {
        let finding = of(&findings, name);
        assert_eq!(finding["state"], "missing", "{finding}");
        assert!(finding["remedy"].is_string() && finding["needed_for"].is_string(), "{finding}");
    }
    for name in ["kernel", "open files", "memory", "cache", "runs"] {
        assert_eq!(of(&findings, name)["state"], "present");
    }
    let told = text(&mut doctor(nothing.path()));
    for (name, finding) in &findings {
        assert!(told.contains(&format!("  {name}  ")), "{name}\n{told}");
        let words = finding["remedy"].as_str().unwrap_or_default().split_whitespace();
        assert!(words.clone().all(|word| told.contains(word)), "{finding}\n{told}");
    }
    assert!(told.contains("→ apt-get install default-jre-headless\n"), "{told}");
    let paths = nothing.path().to_str().unwrap();
    for line in told.lines().filter(|line| !line.contains(paths)) {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert!(!nothing.path().join("cache").exists() && !nothing.path().join("runs").exists(), "it makes nothing");
}

#[test]
fn a_python_that_is_not_there_is_bad_input_where_it_was_named() {
    let nothing = tempfile::tempdir().unwrap();
    for (named, reason) in [("/no/python", "/no/python: "), ("python9", "python9: no such program on the PATH")] {
        let output = doctor(nothing.path()).args(["--python", named]).assert().code(2).get_output().clone();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with(&format!("error: --python {reason}")) && error.lines().count() == 1, "{error}");
        assert!(output.stdout.is_empty());
    }
    // What the environment names is what it finds.
    let findings = findings(doctor(nothing.path()).env("PSBENCH_PYTHON", "/no/python"));
    let python = of(&findings, "python");
    assert_eq!(python["state"], "missing");
    assert!(python["what"].as_str().unwrap().starts_with("PSBENCH_PYTHON /no/python: "), "{python}");
    assert_eq!(python["remedy"], "name another by --python or PSBENCH_PYTHON");
}

#[test]
fn programs_that_hang_are_told_and_not_waited_for() {
    let programs = tempfile::tempdir().unwrap();
    for name in ["python3", "mpiexec", "srun", "redis-server", "java"] {
        let program = programs.path().join(name);
        fs::write(&program, "#!/bin/sh\n/bin/sleep 3600\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let findings = findings(&mut doctor(programs.path()));
    for name in ["python", "mpiexec", "srun", "redis-server", "java"] {
        let finding = of(&findings, name);
        assert_eq!(finding["state"], "missing");
        assert!(finding["what"].as_str().unwrap().contains("did not answer within 5 s"), "{finding}");
    }
}

#[test]
fn control_servers_that_are_named_are_asked() {
    let nothing = tempfile::tempdir().unwrap();
    let ours = Gateway::start();
    let references = Reference::start();
    // One that takes a connection, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let named = [ours.address(), &references.address(), NOBODY, &silent];
    let ask = |timeout: &str, named: &[&str]| {
        findings(doctor(nothing.path()).args(["--insecure", "--timeout", timeout, "--s2cs"]).args(named))
    };
    let found = [ask("100s", &named[..3]), ask("500ms", &named[3..])].concat();
    let told = named.map(|address| of(&found, &format!("S2CS {address}")));
    assert_eq!(told.map(|finding| finding["state"].as_str().unwrap()), ["present", "present", "missing", "missing"]);
    let what = told.map(|finding| finding["what"].as_str().unwrap());
    assert!(what[0].starts_with(&format!("psbench {}, types copy", env!("CARGO_PKG_VERSION"))), "{what:?}");
    assert!(what[1].contains("is not psbench's") && what[2].contains("can't connect"), "{what:?}");
    assert!(told[2..].iter().all(|finding| finding["remedy"].is_string()), "{told:#?}");
    let output = doctor(nothing.path()).arg("--insecure").assert().code(2).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--s2cs"), "{output:?}");
}

#[test]
fn this_hosts_own_python_tells_of_its_engines() {
    let cache = tempfile::tempdir().unwrap();
    let findings = findings(doctor(cache.path()).env("PATH", std::env::var_os("PATH").unwrap()));
    assert_eq!(of(&findings, "python")["state"], "present");
    for name in ["parsl", "dask", "globus"] {
        let engine = of(&findings, name);
        assert_eq!(engine["needed_for"], format!("--executor {name}"));
        assert_eq!(engine["state"] == "missing", engine["remedy"].is_string(), "{engine}");
    }
}
