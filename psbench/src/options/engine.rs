//! Options of engines that reach past this process.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::checks::{absolute, within};
use super::choices::{ParslExecutor, choose};
use super::{OptionError, StreamScalingOptions};
use crate::image;
use crate::plan::{EnginePlan, ExecutorKind, Launch, LauncherKind, OwnExecutorPlan, Placement, SubmitMode};
use crate::sweep::OWN_EXECUTORS;
use crate::units::Seconds;

/// More items in one task are a mistake.
const MOST_BATCHED: u32 = 100_000;
const ENGINE_TIMEOUT: Seconds = Seconds::from_millis(120_000);
/// Has Python's program where --python does not.
const PYTHON_VARIABLE: &str = "PSBENCH_PYTHON";

impl StreamScalingOptions {
    /// The engine behind an executor, `None` where it has none.
    pub(super) fn engine(&mut self, executor: ExecutorKind) -> Result<Option<EnginePlan>, OptionError> {
        let placement = match executor {
            ExecutorKind::Dask => self.dask()?,
            ExecutorKind::Globus => self.globus()?,
            ExecutorKind::Parsl => self.parsl()?,
            ExecutorKind::Python => self.python_engine()?,
            ExecutorKind::Mpi => self.launcher(LauncherKind::Mpi),
            ExecutorKind::Slurm => self.launcher(LauncherKind::Slurm),
            ExecutorKind::Ssh if self.hosts.is_empty() => {
                return Err(OptionError::Missing { option: "--hosts", needed_by: "--executor ssh" });
            }
            ExecutorKind::Ssh => self.launcher(LauncherKind::Ssh),
            ExecutorKind::Process | ExecutorKind::Thread | ExecutorKind::Own(_) => return Ok(None),
        };
        let is_launcher = matches!(placement, Placement::Launcher(_));
        let submit = *self.submit.get_or_insert(if is_launcher { SubmitMode::Pilot } else { SubmitMode::Task });
        if is_launcher && submit == SubmitMode::Task {
            let problem = format!("--executor {} only places workers; write pilot", executor.name());
            return Err(OptionError::invalid("--submit", &submit.name(), problem));
        }
        let batch = match submit {
            SubmitMode::Task => within("--submit-batch", *self.submit_batch.get_or_insert(1), 1..=MOST_BATCHED)?,
            SubmitMode::Pilot => 1,
        };
        let ready_timeout = self.ready_timeout()?;
        let worker_program = self.worker_program()?;
        let through = self.worker_path()?;
        let door = self.door(through.as_ref())?;
        Ok(Some(EnginePlan { placement, submit, batch, door, through, worker_program, ready_timeout }))
    }

    /// What an executor that the program brings with it is given, `None` for all others.
    pub(super) fn own_executor(&mut self, executor: ExecutorKind) -> Result<Option<OwnExecutorPlan>, OptionError> {
        const OPTION: &str = "--executor-option";
        let ExecutorKind::Own(name) = executor else { return Ok(None) };
        let pair = |text: &String| {
            let (name, value) = text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| OptionError::invalid(OPTION, text, "write NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let options = self.executor_option.iter().map(pair).collect::<Result<_, OptionError>>()?;
        if let Some(factory) = OWN_EXECUTORS.get(name) {
            factory.check(&options).map_err(|problem| OptionError::invalid("--executor", &name, problem))?;
        }
        let ready_timeout = self.ready_timeout()?;
        Ok(Some(OwnExecutorPlan {
            options,
            door: self.door(None)?,
            worker_program: self.worker_program()?,
            ready_timeout,
        }))
    }

    fn ready_timeout(&mut self) -> Result<Duration, OptionError> {
        let timeout = self.engine_timeout.get_or_insert(ENGINE_TIMEOUT).duration();
        if timeout < Duration::from_secs(1) {
            let problem = "no engine starts in that time; write 1 or more";
            return Err(OptionError::invalid("--engine-timeout", &humantime::format_duration(timeout), problem));
        }
        Ok(timeout)
    }

    fn python_with(&mut self, engine: &'static str, options: Value) -> Result<Placement, OptionError> {
        let python = choose_python(self.python.take())?;
        Ok(Placement::Python { python: self.python.insert(python).clone(), engine, options })
    }

    fn python_engine(&mut self) -> Result<Placement, OptionError> {
        let Some(factory) = self.python_executor.clone() else {
            return Err(OptionError::Missing { option: "--python-executor", needed_by: "--executor python" });
        };
        self.python_with("python", json!({"factory": factory}))
    }

    fn dask(&mut self) -> Result<Placement, OptionError> {
        let threads = *self.dask_use_threads.get_or_insert(false);
        let scheduler = self.dask_scheduler.clone();
        self.python_with("dask", json!({"scheduler": scheduler, "use_threads": threads}))
    }

    fn globus(&mut self) -> Result<Placement, OptionError> {
        const OPTION: &str = "--globus-compute-endpoint";
        let Some(endpoint) = self.globus_compute_endpoint.clone() else {
            return Err(OptionError::Missing { option: OPTION, needed_by: "--executor globus" });
        };
        if endpoint.parse::<Uuid>().is_err() {
            let problem = "not a UUID; `globus-compute-endpoint list` shows those of a host's endpoints";
            return Err(OptionError::invalid(OPTION, &endpoint, problem));
        }
        self.python_with("globus", json!({"endpoint": endpoint}))
    }

    fn parsl(&mut self) -> Result<Placement, OptionError> {
        const CONFIG: &str = "--parsl-config";
        if let Some(path) = &self.parsl_config {
            if self.parsl_executor.is_some() {
                let problem = "the configuration has executors of its own; leave out --parsl-executor";
                return Err(OptionError::invalid(CONFIG, &path.display(), problem));
            }
            let config = absolute(CONFIG, path)?;
            std::fs::metadata(&config).map_err(|source| file(CONFIG, path, source))?;
            let options = json!({"config": config});
            self.parsl_config = Some(config);
            return self.python_with("parsl", options);
        }
        let name = self.parsl_executor.get_or_insert_with(|| "htex-local".into()).clone();
        choose::<ParslExecutor>(&name)?;
        self.python_with("parsl", json!({"executor": name}))
    }

    fn launcher(&self, kind: LauncherKind) -> Placement {
        Placement::Launcher(Launch {
            kind,
            program: self.launcher.clone().unwrap_or_else(|| kind.program().to_owned()),
            options: self.launcher_option.clone(),
            hosts: self.hosts.clone(),
        })
    }

    fn worker_program(&self) -> Result<String, OptionError> {
        const OPTION: &str = "--worker-program";
        let path = match &self.worker_program {
            Some(path) => path.clone(),
            None => own_program().map_err(|source| file(OPTION, Path::new("psbench"), source))?,
        };
        path.into_os_string()
            .into_string()
            .map_err(|path| OptionError::invalid(OPTION, &path.display(), "not UTF-8; write a path that is"))
    }
}

/// Where the program that runs lies, for workers that others start.
fn own_program() -> io::Result<PathBuf> {
    let path = env::current_exe()?;
    if image::is_at(&path).unwrap_or(false) {
        return Ok(path);
    }
    Err(io::Error::other(
        "was replaced or removed since this psbench began, and workers would be another one: start it anew",
    ))
}

/// The Python of engines: the one given, or `$PSBENCH_PYTHON`, or that of the virtual environment psbench is installed in, or `python3`.
///
/// # Errors
/// It is a path at which nothing is.
pub(crate) fn choose_python(given: Option<PathBuf>) -> Result<PathBuf, OptionError> {
    let (option, python) = match (given, env::var_os(PYTHON_VARIABLE).filter(|value| !value.is_empty())) {
        (Some(python), _) => ("--python", python),
        (None, Some(python)) => (PYTHON_VARIABLE, python.into()),
        (None, None) => {
            let own = env::current_exe().ok().and_then(|program| python_of_environment(&program));
            return Ok(own.unwrap_or_else(|| "python3".into()));
        }
    };
    // A name alone is looked up on the PATH; a path must not depend on where a worker is.
    if python.components().count() <= 1 {
        return Ok(python);
    }
    let path = absolute(option, &python)?;
    if path.exists() { Ok(path) } else { Err(file(option, &python, io::ErrorKind::NotFound.into())) }
}

/// The Python of the virtual environment that a program is installed in, if it is in one.
fn python_of_environment(program: &Path) -> Option<PathBuf> {
    let programs = program.parent()?;
    let python = programs.join("python3");
    (programs.parent()?.join("pyvenv.cfg").exists() && python.exists()).then_some(python)
}

fn file(option: &'static str, path: &Path, source: io::Error) -> OptionError {
    OptionError::File { option, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_program_in_a_virtual_environment_uses_that_ones_python() {
        let environment = tempfile::tempdir().unwrap();
        let programs = environment.path().join("bin");
        fs::create_dir(&programs).unwrap();
        let python = programs.join("python3");
        fs::write(&python, "").unwrap();
        assert_eq!(python_of_environment(&programs.join("psbench")), None, "a directory of programs like /usr/bin");
        fs::write(environment.path().join("pyvenv.cfg"), "").unwrap();
        assert_eq!(python_of_environment(&programs.join("psbench")), Some(python));
    }

    fn plan(change: impl FnOnce(&mut StreamScalingOptions)) -> Result<EnginePlan, String> {
        let mut options =
            StreamScalingOptions { ps_connector: Some("redis".into()), ..StreamScalingOptions::default() };
        change(&mut options);
        let planned = options.plan().map_err(|error| error.to_string())?;
        Ok(planned.plan.settings.engine.clone().unwrap())
    }

    #[test]
    fn engines_are_planned_as_asked() {
        let dask = plan(|options| options.executor = Some("dask".into())).unwrap();
        assert_eq!((dask.submit, dask.batch), (SubmitMode::Task, 1));
        assert!(matches!(&dask.placement, Placement::Python { engine: "dask", .. }), "{dask:?}");
        assert_eq!(dask.door.listen, Ipv4Addr::LOCALHOST, "nobody else is let in unless told otherwise");
        let mpi = plan(|options| {
            options.executor = Some("mpi".into());
            options.launcher_option = vec!["--map-by".into(), "node".into()];
            options.worker_listen = Some(Ipv4Addr::UNSPECIFIED.into());
        });
        let mpi = mpi.unwrap();
        assert_eq!(mpi.submit, SubmitMode::Pilot);
        assert!(matches!(&mpi.placement, Placement::Launcher(launch) if launch.options.len() == 2), "{mpi:?}");
        assert!(mpi.door.advertise.is_some_and(|told| !told.host.is_empty() && told.host != "0.0.0.0"));
    }

    #[test]
    fn a_generator_stays_here_where_workers_elsewhere_could_not_reach_this_host() {
        use crate::plan::GeneratorKind::{Internal, Local};
        let pasted = |change: &dyn Fn(&mut StreamScalingOptions)| {
            let mut options = StreamScalingOptions {
                executor: Some("globus".into()),
                globus_compute_endpoint: Some(Uuid::nil().to_string()),
                ps_connector: Some("redis".into()),
                stream: Some("redis".into()),
                max_workers: vec![1],
                ..StreamScalingOptions::default()
            };
            change(&mut options);
            let planned = options.plan().unwrap();
            let again = planned.options.plan().unwrap();
            assert_eq!(again.plan.settings.generator, planned.plan.settings.generator);
            assert!(!again.notes.iter().any(|note| note.contains("generator")), "what is recorded says it");
            let trial = &planned.plan.trials[0];
            (trial.settings.generator, trial.compute_workers(), planned.notes)
        };
        let polaris = |options: &mut StreamScalingOptions| {
            options.executor = Some("parsl".into());
            options.parsl_executor = Some("htex-polaris-headless".into());
            options.globus_compute_endpoint = None;
        };
        let embedded = |options: &mut StreamScalingOptions| {
            options.stream = None;
            options.worker_listen = Some(Ipv4Addr::UNSPECIFIED.into());
        };
        for pasted in [pasted(&|_| ()), pasted(&polaris), pasted(&embedded)] {
            assert_eq!((pasted.0, pasted.1), (Local, 1));
            let note = &pasted.2[0];
            assert!(
                note.starts_with("--generator local is taken") && note.contains("--worker-listen 0.0.0.0"),
                "{note}"
            );
        }
        let reached = pasted(&|options| {
            options.worker_listen = Some(Ipv4Addr::UNSPECIFIED.into());
            options.max_workers = vec![2];
        });
        assert_eq!(reached, (Internal, 1, Vec::new()));
    }

    #[test]
    fn what_an_engine_lacks_is_named() {
        let refused = |executor: &str, change: &dyn Fn(&mut StreamScalingOptions)| {
            plan(|options| {
                options.executor = Some(executor.into());
                change(options);
            })
            .unwrap_err()
        };
        assert_eq!(refused("python", &|_| ()), "--executor python needs --python-executor");
        assert_eq!(refused("globus", &|_| ()), "--executor globus needs --globus-compute-endpoint");
        assert_eq!(refused("ssh", &|_| ()), "--executor ssh needs --hosts");
        let no_uuid = refused("globus", &|options| options.globus_compute_endpoint = Some("mine".into()));
        assert!(no_uuid.starts_with("--globus-compute-endpoint mine: not a UUID; "), "{no_uuid}");
        let task = refused("slurm", &|options| options.submit = Some(SubmitMode::Task));
        assert_eq!(task, "--submit task: --executor slurm only places workers; write pilot");
        let unknown = refused("parsl", &|options| options.parsl_executor = Some("htex".into()));
        assert!(unknown.starts_with("--parsl-executor htex: unknown; there are: thread, htex-local"), "{unknown}");
        let missing = refused("parsl", &|options| options.parsl_config = Some("nowhere.py".into()));
        assert!(missing.starts_with("--parsl-config nowhere.py: No such file"), "{missing}");
        let missing = refused("dask", &|options| options.python = Some("no/where/python".into()));
        assert!(missing.starts_with("--python no/where/python: "), "{missing}");
    }
}
