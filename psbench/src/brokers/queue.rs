//! A bounded queue of messages between whoever receives them and the subscriber.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{BrokerError, Message};

/// Messages of one topic on their way to its one subscriber. Bounded in number and bytes: who pushes waits for room.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something came, or an end.
    filled: Condvar,
    /// There is room again, or nobody is there to take.
    drained: Condvar,
    /// What came so far, as the broker carries it, bytes.
    received: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: u64,
    /// The sending side has ended, with the reason for the subscriber.
    ended: Option<BrokerError>,
    /// The subscriber is gone.
    abandoned: bool,
    pushers_waiting: usize,
    /// Connections whose messages go here.
    senders: usize,
    subscriber_waiting: bool,
}

/// Bounds of what waits for the subscriber: enough to hide a wake-up, small enough that memory stays warm.
const MAX_MESSAGES: usize = 4096;
const MAX_BYTES: u64 = 16 << 20;
/// Bytes that are taken together, or one message above it.
const TAKEN_BYTES: u64 = 1 << 20;

/// The subscriber is gone: what is pushed would never be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abandoned;

impl State {
    fn is_full(&self) -> bool {
        // One message is let in whatever its size, else one above the bound would wait for ever.
        self.messages.len() >= MAX_MESSAGES || (self.bytes >= MAX_BYTES && !self.messages.is_empty())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the queue as consistent as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what came of the broker for messages, in its own form: of another program's there is more than psbench's messages keep.
    pub(super) fn count(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far, bytes.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Appends all of `messages`, waiting for room while `may_wait` says so; `Ok(false)` when it gave up before the last.
    pub(super) fn push(
        &self,
        messages: &mut VecDeque<Message>,
        may_wait: impl Fn() -> bool,
    ) -> Result<bool, Abandoned> {
        const LOOK_AGAIN: Duration = Duration::from_millis(100);
        let mut state = self.lock();
        loop {
            if state.abandoned {
                return Err(Abandoned);
            }
            while !state.is_full() {
                let Some(message) = messages.pop_front() else { break };
                state.bytes += message.len();
                state.messages.push_back(message);
            }
            if state.subscriber_waiting && !state.messages.is_empty() {
                state.subscriber_waiting = false;
                self.filled.notify_one();
            }
            if messages.is_empty() {
                return Ok(true);
            }
            if !may_wait() {
                return Ok(false);
            }
            state.pushers_waiting += 1;
            state = self.drained.wait_timeout(state, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner).0;
            state.pushers_waiting -= 1;
        }
    }

    /// Waits until the subscriber has taken all there is.
    pub(super) fn wait_until_empty(&self) -> Result<(), Abandoned> {
        let mut state = self.lock();
        state.pushers_waiting += 1;
        let waits = |state: &mut State| !state.abandoned && !state.messages.is_empty();
        state = self.drained.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        state.pushers_waiting -= 1;
        if state.abandoned { Err(Abandoned) } else { Ok(()) }
    }

    /// Says that nothing more will come: the subscriber gets what is there, then `reason`.
    pub(super) fn end(&self, reason: BrokerError) {
        let mut state = self.lock();
        state.ended.get_or_insert(reason);
        self.filled.notify_all();
    }

    /// Says that nobody will take any more.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.messages.clear();
        state.bytes = 0;
        self.drained.notify_all();
    }

    /// Counts a connection whose messages go here, until what is returned is dropped.
    pub(super) fn sender(self: &Arc<Self>) -> Sender {
        self.lock().senders += 1;
        Sender(Arc::clone(self))
    }

    /// Whether nothing waits for the subscriber, and no connection can bring anything.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.messages.is_empty() && state.senders == 0
    }

    /// How many messages wait for the subscriber.
    #[cfg(feature = "kafka")]
    pub(super) fn len(&self) -> usize {
        self.lock().messages.len()
    }

    /// Whether the subscriber is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Appends what is there, waiting at most `wait` for the first, and no more bytes at a time than amortise the lock: whoever takes
    /// them has bounds of its own.
    pub(super) fn pop(&self, into: &mut Vec<Message>, wait: Duration) -> Result<(), BrokerError> {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        while state.messages.is_empty() {
            if let Some(reason) = state.ended.take() {
                return Err(reason);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            state.subscriber_waiting = true;
            state = self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.subscriber_waiting = false;
        let mut taken = 0;
        while taken < TAKEN_BYTES
            && let Some(message) = state.messages.pop_front()
        {
            taken += message.len();
            into.push(message);
        }
        state.bytes -= taken;
        if state.pushers_waiting > 0 {
            self.drained.notify_all();
        }
        Ok(())
    }
}

/// A connection whose messages go to a queue.
pub(super) struct Sender(Arc<Queue>);

impl Deref for Sender {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.0
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(size: usize) -> Message {
        Message { head: Bytes::new(), payload: Bytes::from(vec![0; size]) }
    }

    #[test]
    fn who_pushes_waits_for_room_and_order_is_kept() {
        let queue = Arc::new(Queue::default());
        let total = MAX_MESSAGES * 3;
        let pusher = Arc::clone(&queue);
        let pushing = std::thread::spawn(move || {
            for n in 0..total {
                let message = Message { head: Bytes::from(n.to_le_bytes().to_vec()), payload: Bytes::new() };
                assert_eq!(pusher.push(&mut VecDeque::from([message]), || true), Ok(true));
            }
        });
        let mut received = Vec::new();
        while received.len() < total {
            queue.pop(&mut received, Duration::from_secs(60)).unwrap();
        }
        pushing.join().unwrap();
        assert!(received.iter().enumerate().all(|(n, m)| *m.head == n.to_le_bytes()[..]));
    }

    #[test]
    fn it_is_bounded_in_bytes_but_lets_one_large_message_in() {
        let queue = Queue::default();
        let large = MAX_BYTES as usize + 1;
        assert_eq!(queue.push(&mut VecDeque::from([message(large)]), || false), Ok(true));
        assert_eq!(queue.push(&mut VecDeque::from([message(1)]), || false), Ok(false));
    }

    #[test]
    fn who_waits_until_it_is_empty_is_told_so() {
        let queue = Arc::new(Queue::default());
        queue.push(&mut VecDeque::from([message(1), message(2)]), || true).unwrap();
        let waiter = Arc::clone(&queue);
        let waiting = std::thread::spawn(move || {
            let empty = waiter.wait_until_empty();
            (empty, waiter.lock().messages.len())
        });
        let mut received = Vec::new();
        queue.pop(&mut received, Duration::from_secs(60)).unwrap();
        assert_eq!((received.len(), waiting.join().unwrap()), (2, (Ok(()), 0)));
        queue.push(&mut VecDeque::from([message(1)]), || true).unwrap();
        queue.abandon();
        assert_eq!(queue.wait_until_empty(), Err(Abandoned));
    }

    #[test]
    fn both_sides_learn_of_the_others_end() {
        let queue = Queue::default();
        queue.push(&mut VecDeque::from([message(1)]), || true).unwrap();
        queue.end(BrokerError::Protocol { broker: "b".into(), reason: "over".into() });
        let mut received = Vec::new();
        queue.pop(&mut received, Duration::ZERO).unwrap();
        assert_eq!(received.len(), 1);
        assert!(queue.pop(&mut received, Duration::from_secs(60)).is_err());
        queue.abandon();
        assert_eq!(queue.push(&mut VecDeque::from([message(1)]), || true), Err(Abandoned));
    }
}
