//! Which cores each worker may use.
//!
//! The names and meanings are those of Parsl's `HighThroughputExecutor` (`cpu_affinity`).

use std::fmt;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::ExecutorError;

/// How the cores that this process may use are shared out among its workers. A replacement has the cores of the worker
/// that it replaces. Workers outnumber the cores: some share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuAffinity {
    /// Neighbouring cores: of 4 cores, 2 workers get 0, 1 and 2, 3.
    Block,
    /// In turn: of 4 cores, 2 workers get 0, 2 and 1, 3.
    Alternating,
    /// The cores of each worker, by their numbers in the system.
    List(Vec<Vec<usize>>),
}

/// A text that is no [`CpuAffinity`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no CPU affinity ({reason}): write block, alternating, or for example list:0,1:2-3")]
pub struct AffinityError {
    text: String,
    reason: String,
}

impl FromStr for CpuAffinity {
    type Err = AffinityError;

    fn from_str(text: &str) -> Result<Self, AffinityError> {
        let error = |reason| AffinityError { text: text.to_owned(), reason };
        match text.split_once(':') {
            None if text == "block" => Ok(Self::Block),
            None if text == "alternating" => Ok(Self::Alternating),
            Some(("list", sets)) => {
                sets.split(':').map(parse_set).collect::<Result<_, _>>().map(Self::List).map_err(error)
            }
            _ => Err(error("unknown".to_owned())),
        }
    }
}

impl fmt::Display for CpuAffinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block => f.write_str("block"),
            Self::Alternating => f.write_str("alternating"),
            Self::List(sets) => {
                f.write_str("list")?;
                sets.iter().try_for_each(|set| write!(f, ":{}", numbers(set)))
            }
        }
    }
}

/// The cores of one worker: numbers and ranges, with commas between.
fn parse_set(text: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| match text.parse::<usize>() {
        Ok(core) if core < CpuSet::MAX_CPU => Ok(core),
        Ok(core) => Err(format!("core {core} is past the last, {}", CpuSet::MAX_CPU - 1)),
        Err(_) => Err(format!("{text:?} is no core")),
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {part} is empty"));
        }
        cores.extend(first..=last);
    }
    Ok(cores)
}

fn numbers(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// The core sets of an executor's workers.
#[derive(Debug)]
pub(super) struct CorePlan {
    /// By rank: the place that a worker takes among those that run.
    sets: Vec<CpuSet>,
}

impl CorePlan {
    /// Shares out the cores that this process may use.
    ///
    /// # Errors
    ///
    /// A list with fewer sets than there are workers, or with a core that this process may not use.
    pub(super) fn new(affinity: &CpuAffinity, workers: usize) -> Result<Self, ExecutorError> {
        let allowed = sched_getaffinity(None).map_err(|errno| ExecutorError::Start {
            what: "workers on cores of their own, since this process's are unknown".to_owned(),
            source: errno.into(),
        })?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        let sets = share_out(affinity, &allowed, workers).map_err(ExecutorError::Invalid)?;
        Ok(Self { sets: sets.iter().map(|set| cpu_set(set)).collect() })
    }

    /// Calls `spawn` such that the process it starts is on the cores of a rank, with all its threads.
    ///
    /// A process inherits the cores of the thread that starts it. To set them afterwards would miss the threads that
    /// it has by then.
    pub(super) fn on_cores<T>(&self, rank: usize, spawn: impl FnOnce() -> T) -> std::io::Result<T> {
        let own = sched_getaffinity(None)?;
        sched_setaffinity(None, &self.sets[rank % self.sets.len()])?;
        let spawned = spawn();
        sched_setaffinity(None, &own)?;
        Ok(spawned)
    }
}

fn cpu_set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}

fn share_out(affinity: &CpuAffinity, allowed: &[usize], workers: usize) -> Result<Vec<Vec<usize>>, String> {
    let count = allowed.len();
    match affinity {
        CpuAffinity::Block => Ok((0..workers)
            .map(|rank| {
                let first = rank * count / workers;
                allowed[first..((rank + 1) * count / workers).max(first + 1)].to_vec()
            })
            .collect()),
        CpuAffinity::Alternating => {
            Ok((0..workers).map(|rank| allowed.iter().copied().skip(rank % count).step_by(workers).collect()).collect())
        }
        CpuAffinity::List(sets) => {
            if sets.len() < workers {
                return Err(format!(
                    "the CPU affinity {affinity} has cores for {} workers: name those of all {workers}",
                    sets.len()
                ));
            }
            match sets.iter().flatten().find(|core| !allowed.contains(core)) {
                Some(core) => Err(format!(
                    "the CPU affinity {affinity} has core {core}, which this process may not use: choose from {}",
                    numbers(allowed)
                )),
                None => Ok(sets.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        let list = CpuAffinity::List(vec![vec![0, 1], vec![2, 3, 4, 9]]);
        assert_eq!("list:0,1:2-4,9".parse(), Ok(list.clone()));
        for affinity in [CpuAffinity::Block, CpuAffinity::Alternating, list] {
            assert_eq!(affinity.to_string().parse(), Ok(affinity));
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for (text, reason) in [
            ("blocks", "unknown"),
            ("block:1", "unknown"),
            ("list", "unknown"),
            ("list:", "\"\" is no core"),
            ("list:0,x", "\"x\" is no core"),
            ("list:0:", "\"\" is no core"),
            ("list:3-1", "the range 3-1 is empty"),
            ("list:0-99999999999", "core 99999999999 is past the last, 1023"),
        ] {
            let error = text.parse::<CpuAffinity>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no CPU affinity ({reason}): write ")), "{error}");
        }
    }

    #[test]
    fn cores_are_shared_out() {
        let cores = [2, 3, 5, 7, 11];
        let shared = |affinity, workers| share_out(&affinity, &cores, workers).unwrap();
        assert_eq!(shared(CpuAffinity::Block, 2), [vec![2, 3], vec![5, 7, 11]]);
        assert_eq!(shared(CpuAffinity::Alternating, 2), [vec![2, 5, 11], vec![3, 7]]);
        // More workers than cores: each has one, and none has none.
        for affinity in [CpuAffinity::Block, CpuAffinity::Alternating] {
            let sets = shared(affinity, 12);
            assert!(sets.len() == 12 && sets.iter().all(|set| set.len() == 1), "{sets:?}");
        }
        assert_eq!(shared(CpuAffinity::List(vec![vec![7], vec![2, 3]]), 2), [vec![7], vec![2, 3]]);
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let error = |sets, workers| share_out(&CpuAffinity::List(sets), &[0, 1], workers).unwrap_err();
        assert!(error(vec![vec![0]], 2).ends_with("has cores for 1 workers: name those of all 2"));
        assert!(error(vec![vec![0], vec![1, 4]], 2).ends_with("which this process may not use: choose from 0,1"));
    }
}
