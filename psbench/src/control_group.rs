//! Memory that this process's control groups leave to it.

use std::fs;
use std::path::Path;

/// The least limit of this process's control groups and those above, in bytes; absent where they have none, or can't be read.
pub(crate) fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    least(&groups, Path::new("/sys/fs/cgroup"))
}

/// `groups` is as cgroups(7) has it: lines of hierarchy, controllers and group.
fn least(groups: &str, root: &Path) -> Option<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        // In a container the group may be named as the host sees it, which is not there: the root then is the container's own.
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            let limit = fs::read_to_string(root.join(group).join(file)).ok();
            // "max" is no number.
            limits.extend(limit.and_then(|limit| limit.trim().parse::<u64>().ok()));
        }
    }
    limits.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, limit: &str| {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, limit).unwrap();
        };
        assert_eq!(least("0::/a/b\n", root.path()), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(least("0::/a/b\n", root.path()), None);
        write("a/memory.max", "2000\n");
        assert_eq!(least("0::/a/b\n", root.path()), Some(2000));
        write("memory/memory.limit_in_bytes", "1000\n");
        assert_eq!(least("4:memory:/of/the/host\n3:cpuset:/\n0::/a/b\n", root.path()), Some(1000));
    }
}
