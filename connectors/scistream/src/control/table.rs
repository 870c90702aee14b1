//! The sessions of a control server.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::ask::Ask;
use super::error::SessionError;
use super::session::Session;
use super::{Limits, Quotas};
use crate::auth::Identity;

/// All sessions, and the hellos that came before theirs.
pub(crate) struct Table {
    limits: Limits,
    quotas: Quotas,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sessions: HashMap<Uuid, Arc<Session>>,
    /// Those that are in it no longer, and have not given everything back yet.
    ending: HashSet<Uuid>,
    early: HashMap<Uuid, Vec<Early>>,
    early_count: usize,
    /// The last requests that came to nothing, so that their hellos don't wait.
    refused: VecDeque<Refused>,
    closed: bool,
}

/// A hello that waits for its request.
struct Early {
    owner: Identity,
    hello: oneshot::Sender<()>,
}

struct Refused {
    uid: Uuid,
    owner: Identity,
    problem: String,
    at: Instant,
}

/// How many requests that came to nothing are remembered, and for how long: a user client sends its hello within moments.
const REFUSED: (usize, Duration) = (256, Duration::from_secs(5));

/// Hellos of one identity that may wait for their requests, so that it leaves room for others.
const EARLY_OF_ONE: usize = 64;

/// Where a session is, or what to wait for.
pub(crate) enum Found {
    Session(Arc<Session>),
    NotYet(oneshot::Receiver<()>),
}

impl Table {
    pub(crate) fn new(limits: Limits, quotas: Quotas) -> Self {
        Self { limits, quotas, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether such a session could be taken on now.
    pub(crate) fn admits(&self, ask: &Ask, owner: &Identity) -> Result<(), SessionError> {
        self.inner().admits(ask, owner, &self.limits, &self.quotas)
    }

    /// Takes a session on, and tells the hellos that wait for it.
    pub(crate) fn insert(&self, session: &Arc<Session>) -> Result<(), SessionError> {
        let mut inner = self.inner();
        inner.admits(&session.ask, &session.owner, &self.limits, &self.quotas)?;
        inner.sessions.insert(session.ask.uid, Arc::clone(session));
        inner.refused.retain(|refused| refused.uid != session.ask.uid);
        inner.wake(session.ask.uid);
        Ok(())
    }

    /// Remembers that a request came to nothing, and tells the hellos that wait for it.
    pub(crate) fn refuse(&self, uid: Uuid, owner: &Identity, problem: String) {
        let mut inner = self.inner();
        if inner.refused.len() == REFUSED.0 {
            inner.refused.pop_front();
        }
        inner.refused.push_back(Refused { uid, owner: owner.clone(), problem, at: Instant::now() });
        inner.wake(uid);
    }

    /// Whether no session has this UUID.
    pub(crate) fn vacant(&self, uid: Uuid) -> Result<(), SessionError> {
        self.inner().vacant(uid)
    }

    /// Takes a session out; false: somebody else did. Its UUID is nobody else's until it is [`gone`](Self::gone).
    pub(crate) fn remove(&self, session: &Arc<Session>) -> bool {
        let mut inner = self.inner();
        match inner.sessions.entry(session.ask.uid) {
            Entry::Occupied(entry) if Arc::ptr_eq(entry.get(), session) => {
                entry.remove();
                inner.ending.insert(session.ask.uid);
                true
            }
            _ => false,
        }
    }

    /// A session that was taken out has given everything back.
    pub(crate) fn gone(&self, uid: Uuid) {
        self.inner().ending.remove(&uid);
    }

    /// Somebody's session.
    pub(crate) fn find(&self, uid: Uuid, owner: &Identity) -> Result<Arc<Session>, SessionError> {
        self.inner().sessions.get(&uid).map_or(Err(SessionError::NotFound(uid)), |session| of(session, owner))
    }

    /// Somebody's session; where it is not there yet, what tells when to look again. Whoever no longer waits calls
    /// [`forget`](Self::forget).
    pub(crate) fn find_or_wait(&self, uid: Uuid, owner: &Identity) -> Result<Found, SessionError> {
        let mut inner = self.inner();
        if let Some(session) = inner.sessions.get(&uid) {
            return of(session, owner).map(Found::Session);
        }
        let mut refused = inner.refused.iter().rev().filter(|refused| refused.at.elapsed() < REFUSED.1);
        if let Some(refused) = refused.find(|refused| refused.uid == uid && refused.owner == *owner) {
            return Err(SessionError::Refused { uid, problem: refused.problem.clone() });
        }
        if inner.closed {
            return Err(SessionError::Closing);
        }
        let own = || inner.early.values().flatten().filter(|early| early.owner == *owner).count();
        if inner.early_count >= self.limits.waiting_hellos || own() >= EARLY_OF_ONE {
            return Err(SessionError::TooManyHellos(uid));
        }
        let (hello, session) = oneshot::channel();
        inner.early_count += 1;
        inner.early.entry(uid).or_default().push(Early { owner: owner.clone(), hello });
        Ok(Found::NotYet(session))
    }

    /// Forgets the hellos for a session that no longer wait for it.
    pub(crate) fn forget(&self, uid: Uuid) {
        let mut inner = self.inner();
        let Entry::Occupied(mut entry) = inner.early.entry(uid) else { return };
        let before = entry.get().len();
        entry.get_mut().retain(|early| !early.hello.is_closed());
        let left = entry.get().len();
        if left == 0 {
            entry.remove();
        }
        inner.early_count -= before - left;
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.inner().sessions.len() as u64
    }

    /// All of them, those that were requested first at the front.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.inner().sessions.values().cloned().collect();
        all.sort_by_key(|session| (session.since, session.ask.uid));
        all
    }

    /// Takes no more on. Hellos that wait are told.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        inner.early.clear();
        inner.early_count = 0;
    }
}

fn of(session: &Arc<Session>, owner: &Identity) -> Result<Arc<Session>, SessionError> {
    if session.owner == *owner { Ok(Arc::clone(session)) } else { Err(SessionError::NotOwner(session.ask.uid)) }
}

impl Inner {
    /// Lets the hellos for a session look for it again.
    fn wake(&mut self, uid: Uuid) {
        for early in self.early.remove(&uid).unwrap_or_default() {
            self.early_count -= 1;
            // It may have given up.
            let _ = early.hello.send(());
        }
    }

    fn vacant(&self, uid: Uuid) -> Result<(), SessionError> {
        if self.sessions.contains_key(&uid) {
            Err(SessionError::AlreadyExists(uid))
        } else if self.ending.contains(&uid) {
            Err(SessionError::Ending(uid))
        } else {
            Ok(())
        }
    }

    fn admits(&self, ask: &Ask, owner: &Identity, limits: &Limits, quotas: &Quotas) -> Result<(), SessionError> {
        if self.closed {
            return Err(SessionError::Closing);
        }
        self.vacant(ask.uid)?;
        if self.sessions.len() >= limits.sessions {
            return Err(SessionError::Full(limits.sessions));
        }
        if *quotas == Quotas::default() {
            return Ok(());
        }
        let (mut sessions, mut ports, mut rate) = (1, ask.count, ask.rate);
        for session in self.sessions.values().filter(|session| session.owner == *owner) {
            sessions += 1;
            ports += session.ask.count;
            rate += session.ask.rate;
        }
        let within = |what, most: Option<u64>, wanted: u64| match most {
            Some(most) if wanted > most => Err(SessionError::Quota { identity: owner.clone(), what, most, wanted }),
            _ => Ok(()),
        };
        within("sessions", quotas.sessions.map(|most| most as u64), sessions)?;
        within("ports", quotas.ports.map(|most| most as u64), ports as u64)?;
        match quotas.rate {
            Some(most) if ask.rate == 0 => Err(SessionError::NoRate { identity: owner.clone(), most }),
            most => within("kb/s", most, rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos_of_one_identity_leave_room_for_others() {
        let table = Table::new(Limits::default(), Quotas::default());
        let (ann, bob) = (Identity::new("ann"), Identity::new("bob"));
        let mut waiting: Vec<_> =
            (0..EARLY_OF_ONE).map(|_| table.find_or_wait(Uuid::new_v4(), &ann).ok().unwrap()).collect();
        let refused = table.find_or_wait(Uuid::new_v4(), &ann).err().unwrap();
        assert!(matches!(refused, SessionError::TooManyHellos(_)), "{refused}");
        waiting.push(table.find_or_wait(Uuid::new_v4(), &bob).ok().unwrap());
    }
}
