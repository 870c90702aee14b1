//! A session, from its request to its end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ask::Ask;
use super::error::{SessionError, Why};
use super::ports::Claim;
use super::report::{SessionReport, SessionStage};
use crate::auth::Identity;
use crate::forward::{Forwarding, ReservedPort, Target, Traffic};

/// How long a data server may take to give everything up.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// Over how many looks at a session's traffic its rate is measured.
const SAMPLES: usize = 5;

/// A session at this control server.
pub(crate) struct Session {
    pub(crate) ask: Ask,
    pub(crate) owner: Identity,
    /// What others are told.
    pub(crate) listeners: Vec<Target>,
    /// When it was requested, by the wall's clock since that outlives the process.
    pub(crate) since: SystemTime,
    state: Mutex<State>,
    /// Had by whoever starts or ends its data server.
    pub(crate) work: tokio::sync::Mutex<()>,
    /// Whoever waits for something in this session waits no longer.
    ending: CancellationToken,
    why: OnceLock<Why>,
    /// Its ports can be bound again, and its UUID be used again.
    gone: CancellationToken,
}

struct State {
    stage: Stage,
    claim: Option<Claim>,
    /// When it came to this stage, or when a byte was last seen to go through it.
    active: Instant,
    /// When its client last asked how it fares.
    attended: Instant,
    /// When and how many bytes had gone through it, the newest last.
    samples: VecDeque<(Instant, u64)>,
}

enum Stage {
    Requested { ports: Vec<ReservedPort>, hello: oneshot::Sender<Hello> },
    Greeted { ports: Vec<ReservedPort> },
    Starting,
    Forwarding { forwarding: Box<dyn Forwarding>, targets: Vec<Target> },
    Ended,
}

/// What the application said.
#[derive(Debug, Default)]
pub(crate) struct Hello {
    /// Where it listens, as it said it.
    pub(crate) prod_listeners: Vec<String>,
}

impl Session {
    /// One that waits for hello, which comes by what is returned beside it.
    pub(crate) fn requested(
        ask: Ask,
        owner: Identity,
        listeners: Vec<Target>,
        (claim, ports): (Claim, Vec<ReservedPort>),
    ) -> (Arc<Self>, oneshot::Receiver<Hello>) {
        let (hello, greeting) = oneshot::channel();
        let stage = Stage::Requested { ports, hello };
        (Self::new(ask, owner, listeners, SystemTime::now(), claim, stage), greeting)
    }

    /// One that was there before and waits to be started again.
    pub(crate) fn greeted(
        ask: Ask,
        owner: Identity,
        listeners: Vec<Target>,
        since: SystemTime,
        (claim, ports): (Claim, Vec<ReservedPort>),
    ) -> Arc<Self> {
        Self::new(ask, owner, listeners, since, claim, Stage::Greeted { ports })
    }

    fn new(
        ask: Ask,
        owner: Identity,
        listeners: Vec<Target>,
        since: SystemTime,
        claim: Claim,
        stage: Stage,
    ) -> Arc<Self> {
        let now = Instant::now();
        let state = State { stage, claim: Some(claim), active: now, attended: now, samples: VecDeque::new() };
        Arc::new(Self {
            ask,
            owner,
            listeners,
            since,
            state: Mutex::new(state),
            work: tokio::sync::Mutex::new(()),
            ending: CancellationToken::new(),
            why: OnceLock::new(),
            gone: CancellationToken::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The application said hello. Said again, it gets the same answer, and the request keeps what it was answered.
    pub(crate) fn greet(&self, greeting: Hello) -> Result<(), SessionError> {
        let mut state = self.state();
        let stage = std::mem::replace(&mut state.stage, Stage::Ended);
        let (stage, greeted) = match stage {
            Stage::Requested { ports, hello } => {
                // Where the request no longer waits, its guard ends the session.
                let _ = hello.send(greeting);
                state.active = Instant::now();
                (Stage::Greeted { ports }, Ok(()))
            }
            Stage::Ended => (Stage::Ended, Err(SessionError::NotFound(self.ask.uid))),
            other => (other, Ok(())),
        };
        state.stage = stage;
        greeted
    }

    /// Takes the ports, for a data server that is about to start.
    pub(crate) fn starts(&self) -> Result<Vec<ReservedPort>, SessionError> {
        let mut state = self.state();
        match std::mem::replace(&mut state.stage, Stage::Starting) {
            Stage::Greeted { ports } => Ok(ports),
            other => {
                let uid = self.ask.uid;
                let error = match other {
                    Stage::Requested { .. } => SessionError::NotGreeted(uid),
                    Stage::Forwarding { .. } => SessionError::Forwards(uid),
                    Stage::Starting | Stage::Greeted { .. } => SessionError::Busy(uid),
                    Stage::Ended => SessionError::NotFound(uid),
                };
                state.stage = other;
                Err(error)
            }
        }
    }

    /// Its data server forwards.
    pub(crate) fn forwards(&self, forwarding: Box<dyn Forwarding>, targets: Vec<Target>) {
        let mut state = self.state();
        state.active = Instant::now();
        state.stage = Stage::Forwarding { forwarding, targets };
    }

    /// Waits until it is about to end, for what that is.
    pub(crate) async fn ending(&self) -> SessionError {
        self.ending.cancelled().await;
        SessionError::Ended(self.ask.uid, self.why.get().copied().unwrap_or(Why::Released))
    }

    /// Waits until it has given everything back.
    pub(crate) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Gives everything back. It is in no table by then, so that this happens once.
    pub(crate) async fn end(&self, why: Why) {
        let _ = self.why.set(why);
        self.ending.cancel();
        let _work = self.work.lock().await;
        let (stage, claim) = {
            let mut state = self.state();
            (std::mem::replace(&mut state.stage, Stage::Ended), state.claim.take())
        };
        match stage {
            Stage::Forwarding { forwarding, .. } => {
                if tokio::time::timeout(RELEASE_LIMIT, forwarding.release()).await.is_err() {
                    tracing::error!(
                        uid = %self.ask.uid,
                        "data server {} did not end within {} s",
                        self.ask.server.kind(),
                        RELEASE_LIMIT.as_secs()
                    );
                }
            }
            // Its sockets close before their ports are told to be free.
            other => drop(other),
        }
        drop(claim);
        self.log(format_args!("session ended: {why}"));
    }

    /// Tells whoever waits for it that nothing of it is left.
    pub(crate) fn is_gone(&self) {
        self.gone.cancel();
    }

    /// Tells the log of it.
    pub(crate) fn log(&self, what: impl fmt::Display) {
        let Ask { uid, role, server, .. } = &self.ask;
        tracing::info!(%uid, %role, r#type = %server.kind(), identity = %self.owner, "{what}");
    }

    /// Its client asks how it fares.
    pub(crate) fn attend(&self) {
        self.state().attended = Instant::now();
    }

    /// Looks at what went through it, for the rate, and for when it was last active.
    pub(crate) fn sample(&self, now: Instant) {
        let mut state = self.state();
        let Some(bytes) = state.traffic().map(bytes_of) else { return };
        if state.samples.back().is_some_and(|(_, before)| *before != bytes) {
            state.active = now;
        }
        if state.samples.len() == SAMPLES {
            state.samples.pop_front();
        }
        state.samples.push_back((now, bytes));
    }

    /// Why it should end now, by these limits.
    pub(crate) fn due(
        &self,
        max_session: Option<Duration>,
        idle_limit: Option<Duration>,
        update_timeout: Duration,
    ) -> Option<Why> {
        let past = |limit: Option<Duration>, age: Duration| limit.is_some_and(|limit| age >= limit);
        // A clock that was set back makes no session older.
        if past(max_session, self.since.elapsed().unwrap_or_default()) {
            return Some(Why::Lease);
        }
        let state = self.state();
        match &state.stage {
            Stage::Greeted { .. } if state.active.elapsed() >= update_timeout => Some(Why::NoTargets),
            Stage::Forwarding { .. } if !state.samples.is_empty() && past(idle_limit, state.active.elapsed()) => {
                Some(Why::Idle)
            }
            Stage::Forwarding { .. }
                if past(self.ask.attended, state.attended.elapsed().min(state.active.elapsed())) =>
            {
                Some(Why::Unattended)
            }
            _ => None,
        }
    }

    /// How it fares.
    pub(crate) fn report(&self, enforce_rate: bool) -> SessionReport {
        let state = self.state();
        let traffic = state.traffic();
        let (stage, targets, problem) = match &state.stage {
            Stage::Requested { .. } => (SessionStage::Requested, Vec::new(), None),
            Stage::Greeted { .. } | Stage::Starting => (SessionStage::Greeted, Vec::new(), None),
            Stage::Forwarding { forwarding, targets } => {
                (SessionStage::Forwarding, targets.clone(), forwarding.problem())
            }
            Stage::Ended => (SessionStage::Ended, Vec::new(), None),
        };
        SessionReport {
            uid: self.ask.uid,
            role: self.ask.role,
            stage,
            kind: self.ask.server.kind(),
            identity: self.owner.clone(),
            listeners: self.listeners.clone(),
            targets,
            age: self.since.elapsed().unwrap_or_default(),
            rate_asked: self.ask.rate,
            rate_measured: state.rate(traffic),
            rate_enforced: enforce_rate && self.ask.rate > 0,
            traffic,
            problem,
        }
    }
}

fn bytes_of(traffic: Traffic) -> u64 {
    traffic.bytes_to_target + traffic.bytes_to_client
}

impl State {
    fn traffic(&self) -> Option<Traffic> {
        match &self.stage {
            Stage::Forwarding { forwarding, .. } => forwarding.traffic(),
            _ => None,
        }
    }

    /// In kb/s, from the oldest sample until now.
    fn rate(&self, traffic: Option<Traffic>) -> u64 {
        let (Some(traffic), Some((since, before))) = (traffic, self.samples.front()) else { return 0 };
        let seconds = since.elapsed().as_secs_f64();
        let bits = bytes_of(traffic).saturating_sub(*before) as f64 * 8.0;
        if seconds > 0.0 { (bits / 1000.0 / seconds) as u64 } else { 0 }
    }
}
