//! Where a run took place: what its figures can't be understood without.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::thread::available_parallelism;

use procfs::{CpuInfo, Current, Meminfo};
use rustix::system::uname;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The host of a run, and its broker. What the host does not tell is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The host's name.
    pub hostname: String,
    /// Operating system and release of its kernel.
    pub kernel: String,
    /// Model of the first CPU.
    pub cpu_model: Option<String>,
    /// CPUs that psbench may use.
    pub cores: Option<usize>,
    /// Memory of the host, bytes.
    pub memory_bytes: Option<u64>,
    /// Congestion control of new TCP connections.
    pub tcp_congestion_control: Option<String>,
    /// The broker; absent before it answered.
    pub broker: Option<BrokerInfo>,
    /// The engine of the executor; absent where it has none.
    pub engine: Option<Engine>,
}

/// What is known of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Its name, or its launcher's program.
    pub name: String,
    /// Its version, as it says.
    pub version: String,
    /// Version and program of its Python; absent where it is none of Python's.
    pub python: Option<String>,
}

/// What is known of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerInfo {
    /// Its name, as `--stream` takes it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is; absent inside psbench.
    pub address: Option<String>,
    /// What the dispatcher reaches it through, in the trials that say so; absent where it connects to it directly, as generators do.
    pub via: Option<GatewaysInfo>,
    /// Those of its settings that bear on the results.
    pub configuration: BTreeMap<String, String>,
}

/// What is known of the gateways between a broker and the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewaysInfo {
    /// The control server at the broker's side.
    pub producer_s2cs: String,
    /// The control server at the dispatcher's side.
    pub consumer_s2cs: String,
    /// One for each server of the broker that had been connected to when the sweep began.
    pub paths: Vec<GatewayPath>,
}

/// A path through two gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayPath {
    /// Where it leads: the server, as the producer's gateway reaches it.
    pub target: String,
    /// Where it begins, at the consumer's gateway.
    pub listener: String,
    /// Data server at the producer's gateway; absent where it does not tell.
    pub producer_type: Option<String>,
    /// Data server at the consumer's gateway; absent where it does not tell.
    pub consumer_type: Option<String>,
}

impl Environment {
    /// This host, without a broker.
    pub fn of_this_host() -> Self {
        let system = uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
        Self {
            hostname: text(system.nodename()),
            kernel: format!("{} {}", text(system.sysname()), text(system.release())),
            cpu_model: CpuInfo::current().ok().and_then(|cpus| cpus.model_name(0).map(str::to_owned)),
            cores: available_parallelism().ok().map(NonZero::get),
            memory_bytes: Meminfo::current().ok().map(|memory| memory.mem_total),
            tcp_congestion_control: congestion.ok().map(|name| name.trim().to_owned()),
            broker: None,
            engine: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_tells_of_itself() {
        let host = Environment::of_this_host();
        assert!(!host.hostname.is_empty());
        assert!(host.kernel.starts_with("Linux "), "{}", host.kernel);
        assert!(host.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
