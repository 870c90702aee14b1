//! Connections that have not proved yet who they are: that they come from the other gateway, or speak this server's protocol.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a stranger may take: some round-trip times of the longest path there is, with losses.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where so many strangers may be together. When one more comes, the network that most of them are from loses the one that has been there
/// longest: whoever fills the door from one place with connections that say nothing sends away his own, and since gateways are through in
/// a round-trip time or two, whoever does it from many has to bring that many in as short a time.
#[derive(Debug)]
pub(crate) struct Door {
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// Those who came first in front. Who is dropped is sent away.
    strangers: VecDeque<Stranger>,
}

#[derive(Debug)]
struct Stranger {
    number: u64,
    from: IpAddr,
    _stay: oneshot::Sender<()>,
}

/// Whoever has one IPv6 address mostly has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl Door {
    /// For so many strangers.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, waiting: Mutex::default() }
    }

    /// Lets a stranger from this address prove who it is, for as long as there is patience and room.
    ///
    /// # Errors
    /// What the proof fails with, or that it took too long or was sent away for others.
    pub(crate) async fn admit<T>(&self, from: IpAddr, proof: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let (number, sent_away) = self.enter(network(from));
        let _leave = Leave { door: self, number };
        tokio::select! {
            biased;
            proved = timeout(PATIENCE, proof) => proved.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            _ = sent_away => Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many strangers at the door")),
        }
    }

    fn enter(&self, from: IpAddr) -> (u64, oneshot::Receiver<()>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.strangers.len() >= self.most {
            waiting.send_one_away();
        }
        let number = waiting.next;
        waiting.next += 1;
        let (stay, sent_away) = oneshot::channel();
        waiting.strangers.push_back(Stranger { number, from, _stay: stay });
        (number, sent_away)
    }
}

impl Waiting {
    fn send_one_away(&mut self) {
        let mut places = HashMap::<IpAddr, usize>::new();
        for stranger in &self.strangers {
            *places.entry(stranger.from).or_default() += 1;
        }
        let most = places.values().max().copied();
        let oldest = self.strangers.iter().position(|stranger| places.get(&stranger.from).copied() == most);
        if let Some(oldest) = oldest {
            self.strangers.remove(oldest);
        }
    }
}

/// Takes a stranger off the list, whatever became of it.
struct Leave<'a> {
    door: &'a Door,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut waiting = self.door.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.strangers.retain(|stranger| stranger.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::future::join_all;

    use super::*;

    const MOST: usize = 20;

    fn at(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_stays_for_ever() {
        let error = Door::new(1).admit::<()>(at(1), pending()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_keeps_nobody_out() {
        let door = Door::new(MOST);
        let silent = join_all((0..MOST).map(|_| door.admit::<()>(at(1), pending())));
        let silent = async {
            let errors = silent.await.into_iter().map(|ended| ended.unwrap_err().kind());
            errors.filter(|kind| *kind == io::ErrorKind::ResourceBusy).count()
        };
        let known = async {
            tokio::task::yield_now().await;
            let mut sent_away = 0;
            for _ in 0..10 {
                sent_away += usize::from(door.admit(at(1), async { Ok(()) }).await.is_err());
            }
            sent_away
        };
        let (sent_away, known) = tokio::join!(silent, known);
        assert_eq!((sent_away, known), (1, 0));
        assert!(door.waiting.lock().unwrap().strangers.is_empty());
    }

    #[test]
    fn whoever_fills_the_door_sends_away_his_own() {
        let door = Door::new(3);
        let mut first = door.enter(network(at(1))).1;
        // Two addresses of one network.
        let [mut second, mut third] =
            ["2001:db8::1", "2001:db8::2"].map(|address| door.enter(network(address.parse().unwrap())).1);
        let mut fourth = door.enter(network("2001:db8::3".parse().unwrap())).1;
        let sent_away = [&mut first, &mut second, &mut third, &mut fourth].map(|stays| {
            use oneshot::error::TryRecvError;
            stays.try_recv() == Err(TryRecvError::Closed)
        });
        assert_eq!(sent_away, [false, true, false, false]);
    }
}
