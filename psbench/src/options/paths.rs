//! Ways of the bulk data, measured with all else equal.

use super::access::data_server_type;
use super::checks::distinct;
use super::choices::{Choice, ConnectorName, choose_for};
use super::effect::{Chosen, without_effect};
use super::{OptionError, Planned, StreamScalingOptions};
use crate::plan::{GeneratorKind, Method, SweepPlan, TrialPlan};
use crate::results::ROUNDS_FOR_95;
use crate::units::Size;

/// The command, and with what its run directories begin.
pub(crate) const COMPARE_PATHS: &str = "compare-paths";

const OPTION: &str = "--paths";

/// Those that need no server.
const PATHS: [&str; 4] = [Path::BROKER, "shm", "peer", Path::SCISTREAM];
/// A decade below those of a sweep, where brokers are at their best.
const SIZES: [Size; 4] =
    [Size::from_bytes(10_000), Size::from_bytes(100_000), Size::from_bytes(1_000_000), Size::from_bytes(10_000_000)];
const REPEAT: u32 = ROUNDS_FOR_95 as u32;

/// A way of the bulk data from generator to worker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    /// As it was written.
    name: String,
    method: Method,
    /// The connector's name; absent for the broker.
    connector: Option<String>,
    /// What forwards at SciStream's gateways, where the path says so.
    gateway_type: Option<String>,
    /// Whether the dispatcher is to reach the broker through gateways.
    broker_through_gateways: bool,
}

impl Path {
    const BROKER: &str = "broker";
    const BROKER_VIA_SCISTREAM: &str = "broker-via-scistream";
    const SCISTREAM: &str = "scistream";

    fn parse(name: &str) -> Result<Self, OptionError> {
        let whole = Self {
            name: name.into(),
            method: Method::Default,
            connector: None,
            gateway_type: None,
            broker_through_gateways: name == Self::BROKER_VIA_SCISTREAM,
        };
        if [Self::BROKER, Self::BROKER_VIA_SCISTREAM].contains(&name) {
            return Ok(whole);
        }
        let by_proxy = Self { method: Method::Proxy, connector: Some(name.into()), ..whole };
        if let Some((Self::SCISTREAM, kind)) = name.split_once(':') {
            data_server_type(kind).map_err(|error| OptionError::invalid(OPTION, &name, error.to_string()))?;
            return Ok(Self { connector: Some(Self::SCISTREAM.into()), gateway_type: Some(kind.into()), ..by_proxy });
        }
        if !ConnectorName::own().contains(&name) {
            choose_for::<ConnectorName>(OPTION, name).map_err(Self::with_others)?;
        }
        Ok(by_proxy)
    }

    /// Lists paths that are no connectors, too.
    fn with_others(mut error: OptionError) -> OptionError {
        if let OptionError::NoSuchName { available, .. } = &mut error {
            let others = [Self::BROKER, Self::BROKER_VIA_SCISTREAM, "scistream:TYPE"].join(", ");
            *available = format!("{others}, {available}");
        }
        error
    }

    /// `options` with nothing but this path.
    fn apply(&self, options: &StreamScalingOptions) -> StreamScalingOptions {
        let all_through = options.stream_via_scistream;
        StreamScalingOptions {
            stream_method: vec![self.method.name().into()],
            ps_connector: self.connector.clone(),
            scistream_type: self.gateway_type.clone().or_else(|| options.scistream_type.clone()),
            stream_via_scistream: if self.broker_through_gateways { Some(true) } else { all_through },
            ..options.clone()
        }
    }
}

impl StreamScalingOptions {
    /// Checks the options, fills in the defaults and works out how to compare the paths.
    ///
    /// # Errors
    /// The first option that makes no comparison.
    pub fn plan_compare_paths(&self) -> Result<Planned, OptionError> {
        self.check_replaced()?;
        let mut options = self.clone();
        let mut notes = Vec::new();
        if options.paths.is_empty() {
            options.paths = PATHS.map(Into::into).to_vec();
        }
        distinct(OPTION, &mut options.paths, &mut notes);
        let paths = options.paths.iter().map(|name| Path::parse(name)).collect::<Result<Vec<_>, _>>()?;
        if let [only] = &paths[..] {
            let problem = "one path alone has nothing to be compared with; write two or more";
            return Err(OptionError::invalid(OPTION, &only.name, problem));
        }
        if options.data_size_bytes.is_empty() {
            options.data_size_bytes = SIZES.to_vec();
        }
        options.repeat.get_or_insert(REPEAT);

        // What holds for every path, so that a mistake there is not said of one.
        let common = Self { stream_method: vec![Method::Default.name().into()], ..options.clone() }.work_out()?.0;
        let mut chosen = Vec::new();
        let mut plans = Vec::new();
        for path in &paths {
            let of_path = |source| OptionError::OfPath { path: path.name.clone(), source: Box::new(source) };
            let (planned, of_this) = path.apply(&options).work_out().map_err(of_path)?;
            // The connector that stands in beside a broker is nobody's.
            if path.method == Method::Proxy || paths.iter().all(|path| path.method == Method::Default) {
                notes.extend(planned.notes);
            }
            add(&mut chosen, of_this, path.method);
            plans.push(planned.plan);
        }
        notes.extend(without_effect(&self.given()?, &chosen));
        let mut said = Vec::new();
        notes.retain(|note| {
            !said.contains(note) && {
                said.push(note.clone());
                true
            }
        });
        let trials = take_turns(&paths, &plans);
        let plan = SweepPlan { settings: common.plan.settings, trials };
        let options = Self {
            stream_method: Vec::new(),
            ps_connector: None,
            // Of connectors only what was given: what is a default of one has no effect on others.
            ps_memory_limit: options.ps_memory_limit,
            paths: options.paths,
            ..common.options
        };
        Ok(Planned { benchmark: COMPARE_PATHS, plan, options, outputs: common.outputs, notes })
    }

    /// Refuses what paths stand for, and what can't take several.
    fn check_replaced(&self) -> Result<(), OptionError> {
        const INSTEAD: &str =
            "psbench compare-paths has --paths in its place; write broker, or the connector's name, there";
        if !self.stream_method.is_empty() {
            return Err(OptionError::invalid("--stream-method", &self.stream_method.join(" "), INSTEAD));
        }
        if let Some(connector) = &self.ps_connector {
            return Err(OptionError::invalid("--ps-connector", connector, INSTEAD));
        }
        if self.generator == Some(GeneratorKind::External) {
            let problem = "another program's stream takes one path; use psbench stream-scaling";
            return Err(OptionError::invalid("--generator", &"external", problem));
        }
        Ok(())
    }
}

/// Adds what one path has chosen. The connector of items that travel in full has nothing to do.
fn add(chosen: &mut Vec<Chosen>, of_this: Vec<Chosen>, method: Method) {
    for mut more in of_this {
        if more.by == "ps-connector" {
            if method == Method::Default {
                continue;
            }
            more.said_as = "paths";
        }
        match chosen.iter_mut().find(|known| known.by == more.by) {
            Some(known) => {
                more.names.retain(|name| !known.names.contains(name));
                known.names.extend(more.names);
            }
            None => chosen.push(more),
        }
    }
}

/// The trials of all paths in the order of running: a round measures every point once on every path, so that a drift of the machine
/// touches all alike.
fn take_turns(paths: &[Path], plans: &[SweepPlan]) -> Vec<TrialPlan> {
    let mut trials = Vec::new();
    let Some(first) = plans.first() else { return trials };
    let rounds = first.trials.last().map_or(0, |trial| trial.repeat as usize + 1);
    for round in 0..rounds {
        // All repetitions of a point follow each other.
        for (turn, place) in (round..).zip((round..first.trials.len()).step_by(rounds)) {
            let in_order = order(paths.len(), turn).into_iter().filter_map(|path| paths.get(path).zip(plans.get(path)));
            for (path, plan) in in_order {
                // All plans have the same points in the same places.
                let Some(trial) = plan.trials.get(place) else { continue };
                trials.push(TrialPlan { index: trials.len(), path: Some(path.name.clone()), ..trial.clone() });
            }
        }
    }
    trials
}

/// The order of so many paths in a turn. Over as many turns as there are paths, of an odd number twice as many, each path comes once, or
/// twice, at every place, and as often after every other (Williams 1949): what a path leaves behind touches all others alike.
fn order(paths: usize, turn: usize) -> Vec<usize> {
    // 0, 1, n − 1, 2, n − 2 …
    let zigzag = |place: usize| if place % 2 == 1 { place.div_ceil(2) } else { (paths - place / 2) % paths };
    let mut order: Vec<_> = (0..paths).map(|place| (zigzag(place) + turn) % paths).collect();
    if paths % 2 == 1 && (turn / paths) % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::brokers::BrokerChoice;

    #[test]
    fn every_path_has_every_place_and_every_predecessor() {
        for paths in 2..9 {
            let turns = if paths % 2 == 0 { paths } else { 2 * paths };
            let mut places = BTreeMap::new();
            let mut pairs = BTreeMap::new();
            for turn in 0..turns {
                let order = order(paths, turn);
                for (place, path) in order.iter().enumerate() {
                    *places.entry((place, *path)).or_insert(0) += 1;
                }
                for pair in order.windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_insert(0) += 1;
                }
            }
            assert_eq!(places.len(), paths * paths, "{places:?}");
            assert_eq!(pairs.len(), paths * (paths - 1), "{pairs:?}");
            for counts in [places, pairs] {
                assert!(counts.values().all(|count| *count == turns / paths), "{paths}: {counts:?}");
            }
        }
    }

    fn options(paths: &[&str]) -> StreamScalingOptions {
        StreamScalingOptions { paths: paths.iter().map(|path| (*path).into()).collect(), ..Default::default() }
    }

    #[test]
    fn a_round_measures_every_point_on_every_path() {
        let planned = options(&["broker", "shm", "peer"]).plan_compare_paths().unwrap();
        let trials = &planned.plan.trials;
        assert_eq!(trials.len(), 3 * SIZES.len() * REPEAT as usize);
        for (index, (trial, turn)) in trials.iter().zip(trials.chunks(3).flat_map(|turn| [turn; 3])).enumerate() {
            assert_eq!((trial.index, trial.repeat as usize), (index, index / (3 * SIZES.len())));
            assert!(turn.iter().all(|other| (other.data_size, other.repeat) == (trial.data_size, trial.repeat)));
            let connector = trial.settings.connector.name();
            match trial.path.as_deref().unwrap() {
                "broker" => assert_eq!(trial.method, Method::Default),
                path => assert_eq!((trial.method, connector), (Method::Proxy, path)),
            }
        }
        let first: Vec<_> = trials.chunks(3).map(|turn| turn[0].path.as_deref().unwrap()).collect();
        assert_eq!(first[..3], ["broker", "shm", "peer"]);
    }

    #[test]
    fn paths_through_gateways_differ_in_what_forwards() {
        let redis = StreamScalingOptions {
            stream: Some("redis".into()),
            scistream_type: Some("quic".into()),
            ..options(&["broker", "broker-via-scistream", "scistream", "scistream:tls", "scistream:HaproxySubprocess"])
        };
        let planned = redis.plan_compare_paths().unwrap();
        assert_eq!(planned.notes, [""; 0]);
        let found: Vec<_> = planned.plan.trials[..5]
            .iter()
            .map(|trial| {
                let kinds = trial.settings.connector.private_routes();
                let kinds: Vec<_> = kinds.iter().filter_map(|route| Some(route.wishes.kind?.to_string())).collect();
                let through = matches!(trial.settings.broker, BrokerChoice::Through { .. });
                (trial.path.as_deref().unwrap(), trial.method, through, kinds.concat())
            })
            .collect();
        for expected in [
            ("broker", Method::Default, false, String::new()),
            ("broker-via-scistream", Method::Default, true, String::new()),
            ("scistream", Method::Proxy, false, "quic".into()),
            ("scistream:tls", Method::Proxy, false, "tls".into()),
            ("scistream:HaproxySubprocess", Method::Proxy, false, "haproxy".into()),
        ] {
            assert!(found.contains(&expected), "{expected:?} in {found:?}");
        }
    }

    #[test]
    fn what_is_recorded_plans_the_same_again() {
        let planned = options(&[]).plan_compare_paths().unwrap();
        assert_eq!(planned.notes, [""; 0]);
        assert_eq!(planned.options.paths, PATHS);
        let again = planned.options.plan_compare_paths().unwrap();
        assert_eq!(again.options, planned.options);
        let what = |planned: &Planned| -> Vec<_> {
            planned.plan.trials.iter().map(|trial| (trial.path.clone(), trial.data_size, trial.repeat)).collect()
        };
        assert_eq!(what(&again), what(&planned));
    }

    #[test]
    fn notes_speak_of_paths_and_errors_of_the_one_at_fault() {
        let with_host = StreamScalingOptions { ps_host: Some("x".into()), ..options(&["broker", "shm", "peer"]) };
        let notes = with_host.plan_compare_paths().unwrap().notes;
        assert_eq!(notes, ["--ps-host has no effect with --paths shm peer"]);
        let with_redis = vec!["redis".into(), "peer".into()];
        let with_redis = StreamScalingOptions { paths: with_redis, ps_port: Some(7000), ..with_host.clone() };
        assert_eq!(with_redis.plan_compare_paths().unwrap().notes, [""; 0]);
        let paths = vec!["broker".into(), "redis".into()];
        let with_broker =
            StreamScalingOptions { paths, ps_port: Some(7000), ..with_host }.plan_compare_paths().unwrap();
        assert_eq!(with_broker.notes, [""; 0]);
        assert_eq!(with_broker.options.plan_compare_paths().unwrap().notes, [""; 0]);
        let error = options(&["file", "peer"]).plan_compare_paths().unwrap_err().to_string();
        assert_eq!(error, "--paths file: --ps-connector file needs --ps-file-dir (or leave file out)");
        let none = StreamScalingOptions { task_count: Some(0), ..options(&["broker", "peer"]) };
        let error = none.plan_compare_paths().unwrap_err().to_string();
        assert!(error.starts_with("--task-count 0: "), "{error}");
    }
}
