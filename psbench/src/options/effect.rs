//! Options that have no effect beside the others.

use figment::value::Dict;

use crate::brokers::OWN_BROKERS;
use crate::sweep::OWN_EXECUTORS;

/// What a sweep uses of an option that chooses an implementation.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// The option.
    pub(super) by: &'static str,
    /// What users are told of: the option, or another one in its place.
    pub(super) said_as: &'static str,
    /// The names of what it uses.
    pub(super) names: Vec<String>,
}

impl Chosen {
    pub(super) fn new(by: &'static str, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { by, said_as: by, names: names.into_iter().map(Into::into).collect() }
    }
}

/// An option, those of its names that have options of their own, and these.
type Needs = (&'static str, &'static [&'static str], &'static [&'static str]);

const NEEDS: [Needs; 31] = [
    (
        "generator",
        &["internal", "local"],
        &["rate", "max-inflight-items", "pregenerate", "payload-file", "seed", "ps-lifetime", "ps-lease"],
    ),
    ("stream-method", &["adios"], &["adios-file"]),
    ("stream-method", &["proxy"], &["ps-connector", "ps-cache", "ps-lifetime", "ps-lease"]),
    (
        "executor",
        &["process"],
        &[
            "process-pool-max-workers",
            "threads-per-worker",
            "max-tasks-per-worker",
            "worker-idle",
            "worker-memory",
            "cpu-affinity",
        ],
    ),
    ("executor", &["dask", "globus", "mpi", "parsl", "process", "python", "slurm", "ssh", "thread"], &["task-timeout"]),
    (
        "executor",
        &["dask", "globus", "mpi", "parsl", "python", "slurm", "ssh"],
        &[
            "submit",
            "submit-batch",
            "worker-listen",
            "worker-port",
            "worker-connect",
            "worker-tls",
            "worker-via-scistream",
            "worker-program",
            "engine-timeout",
        ],
    ),
    ("executor", &[], &["executor-option"]),
    ("executor", &["dask", "globus", "parsl", "python"], &["python"]),
    ("executor", &["python"], &["python-executor"]),
    ("executor", &["mpi", "slurm", "ssh"], &["launcher", "launcher-option"]),
    ("executor", &["ssh"], &["hosts"]),
    ("submit", &["task"], &["submit-batch"]),
    ("executor", &["thread"], &["thread-pool-max-workers"]),
    ("executor", &["dask"], &["dask-scheduler", "dask-workers", "dask-use-threads"]),
    ("executor", &["globus"], &["globus-compute-endpoint"]),
    ("executor", &["parsl"], &["parsl-executor", "parsl-max-workers", "parsl-config"]),
    ("ps-connector", &["file"], &["ps-file-dir"]),
    ("ps-connector", &["redis"], &["ps-host"]),
    ("stream", &["redis", "redis-queue"], REDIS),
    ("ps-connector", &["redis", "peer", "scistream"], &["ps-port"]),
    ("ps-connector", &["peer", "scistream"], &["ps-address", "ps-advertise", "ps-interface"]),
    ("ps-connector", &["memory", "peer", "scistream", "shm"], &["ps-memory-limit"]),
    ("ps-connector", &["margo"], &["ps-margo-protocol"]),
    ("ps-connector", &["endpoint"], &["ps-endpoints"]),
    ("ps-connector", &["multi"], &["ps-multi", "ps-tags"]),
    ("ps-connector", &["s3"], &["ps-s3-bucket", "ps-s3-prefix", "ps-s3-endpoint", "ps-s3-region"]),
    (
        "ps-connector",
        &["scistream"],
        &[
            "scistream-producer-s2cs",
            "scistream-consumer-s2cs",
            "scistream-site",
            "scistream-local",
            "scistream-server-cert",
            "scistream-producer-cert",
            "scistream-consumer-cert",
            "scistream-system-roots",
            "scistream-insecure",
            "scistream-client-cert",
            "scistream-client-key",
            "scistream-token-file",
            "scistream-producer-token-file",
            "scistream-consumer-token-file",
            "scistream-type",
            "scistream-num-conn",
            "scistream-rate",
            "scistream-preconnect",
            "scistream-stripes",
        ],
    ),
    ("ps-connector", &["globus"], &["ps-globus-config"]),
    ("ps-connector", &["daos"], &["ps-daos-pool", "ps-daos-container", "ps-daos-namespace"]),
    ("stream", &["kafka", "redis", "redis-queue"], &["stream-servers"]),
    (
        "stream",
        &["kafka"],
        &["stream-partitions", "stream-replication", "stream-retention", "stream-max-message-bytes", "kafka-option"],
    ),
];

/// Options of all that is at a Redis server.
const REDIS: &[&str] = &["redis-sentinel", "redis-ca-file", "redis-cert-file", "redis-key-file"];

/// A line for each given option that has no effect with the implementations chosen.
pub(super) fn without_effect(given: &Dict, chosen: &[Chosen]) -> Vec<String> {
    let mut notes = Vec::new();
    for (by, needed, options) in NEEDS {
        let Some(Chosen { said_as, names: used, .. }) = chosen.iter().find(|chosen| chosen.by == by) else { continue };
        if used.iter().any(|name| needed.contains(&name.as_str())) {
            continue;
        }
        // Where nothing was chosen, another line says so.
        if used.is_empty() {
            continue;
        }
        let is_idle = |option: &str| {
            given.contains_key(option)
                && !is_of_another_path(option, chosen)
                && !is_of_an_own_broker(option, used)
                && !is_of_redis_elsewhere(option, chosen)
                && !is_of_an_own_executor(option, used)
        };
        let idle = options.iter().filter(|option| is_idle(option));
        notes.extend(idle.map(|option| format!("--{option} has no effect with --{said_as} {}", used.join(" "))));
    }
    notes.extend(of_the_connector_alone(given, chosen));
    notes
}

/// Paths that are no connector's, by the option that asks for them.
const OTHER_PATHS: [&str; 2] = ["stream-via-scistream", "worker-via-scistream"];

/// Options of paths that the connector's have, and what others do instead.
const CONNECTOR_ALONE: [(&str, &str); 2] = [
    ("scistream-num-conn", "has one port for all its connections"),
    ("scistream-site", "goes by --scistream-consumer-s2cs"),
];

/// A line for each given option that only the connector's paths keep to, beside others through the same gateways.
fn of_the_connector_alone(given: &Dict, chosen: &[Chosen]) -> Vec<String> {
    let uses = |by: &str, name: &str| chosen.iter().any(|it| it.by == by && it.names.iter().any(|used| used == name));
    if !uses("ps-connector", "scistream") {
        // Another line says so.
        return Vec::new();
    }
    let options = CONNECTOR_ALONE.iter().filter(|(option, _)| given.contains_key(*option));
    let beside = |by: &&&str| uses(by, "scistream");
    let notes = options.flat_map(|(option, instead)| {
        OTHER_PATHS.iter().filter(beside).map(move |path| {
            format!("--{option} is for the paths of --ps-connector scistream; that of --{path} {instead}")
        })
    });
    notes.collect()
}

/// Whether the broker's way through gateways uses it, or that of workers, whatever the connector.
fn is_of_another_path(option: &str, chosen: &[Chosen]) -> bool {
    let goes_through = chosen.iter().any(|chosen| OTHER_PATHS.contains(&chosen.by) && !chosen.names.is_empty());
    let of_the_connector = CONNECTOR_ALONE.iter().any(|(alone, _)| *alone == option);
    goes_through && option.starts_with("scistream-") && !of_the_connector
}

/// Whether a connector uses it.
fn is_of_redis_elsewhere(option: &str, chosen: &[Chosen]) -> bool {
    let stores = chosen.iter().filter(|chosen| chosen.by == "ps-connector").flat_map(|chosen| &chosen.names);
    REDIS.contains(&option) && stores.into_iter().any(|name| name == "redis")
}

/// Whether a broker of the program's own among these gets it.
fn is_of_an_own_broker(option: &str, used: &[String]) -> bool {
    option == "stream-servers" && used.iter().any(|name| OWN_BROKERS.get(name).is_some())
}

/// What executors of the program's own are given, which may do with it what they like.
const OWN_EXECUTORS_GET: [&str; 13] = [
    "cpu-affinity",
    "engine-timeout",
    "executor-option",
    "max-tasks-per-worker",
    "task-timeout",
    "threads-per-worker",
    "worker-connect",
    "worker-idle",
    "worker-listen",
    "worker-memory",
    "worker-port",
    "worker-program",
    "worker-tls",
];

/// Whether an executor of the program's own among these gets it.
fn is_of_an_own_executor(option: &str, used: &[String]) -> bool {
    OWN_EXECUTORS_GET.contains(&option) && used.iter().any(|name| OWN_EXECUTORS.get(name).is_some())
}

#[cfg(test)]
mod tests {
    use figment::value::Value;

    use super::*;
    use crate::options::StreamScalingOptions;

    #[test]
    fn every_option_named_here_exists() {
        let all = Value::serialize(StreamScalingOptions::default()).unwrap().into_dict().unwrap();
        for (by, _, options) in NEEDS {
            for option in options.iter().chain([&by]).chain(&OWN_EXECUTORS_GET) {
                assert!(all.contains_key(*option), "{option}");
            }
        }
    }
}
