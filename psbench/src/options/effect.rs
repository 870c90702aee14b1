//! Options that have no effect beside the others.

use figment::value::Dict;

/// The names that a sweep uses of each option that chooses an implementation.
pub(super) type Chosen<'a> = [(&'static str, &'a [&'a str]); 6];

/// An option, those of its names that have options of their own, and these.
type Needs = (&'static str, &'static [&'static str], &'static [&'static str]);

const NEEDS: [Needs; 28] = [
    ("generator", &["internal", "local"], &["rate", "pregenerate", "payload-file", "seed", "ps-lifetime", "ps-lease"]),
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
            "worker-program",
            "engine-timeout",
        ],
    ),
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
    ("ps-connector", &["redis", "peer"], &["ps-port"]),
    ("ps-connector", &["peer"], &["ps-address", "ps-advertise", "ps-interface"]),
    ("ps-connector", &["memory", "peer", "shm"], &["ps-memory-limit"]),
    ("ps-connector", &["margo"], &["ps-margo-protocol"]),
    ("ps-connector", &["endpoint"], &["ps-endpoints"]),
    ("ps-connector", &["multi"], &["ps-multi", "ps-tags"]),
    ("ps-connector", &["s3"], &["ps-s3-bucket", "ps-s3-prefix", "ps-s3-endpoint", "ps-s3-region"]),
    ("ps-connector", &["globus"], &["ps-globus-config"]),
    ("ps-connector", &["daos"], &["ps-daos-pool", "ps-daos-container", "ps-daos-namespace"]),
    ("stream", &["kafka", "redis", "redis-queue"], &["stream-servers"]),
    (
        "stream",
        &["kafka"],
        &["stream-partitions", "stream-replication", "stream-retention", "stream-max-message-bytes", "kafka-option"],
    ),
];

/// A line for each given option that has no effect with the implementations chosen.
pub(super) fn without_effect(given: &Dict, chosen: &Chosen<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for (by, needed, options) in NEEDS {
        let used = chosen.iter().find(|(option, _)| *option == by).map_or(&[][..], |(_, used)| used);
        if used.iter().any(|name| needed.contains(name)) {
            continue;
        }
        // Where nothing was chosen, another line says so.
        if used.is_empty() {
            continue;
        }
        let idle = options.iter().filter(|option| given.contains_key(**option));
        notes.extend(idle.map(|option| format!("--{option} has no effect with --{by} {}", used.join(" "))));
    }
    notes
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
            for option in options.iter().chain([&by]) {
                assert!(all.contains_key(*option), "{option}");
            }
        }
    }
}
