//! The flows of a lane: whom datagrams belong to.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// When a flow was last heard of. Both ways write it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Milliseconds since the lane began.
    last: AtomicU64,
    /// So, too; 0: never.
    answered: AtomicU64,
    /// The client has sent after an answer: it is where it says it is.
    assured: AtomicBool,
}

impl Activity {
    /// The client sent something.
    pub(super) fn sent(&self, now: Duration) {
        self.last.store(now.as_millis() as u64, Relaxed);
        if self.answered.load(Relaxed) > 0 {
            self.assured.store(true, Relaxed);
        }
    }

    /// The target sent something.
    pub(super) fn answered(&self, now: Duration) {
        self.last.store(now.as_millis() as u64, Relaxed);
        self.answered.store(now.as_millis().max(1) as u64, Relaxed);
    }

    /// Whether the target has sent something since then.
    pub(super) fn is_answered_since(&self, then: Duration) -> bool {
        self.answered.load(Relaxed) > then.as_millis() as u64
    }

    fn is_idle(&self, now: Duration, limit: Duration) -> bool {
        now.as_millis() as u64 >= self.last.load(Relaxed) + limit.as_millis() as u64
    }
}

/// A flow that knows when it was last heard of.
pub(super) trait Active {
    fn activity(&self) -> &Activity;
}

/// Flows by client, and never more than a bound.
#[derive(Debug)]
pub(super) struct Flows<K, F> {
    all: HashMap<K, F>,
    most: usize,
}

impl<K: Copy + Eq + Hash, F: Active> Flows<K, F> {
    pub(super) fn new(most: usize) -> Self {
        Self { all: HashMap::new(), most }
    }

    pub(super) fn get(&self, client: &K) -> Option<&F> {
        self.all.get(client)
    }

    pub(super) fn is_full(&self) -> bool {
        self.all.len() >= self.most
    }

    /// Adds one. There has to be room.
    pub(super) fn insert(&mut self, client: K, flow: F) {
        debug_assert!(!self.is_full());
        self.all.insert(client, flow);
    }

    /// Takes the flow out that can best be done without: the longest idle one of those whose client may be made up, else of those that
    /// have been idle for as long as this. Looks at each of them, which at 1024 takes less than the system calls of a new one.
    pub(super) fn evict(&mut self, now: Duration, idle: Duration) -> Option<F> {
        let spare = |activity: &Activity| (activity.assured.load(Relaxed), activity.last.load(Relaxed));
        let dispensable = |activity: &Activity| !activity.assured.load(Relaxed) || activity.is_idle(now, idle);
        let flows = self.all.iter().filter(|(_, flow)| dispensable(flow.activity()));
        let client = *flows.min_by_key(|(_, flow)| spare(flow.activity()))?.0;
        self.all.remove(&client)
    }

    /// Takes those out of which this is true.
    pub(super) fn extract(&mut self, is_over: impl Fn(&F) -> bool) -> impl Iterator<Item = F> {
        self.all.extract_if(move |_, flow| is_over(flow)).map(|(_, flow)| flow)
    }

    /// Takes those out that have been idle for as long as this.
    pub(super) fn expire(&mut self, now: Duration, limit: Duration) -> impl Iterator<Item = F> {
        self.extract(move |flow| flow.activity().is_idle(now, limit))
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &F> {
        self.all.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Flow(u32, Activity);

    impl Active for Flow {
        fn activity(&self) -> &Activity {
            &self.1
        }
    }

    fn flows(count: u32) -> Flows<u32, Flow> {
        let mut flows = Flows::new(count as usize);
        for client in 0..count {
            let flow = Flow(client, Activity::default());
            flow.1.sent(Duration::from_millis(client.into()));
            flows.insert(client, flow);
        }
        flows
    }

    #[test]
    fn idle_flows_expire_and_busy_ones_stay() {
        let mut flows = flows(10);
        let second = Duration::from_secs(1);
        flows.get(&0).unwrap().1.answered(second);
        let mut gone: Vec<_> = flows.expire(second + Duration::from_millis(4), second).map(|flow| flow.0).collect();
        gone.sort_unstable();
        assert_eq!(gone, [1, 2, 3, 4]);
        assert_eq!(flows.iter().count(), 6);
    }

    #[test]
    fn made_up_clients_make_room_before_real_ones() {
        let mut flows = flows(4);
        // 0 answers an answer; 1 was only answered.
        for client in [0, 1] {
            flows.get(&client).unwrap().1.answered(Duration::from_millis(1));
        }
        flows.get(&0).unwrap().1.sent(Duration::from_millis(1));
        assert!(flows.is_full());
        let mut evict = |now, idle| {
            let (now, idle) = (Duration::from_millis(now), Duration::from_millis(idle));
            std::iter::from_fn(|| flows.evict(now, idle)).map(|flow| flow.0).collect::<Vec<_>>()
        };
        assert_eq!(evict(10, 100), [1, 2, 3]);
        assert_eq!(evict(101, 100), [0]);
    }
}
