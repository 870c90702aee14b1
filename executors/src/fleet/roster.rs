//! The workers of one executor: who there was, and who there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::link::Link;
use crate::{TaskId, WorkerEnd, WorkerId, WorkerInfo, WorkerReport};

pub(super) struct Roster {
    /// The number of the first worker.
    first: u32,
    /// Every worker there ever was, by number.
    members: Vec<Member>,
    /// Those whose processes have not ended.
    present: BTreeMap<WorkerId, Present>,
}

struct Member {
    info: WorkerInfo,
    finish: Option<Bytes>,
}

/// A worker whose process has not ended.
pub(super) struct Present {
    pub(super) link: Arc<Link>,
    /// Its place among those that run, which decides its cores.
    rank: usize,
    /// Its work is made.
    pub(super) ready: bool,
    /// It ended a task.
    pub(super) proven: bool,
    /// The task that outlasted its limit, for which the worker is ended.
    pub(super) overdue: Option<TaskId>,
    /// Why it gets no more tasks and is to end in order.
    pub(super) leaving: Option<String>,
    /// When it was asked to end, before a shutdown.
    pub(super) asked: Option<Instant>,
}

impl Roster {
    /// For workers that are counted from `first`.
    pub(super) fn starting_at(first: u32) -> Self {
        Self { first, members: Vec::new(), present: BTreeMap::new() }
    }

    fn member(&self, worker: WorkerId) -> &Member {
        &self.members[(worker.0 - self.first) as usize]
    }

    fn member_mut(&mut self, worker: WorkerId) -> &mut Member {
        &mut self.members[(worker.0 - self.first) as usize]
    }

    /// The number of the next worker.
    #[expect(clippy::cast_possible_truncation, reason = "no machine starts four billion processes")]
    pub(super) fn next_id(&self) -> WorkerId {
        WorkerId(self.first + self.members.len() as u32)
    }

    /// The place of the next worker among `workers`: the one that fewest have, less those that leave.
    pub(super) fn next_rank(&self, workers: usize) -> usize {
        let staying = || self.present.values().filter(|present| present.leaving.is_none());
        let taken = |rank| staying().filter(|present| present.rank == rank).count();
        (0..workers).min_by_key(|rank| taken(*rank)).unwrap_or_default()
    }

    pub(super) fn add(&mut self, worker: WorkerId, link: Arc<Link>, rank: usize) {
        let mut info = WorkerInfo::new(worker, link.label.clone());
        link.process.introduce(&mut info);
        self.members.push(Member { info, finish: None });
        let present = Present { link, rank, ready: false, proven: false, overdue: None, leaving: None, asked: None };
        self.present.insert(worker, present);
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Present> {
        self.present.get(&worker)
    }

    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Present> {
        self.present.get_mut(&worker)
    }

    pub(super) fn present(&self) -> impl Iterator<Item = (WorkerId, &Present)> {
        self.present.iter().map(|(worker, present)| (*worker, present))
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.present.values().map(|present| &present.link)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// How many workers there are, less those that leave.
    pub(super) fn staying(&self) -> usize {
        self.present.values().filter(|present| present.leaving.is_none()).count()
    }

    /// Keeps what a worker told at its end.
    pub(super) fn finished(&mut self, worker: WorkerId, report: Bytes) {
        self.member_mut(worker).finish = Some(report);
    }

    /// Whether a worker told what it had to tell at its end.
    pub(super) fn has_finished(&self, worker: WorkerId) -> bool {
        self.member(worker).finish.is_some()
    }

    /// Notes that a worker's process has ended; returns what was known of it while it ran.
    pub(super) fn remove(&mut self, worker: WorkerId) -> Option<Present> {
        self.member_mut(worker).info.alive = false;
        self.present.remove(&worker)
    }

    /// Notes how a worker ended before the shutdown.
    pub(super) fn set_end(&mut self, worker: WorkerId, end: WorkerEnd) {
        self.member_mut(worker).info.end = Some(end);
    }

    pub(super) fn info(&self, worker: WorkerId) -> &WorkerInfo {
        &self.member(worker).info
    }

    pub(super) fn infos(&self) -> impl ExactSizeIterator<Item = &WorkerInfo> {
        self.members.iter().map(|member| &member.info)
    }

    pub(super) fn reports(&self) -> Vec<WorkerReport> {
        let report = |member: &Member| WorkerReport { worker: member.info.clone(), finish: member.finish.clone() };
        self.members.iter().map(report).collect()
    }
}
