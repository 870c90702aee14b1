//! The kernel and its limits, as far as options or figures depend on them.

use std::fs;

use procfs::{CpuInfo, Current};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create, statvfs};

use super::{Finding, Host};
use crate::control_group;
use crate::environment::Environment;
use crate::units::human;

/// Containers have as little of it by default.
const LITTLE_SHARED_MEMORY: u64 = 1 << 30;

/// Of open files: enough for hundreds of workers.
const FEW_FILES: u64 = 4096;

/// All of it; what the kernel does not tell is left out.
pub(super) fn look(host: &Host) -> Vec<Finding> {
    let environment = Environment::of_this_host();
    let machine = CpuInfo::current().ok().map(|cpus| cpus.num_cores());
    let available = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    let findings = [
        Some(Finding::present("kernel", environment.kernel)),
        environment.cores.map(|cores| cpus(cores, machine, environment.cpu_model.as_deref())),
        environment.memory_bytes.map(|memory| self::memory(memory, control_group::memory_limit())),
        Some(open_files(host)),
        environment.tcp_congestion_control.map(|current| congestion(&current, &available)),
        Some(sealed_memory()),
        shared_memory(),
    ];
    findings.into_iter().flatten().collect()
}

fn cpus(usable: usize, machine: Option<usize>, model: Option<&str>) -> Finding {
    let model = model.map(|model| format!(", {model}")).unwrap_or_default();
    match machine {
        Some(all) if all > usable => Finding::present("CPUs", format!("{usable} of {all}{model}")).remarked(
            "an affinity mask or a quota keeps psbench from the others; they may do something else meanwhile",
            "taskset, or the container's or job's number of CPUs",
        ),
        _ => Finding::present("CPUs", format!("{usable}{model}")),
    }
}

fn memory(machine: u64, limit: Option<u64>) -> Finding {
    match limit.filter(|limit| *limit < machine) {
        Some(limit) => {
            let what = format!("{} of {}", human::bytes(limit as f64), human::bytes(machine as f64));
            Finding::present("memory", what).remarked(
                "the limit of a control group: processes that outgrow it together are killed",
                "the container's or job's memory; --max-inflight-bytes and --worker-memory bound psbench's",
            )
        }
        None => Finding::present("memory", human::bytes(machine as f64)),
    }
}

fn open_files(host: &Host) -> Finding {
    let number = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let files = host.open_files;
    let raised =
        if files.now == files.given { String::new() } else { format!(", raised from {}", number(files.given)) };
    let most = if files.now == files.most { "" } else { &format!(" of {}", number(files.most)) };
    let finding = Finding::present("open files", format!("{}{most}{raised}", number(files.now)));
    if files.now.is_none_or(|now| now >= FEW_FILES) {
        return finding;
    }
    finding.remarked(
        "few: a worker takes some, and an object at the shm connector one",
        "a higher hard limit: ulimit -Hn 65536 as root, or nofile in /etc/security/limits.conf",
    )
}

fn congestion(current: &str, available: &str) -> Finding {
    let others: Vec<_> = available.split_whitespace().filter(|name| *name != current).collect();
    let what = match others[..] {
        [] => current.to_owned(),
        _ => format!("{current} (also there: {})", others.join(", ")),
    };
    let finding = Finding::present("TCP congestion", what);
    if current != "bbr" {
        return finding;
    }
    finding.remarked(
        "bbr paces within a host, too, at less than half the speed. psbench takes reno or cubic for its own sockets there; servers \
         of this host (Redis, Kafka) do not",
        "sysctl -w net.ipv4.tcp_congestion_control=cubic",
    )
}

fn sealed_memory() -> Finding {
    let sealed = memfd_create("psbench-doctor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .and_then(|file| fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW));
    let finding = match sealed {
        Ok(()) => Finding::present("memfd_create", "with seals"),
        Err(error) => Finding::missing("memfd_create", error.to_string(), "use --ps-connector peer on this host"),
    };
    finding.needed_for("--ps-connector shm")
}

fn shared_memory() -> Option<Finding> {
    const NAME: &str = "/dev/shm";
    let found = statvfs(NAME).ok()?;
    let [size, free] = [found.f_blocks, found.f_bavail].map(|blocks| blocks.saturating_mul(found.f_frsize));
    let what = format!("{}, {} free", human::bytes(size as f64), human::bytes(free as f64));
    let finding = Finding::present(NAME, what).needed_for("--ps-file-dir /dev/shm/…");
    Some(if size < LITTLE_SHARED_MEMORY {
        finding.remarked(
            "little: objects wait there until they are resolved",
            "docker run --shm-size, or mount -o remount,size=… /dev/shm",
        )
    } else {
        finding
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::host::tests::host;
    use super::*;
    use crate::open_files::OpenFiles;

    #[test]
    fn this_host_has_a_kernel() {
        let (_directory, host) = host(&[]);
        let findings = look(&host);
        assert!(findings.iter().any(|it| it.name == "kernel" && it.what.starts_with("Linux ")), "{findings:#?}");
        assert!(findings.iter().any(|it| it.name == "memfd_create" && it.state == State::Present), "{findings:#?}");
    }

    #[test]
    fn what_bears_on_figures_is_remarked() {
        assert_eq!(cpus(2, Some(2), None).remark, None);
        assert_eq!(cpus(2, Some(8), Some("Z80")).what, "2 of 8, Z80");
        assert!(cpus(2, Some(8), None).remark.is_some());
        assert_eq!(memory(8_000_000_000, Some(u64::MAX)).remark, None);
        assert_eq!(memory(8_000_000_000, Some(2_000_000_000)).what, "2.00 GB of 8.00 GB");
        assert_eq!(congestion("cubic", "reno cubic").what, "cubic (also there: reno)");
        assert!(congestion("bbr", "bbr").remedy.is_some_and(|remedy| remedy.starts_with("sysctl ")));
        let (_directory, mut host) = host(&[]);
        assert_eq!((&*open_files(&host).what, open_files(&host).remark), ("4096, raised from 1024", None));
        host.open_files = OpenFiles { given: Some(2048), now: Some(2048), most: Some(2048) };
        assert_eq!(open_files(&host).what, "2048");
        assert!(open_files(&host).remark.is_some_and(|remark| remark.starts_with("few: ")));
        host.open_files = OpenFiles { given: Some(1024), now: Some(65_536), most: None };
        assert_eq!(open_files(&host).what, "65536 of unlimited, raised from 1024");
    }
}
