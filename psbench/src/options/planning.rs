//! From options to a plan: what to run, where results go, and what to tell the user.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use psbench_connectors::ConnectorSpec;

use super::checks::within;
use super::effect::{Chosen, without_effect};
use super::interop::{EXTERNAL, one_trial};
use super::{OptionError, StreamScalingOptions};
use crate::brokers::BrokerChoice;
use crate::logging::LogLevel;
use crate::plan::{
    EnginePlan, ExecutorKind, GeneratorKind, Method, ObjectLifetime, Settings, SubmitMode, SweepPlan, TaskKind,
    TrialPlan,
};
use crate::results::{CHART, RESULTS_JSON};
use crate::sweep::OWN_EXECUTORS;
use crate::units::{Seconds, Size};

/// Where runs go unless told otherwise.
pub(crate) const RUN_DIR: &str = "runs";

/// A sweep that is ready to run.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The benchmark, with whose name the run's directory begins.
    pub benchmark: &'static str,
    /// What to run.
    pub plan: SweepPlan,
    /// The options with the defaults that were used, for the record.
    pub options: StreamScalingOptions,
    /// Where results and logs go.
    pub outputs: Outputs,
    /// What the user may not have meant, a line each.
    pub notes: Vec<String>,
}

/// Where results and logs go.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The directory in which the run's own is made.
    pub run_dir: PathBuf,
    /// The table of results: a name in the run's directory.
    pub csv_file: PathBuf,
    /// The log: a name in the run's directory.
    pub log_file: PathBuf,
    /// Whether to keep a trace of each trial.
    pub trace: bool,
    /// What is logged at the terminal.
    pub log_level: LogLevel,
    /// What is logged in the log file.
    pub log_file_level: LogLevel,
}

const TASK_COUNT: u64 = 500;
const TASK_SLEEP: Seconds = Seconds::from_millis(0);
const TOPIC: &str = "stream-benchmark-data";
/// An engine has a queue of its own, and its users fill it: without, its workers would wait for each answer's way back. But one that
/// has more workers than were asked for would compute more tasks at a time.
const PREFETCH_AT_ENGINES: u32 = 15;
/// More repetitions or waiting tasks than this are mistakes, which would only exhaust memory.
const MOST: u32 = 1_000_000;

impl StreamScalingOptions {
    /// Checks the options, fills in the defaults and works out what to run.
    ///
    /// # Errors
    /// The first option that makes no sweep.
    pub fn plan(&self) -> Result<Planned, OptionError> {
        if !self.paths.is_empty() {
            return Err(OptionError::Elsewhere { option: "paths".into(), command: "psbench stream-scaling" });
        }
        let (mut planned, chosen) = self.work_out()?;
        planned.notes.extend(without_effect(&self.given()?, &chosen));
        Ok(planned)
    }

    /// As [`plan`](Self::plan), but without the notes on options that have no effect beside what was chosen.
    pub(super) fn work_out(&self) -> Result<(Planned, Vec<Chosen>), OptionError> {
        let mut options = self.clone();
        let mut notes = Vec::new();

        let asked_for = options.generator.is_some();
        let generator = options.generator()?;
        let executor = options.executor()?;
        let engine = options.engine(executor)?;
        let own_executor = options.own_executor(executor)?;
        let methods = options.methods(&mut notes)?;
        let sizes = options.data_sizes(&mut notes)?;
        let task_count = within("--task-count", *options.task_count.get_or_insert(TASK_COUNT), 1..=u32::MAX.into())?;
        let broker = options.broker(&methods, &sizes)?;
        let generator = match &engine {
            Some(engine) if !asked_for => options.generator_for(engine, &broker, &mut notes),
            _ => generator,
        };
        let generators = options.generators(generator, task_count)?;
        // A generator beside psbench takes none of an engine's workers.
        let placed = if generator == GeneratorKind::Local && engine.is_some() { 0 } else { generators };
        let (workers, pool_workers) = options.workers(executor, placed, &mut notes)?;
        let lifetime = options.lifetime(&mut notes)?;
        let connector = options.connector(&sizes, &mut notes)?;
        check_reach((executor, engine.as_ref()), generator, &broker, &connector, &methods)?;
        if lifetime == ObjectLifetime::Static && methods.contains(&Method::Proxy) && !connector.outlives_process() {
            let problem =
                format!("objects of the {} connector end with their trial; use redis or file", connector.name());
            return Err(OptionError::invalid("--ps-lifetime", &"static", problem));
        }
        // By the connector's name as it was typed.
        self.check_interop(&broker, &connector, &methods, generators)?;
        options.check_port(&connector, &methods, generators)?;
        let queues =
            engine.as_ref().is_some_and(|engine| engine.submit == SubmitMode::Task && !engine.has_a_size_of_its_own());
        let prefetch = if queues { PREFETCH_AT_ENGINES } else { 0 };
        let prefetch = within("--prefetch", *options.prefetch.get_or_insert(prefetch), 0..=MOST)?;
        let submit = engine.as_ref().map(|engine| engine.submit.name());
        let through = engine.as_ref().is_some_and(|engine| engine.through.is_some());
        let chosen = chosen(&methods, (executor, submit, through), &connector, &broker, generator);
        if generator == GeneratorKind::Local && engine.is_none() {
            notes.push(format!("--generator local makes no difference with --executor {}", executor.name()));
        }

        let pool = options.worker_pool(&workers, pool_workers, generators)?;
        let settings = Settings {
            executor,
            engine,
            own_executor,
            pool_workers,
            pool,
            task_timeout: options.task_limit()?,
            generator,
            generators,
            broker,
            topic: options.stream_topic.get_or_insert_with(|| TOPIC.into()).clone(),
            connector,
            task_count,
            task: *options.task.get_or_insert(TaskKind::Sleep),
            task_sleep: options.task_sleep.get_or_insert(TASK_SLEEP).duration(),
            pacing: options.rate.map(Into::into),
            prefetch,
            max_inflight_bytes: options.max_inflight(&sizes)?,
            max_inflight_items: options.inflight_items(generators)?,
            payload: options.payload(&mut notes)?,
            seed: options.seed,
            verify: *options.verify.get_or_insert(false),
            lifetime,
            deadline: options.deadline.map(Seconds::duration),
            timeout: options.timeout()?,
            cache_bytes: options.cache(&mut notes),
        };
        let repeat = within("--repeat", *options.repeat.get_or_insert(1), 1..=MOST)?;
        let settings = Arc::new(settings);
        let trials = trials(&settings, &workers, &sizes, repeat, &methods);
        let paced = trials.iter().all(|trial| trial.inflight_items().is_none());
        if options.max_inflight_items.is_some() && paced && generator != GeneratorKind::External {
            notes.push(
                "--max-inflight-items has no effect where items are due at a rate; it goes with --rate max".into(),
            );
        }
        if generator == GeneratorKind::External {
            const ONCE: &str = "one --data-size-bytes, one --stream-method, one --max-workers and no --repeat";
            one_trial(EXTERNAL, ONCE, &trials)?;
        }
        let outputs = options.outputs()?;
        let plan = SweepPlan { settings, trials };
        Ok((Planned { benchmark: "stream-scaling", plan, options, outputs, notes }, chosen))
    }

    /// Who generates where nobody said so: workers of the engine, unless they are elsewhere and could reach neither broker nor dispatcher.
    fn generator_for(&mut self, engine: &EnginePlan, broker: &BrokerChoice, notes: &mut Vec<String>) -> GeneratorKind {
        // Workers that get their items from the dispatcher have to reach it whoever generates.
        let in_vain = engine.submit == SubmitMode::Pilot && engine.keeps_out();
        if !engine.is_elsewhere() || in_vain || (*broker != BrokerChoice::Memory && !engine.keeps_out()) {
            return GeneratorKind::Internal;
        }
        notes.push(format!(
            "--generator local is taken, as workers on other hosts could not reach this one: to have one of them generate, write \
             --generator internal, --worker-listen 0.0.0.0 and {REACHED_BROKER}"
        ));
        *self.generator.insert(GeneratorKind::Local)
    }

    fn outputs(&mut self) -> Result<Outputs, OptionError> {
        let csv_file = self.csv_file.get_or_insert_with(|| "results.csv".into());
        let log_file = self.log_file.get_or_insert_with(|| "log.txt".into());
        own_name("--csv-file", csv_file, &[])?;
        own_name("--log-file", log_file, &[csv_file])?;
        Ok(Outputs {
            csv_file: csv_file.clone(),
            log_file: log_file.clone(),
            trace: *self.trace.get_or_insert(false),
            run_dir: self.run_dir.get_or_insert_with(|| RUN_DIR.into()).clone(),
            log_level: *self.log_level.get_or_insert(LogLevel::Bench),
            log_file_level: *self.log_file_level.get_or_insert(LogLevel::Info),
        })
    }
}

/// What the options that choose implementations have chosen.
fn chosen(
    methods: &[Method],
    (executor, submit, through): (ExecutorKind, Option<&str>, bool),
    connector: &ConnectorSpec,
    broker: &BrokerChoice,
    generator: GeneratorKind,
) -> Vec<Chosen> {
    let connectors = [connector].into_iter().chain(connector.parts().iter().map(|part| &part.spec));
    vec![
        Chosen::new("stream-method", methods.iter().map(|method| method.name())),
        Chosen::new("executor", [executor.name()]),
        Chosen::new("submit", submit),
        Chosen::new("worker-via-scistream", through.then_some("scistream")),
        Chosen::new("ps-connector", connectors.map(ConnectorSpec::name)),
        Chosen::new("stream", [broker.name()]),
        Chosen::new("stream-via-scistream", broker.via()),
        Chosen::new("generator", [generator.name()]),
    ]
}

/// What reaches workers on other hosts.
pub(crate) const USE_A_CONNECTOR: &str = "use --ps-connector redis, s3, endpoint or scistream, file in a directory that all hosts mount, or peer with --ps-address 0.0.0.0";
/// What generators on other hosts reach.
pub(crate) const USE_A_BROKER: &str = "use --stream kafka, redis or redis-queue, or --generator local";
const REACHED_BROKER: &str = "--stream kafka, redis or redis-queue";

/// Refuses what workers can't reach.
fn check_reach(
    (executor, engine): (ExecutorKind, Option<&EnginePlan>),
    generator: GeneratorKind,
    broker: &BrokerChoice,
    connector: &ConnectorSpec,
    methods: &[Method],
) -> Result<(), OptionError> {
    let in_processes = match executor {
        ExecutorKind::Own(name) => OWN_EXECUTORS.get(name).is_some_and(|factory| factory.in_processes()),
        other => other == ExecutorKind::Process || engine.is_some(),
    };
    if in_processes && methods.contains(&Method::Proxy) && !connector.reaches_other_processes() {
        let instead = if executor == ExecutorKind::Process { ", or --executor thread" } else { "" };
        let problem = format!("worker processes can't reach it; use --ps-connector peer{instead}");
        return Err(OptionError::invalid("--ps-connector", &connector.name(), problem));
    }
    let Some(engine) = engine.filter(|engine| engine.is_elsewhere()) else { return Ok(()) };
    let executor = executor.name();
    if methods.contains(&Method::Proxy) && !connector.reaches_other_hosts() {
        let problem = format!("workers of --executor {executor} can't reach it from their hosts; {USE_A_CONNECTOR}");
        return Err(OptionError::invalid("--ps-connector", &connector.name(), problem));
    }
    let generates_there = generator == GeneratorKind::Internal;
    if *broker == BrokerChoice::Memory && generates_there {
        let problem = format!("a generator of --executor {executor} can't reach it from its host; {USE_A_BROKER}");
        return Err(OptionError::invalid("--stream", &broker.name(), problem));
    }
    if engine.keeps_out() && (generates_there || engine.submit == SubmitMode::Pilot) {
        let problem = format!(
            "workers of --executor {executor} can't connect to it from their hosts; write an address of this host, or 0.0.0.0"
        );
        return Err(OptionError::invalid("--worker-listen", &engine.door.listen, problem));
    }
    Ok(())
}

/// Refuses a file of the run's directory that would lie elsewhere, or overwrite another one of it.
fn own_name(option: &'static str, file: &Path, others: &[&Path]) -> Result<(), OptionError> {
    if file.file_name() != Some(file.as_os_str()) {
        let problem = "write a name without a directory; the file lies in the run's directory, for which see --run-dir";
        return Err(OptionError::invalid(option, &file.display(), problem));
    }
    if [RESULTS_JSON, CHART].contains(&&*file.to_string_lossy()) || others.contains(&file) {
        return Err(OptionError::invalid(option, &file.display(), "another file of the run has this name"));
    }
    Ok(())
}

/// All trials in the order of running. The methods of one point take turns (A B A B …), so that a drift of the machine
/// touches them alike.
fn trials(
    settings: &Arc<Settings>,
    workers: &[u32],
    sizes: &[Size],
    repeat: u32,
    methods: &[Method],
) -> Vec<TrialPlan> {
    let mut trials = Vec::new();
    for &workers in workers {
        for size in sizes {
            for repeat in 0..repeat {
                for &method in methods {
                    let (index, settings, data_size) = (trials.len(), Arc::clone(settings), size.bytes());
                    trials.push(TrialPlan { index, path: None, settings, data_size, method, workers, repeat });
                }
            }
        }
    }
    trials
}

#[cfg(test)]
mod tests {
    use clap::Args;
    use figment::value::Value;

    use super::*;

    fn text(value: &Value) -> String {
        match value {
            Value::Array(_, values) => values.iter().map(text).collect::<Vec<_>>().join(" "),
            Value::String(_, text) => text.clone(),
            Value::Bool(_, switch) => switch.to_string(),
            number => number.to_u128().unwrap().to_string(),
        }
    }

    #[test]
    fn help_states_the_defaults_that_are_used() {
        let defaults = StreamScalingOptions::default().plan().unwrap().options.given().unwrap();
        let command = StreamScalingOptions::augment_args(clap::Command::new("test"));
        let mut in_prose = Vec::new();
        for (option, value) in &defaults {
            let argument = command.get_arguments().find(|argument| argument.get_long() == Some(option)).unwrap();
            let help = argument.get_help().unwrap().to_string();
            if !help.ends_with(&format!("[default: {}]", text(value))) {
                in_prose.push(option.as_str());
            }
        }
        assert_eq!(in_prose, ["max-workers", "prefetch", "ps-memory-limit"]);
    }

    #[test]
    fn what_is_recorded_plans_the_same_again() {
        let planned = StreamScalingOptions::default().plan().unwrap();
        let again = planned.options.plan().unwrap();
        assert_eq!(again.options, planned.options);
        assert_eq!(again.notes, [""; 0]);
        assert_eq!(format!("{:?}", again.plan), format!("{:?}", planned.plan));
    }

    #[test]
    fn a_limit_in_memory_has_room_for_large_items() {
        let large = StreamScalingOptions { data_size_bytes: vec!["3GiB".parse().unwrap()], ..Default::default() };
        let connector = &large.plan().unwrap().plan.settings.connector;
        assert!(matches!(connector, ConnectorSpec::Peer { limit, .. } if *limit == 6 << 30), "{connector:?}");
    }

    #[test]
    fn a_larger_pool_is_started_in_full() {
        let options = StreamScalingOptions {
            max_workers: vec![2, 4],
            process_pool_max_workers: Some(4),
            ..StreamScalingOptions::default()
        };
        assert_eq!(options.plan().unwrap().plan.settings.pool_workers, Some(4));
        let alone = StreamScalingOptions { max_workers: vec![], ..options };
        let planned = alone.plan().unwrap().plan;
        assert_eq!((planned.settings.pool_workers, planned.trials[0].workers), (None, 4));
    }
}
