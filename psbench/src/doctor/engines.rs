//! Python, and its engines.

use std::path::Path;

use psbench_executors::bridge::{CheckError, Installs, PythonEngine, Survey, check_all};

use super::{Finding, Host};

const PYTHON: &str = "python";
/// What Python alone is enough for.
const NEEDED_FOR: &str = "--executor python";
/// For other causes than those that say it themselves.
const NAME_ANOTHER: &str = "name another by --python or PSBENCH_PYTHON";

/// Python and each engine.
pub(super) fn look(host: &Host) -> Vec<Finding> {
    match survey(host) {
        Ok((survey, cache)) => there(&survey, cache),
        Err(missing) => {
            let engines =
                Finding::missing("parsl, dask, globus", "unknown without a Python", "psbench doctor, once it is there");
            vec![*missing, engines.needed_for("--executor parsl, dask, globus")]
        }
    }
}

fn survey(host: &Host) -> Result<(Survey, &Path), Box<Finding>> {
    let missing = |finding: Finding| Box::new(finding.needed_for(NEEDED_FOR));
    let python = host.python.as_ref().map_err(|error| missing(Finding::refused(PYTHON, error, NAME_ANOTHER)))?;
    let cache = host.cache.as_ref().map_err(|error| missing(Finding::refused(PYTHON, error, "set PSBENCH_CACHE")))?;
    let Some(program) = host.find(python) else {
        let remedy = "apt-get install python3 python3-venv, or name one by --python or PSBENCH_PYTHON";
        return Err(missing(Finding::missing(PYTHON, format!("no {} on the PATH", python.display()), remedy)));
    };
    let otherwise = |error: &CheckError| match error {
        CheckError::Package { .. } => "set PSBENCH_CACHE to a directory that can be written",
        CheckError::Python { .. } | CheckError::Engine(_) => NAME_ANOTHER,
    };
    let survey = check_all(&program, cache, host.patience);
    Ok((survey.map_err(|error| missing(Finding::refused(PYTHON, &error, otherwise(&error))))?, cache))
}

fn there(survey: &Survey, cache: &Path) -> Vec<Finding> {
    let executable = survey.executable.display();
    let python = Finding::present(PYTHON, format!("{}, {executable}", survey.python)).needed_for(NEEDED_FOR);
    let packages = survey.engines.iter().filter_map(|engine| Some((engine, engine.package.as_deref()?)));
    let complete = packages.clone().all(|(engine, _)| engine.version.is_some());
    let environment = cache.join("venv");
    let pip = match survey.installs {
        Installs::Here => format!("{executable} -m pip"),
        Installs::Environment | Installs::Nowhere => format!("{}/bin/pip", environment.display()),
    };
    let make = format!("{executable} -m venv {0}\nexport PSBENCH_PYTHON={0}/bin/python", environment.display());
    let first = match survey.installs {
        Installs::Here => None,
        Installs::Environment => Some(make),
        Installs::Nowhere => Some(format!("apt-get install python3-venv\n{make}")),
    };
    let python = match first.filter(|_| !complete) {
        Some(first) => python.remarked("what it lacks goes into an environment of its own, to be made first:", first),
        None => python,
    };
    let mut findings = vec![python];
    findings.extend(packages.map(|(PythonEngine { name, version, .. }, package)| {
        let finding = match version {
            Some(version) => Finding::present(name, version),
            None => Finding::missing(name, format!("{package} is not installed"), format!("{pip} install {package}")),
        };
        finding.needed_for(format!("--executor {name}"))
    }));
    findings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::State;
    use super::super::host::tests::host;
    use super::*;

    /// Says this of itself.
    fn python(installs: &str, parsl: &str) -> String {
        format!(
            r#"echo '{{"python": "3.12.1", "executable": "/py", "installs": "{installs}", "engines": [
                {{"name": "parsl", "package": "parsl", "version": {parsl}}},
                {{"name": "dask", "package": "distributed", "version": "2026.1"}},
                {{"name": "python", "package": null, "version": "3.12.1"}}]}}' | /usr/bin/tr -d '\n'"#
        )
    }

    #[test]
    fn what_python_lacks_is_installed_where_it_can_be() {
        let (_directory, host) = host(&[("python3", &python("here", "null"))]);
        let findings = look(&host);
        assert_eq!(findings.len(), 3, "{findings:#?}");
        assert_eq!(findings[0].what, "3.12.1, /py");
        assert_eq!(
            (findings[1].state, findings[1].remedy.as_deref()),
            (State::Missing, Some("/py -m pip install parsl"))
        );
        assert_eq!((findings[2].state, &*findings[2].what), (State::Present, "2026.1"));
    }

    #[test]
    fn the_systems_own_python_gets_an_environment() {
        let (directory, host) = host(&[("python3", &python("nowhere", "null"))]);
        let findings = look(&host);
        let make = findings[0].remedy.as_deref().unwrap();
        let venv = directory.path().join("cache/venv");
        let expected = format!("apt-get install python3-venv\n/py -m venv {0}\nexport", venv.display());
        assert!(make.starts_with(&expected), "{make}");
        assert_eq!(findings[1].remedy, Some(format!("{}/bin/pip install parsl", venv.display())));

        let (_directory, host) = super::super::host::tests::host(&[("python3", &python("nowhere", "\"1\""))]);
        assert_eq!(look(&host)[0].remedy, None, "nothing is missing");
    }

    #[test]
    fn a_python_that_is_of_no_use_is_told_with_the_remedy() {
        let told = |programs: &[(&str, &str)], patience: Option<Duration>| {
            let (_directory, mut host) = host(programs);
            host.patience = patience.unwrap_or(host.patience);
            let findings = look(&host);
            assert!(findings.iter().all(|it| it.state == State::Missing && it.remedy.is_some()), "{findings:#?}");
            assert!(findings[0].remedy.as_deref().unwrap().contains("PSBENCH_PYTHON"), "{findings:#?}");
            findings[0].what.clone()
        };
        assert_eq!(told(&[], None), "no python3 on the PATH");
        let hangs = told(&[("python3", "/bin/sleep 60")], Some(Duration::from_millis(200)));
        assert!(hangs.ends_with("can't be run (did not answer within 0.2 s)"), "{hangs}");
        assert_eq!(told(&[("python3", "echo No module >&2; exit 1")], None), "No module");
    }
}
