//! Tasks run by a workflow engine of Python: Parsl, Dask, Globus Compute, or any other with the shape of
//! `concurrent.futures.Executor`.
//!
//! The engine lives in a process of Python's, the *bridge* (`executors/python`), which outlasts single trials, as engines take seconds to
//! start. Tasks go to it in frames over a socket pair, many at a time, and outcomes come back as they end. On the engine's workers a Python
//! function hands them to a worker process of this program:
//!
//! ```text
//!  submit ──▶ batches ══ socket pair ══▶ bridge ── engine ──▶ Python worker ══ socket pair ══▶ worker::serve ──▶ Work::run
//! ```
//!
//! Beside tasks, a bridge has its engine place workers that connect: a [`BridgeLauncher`] for a
//! [`PilotExecutor`](crate::pilot::PilotExecutor).
//!
//! | what goes wrong | its tasks |
//! |---|---|
//! | a task fails or panics, or the engine's user code raises | [`Failed`](crate::TaskError::Failed), or `WorkerLost` with the engine's words |
//! | a worker process dies or stays stopped | those of its batch that it was sent and had not told of [`WorkerLost`](crate::TaskError::WorkerLost); another takes the rest |
//! | a task outlasts its limit | [`TimedOut`](crate::TaskError::TimedOut) |
//! | the engine loses a worker of its own, or refuses a task | `WorkerLost` or [`NotRun`](crate::TaskError::NotRun), with the engine's words |
//! | the engine's service or the bridge ends | those that the engine had `WorkerLost`, all others `NotRun` |

mod check;
mod executor;
mod frames;
mod package;
mod place;
mod remains;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use check::{CheckError, EngineInfo, Installs, PythonEngine, Survey, check_all};
pub use executor::{BridgeExecutor, BridgeTerms};
pub use place::BridgeLauncher;

use crate::ExecutorError;
use crate::fleet::channel::Channel;
use crate::fleet::frames::Packet;
use crate::fleet::outbox::Outbox;
use crate::fleet::wire::FrameReader;
use crate::process::WorkerStderr;
use crate::process::child::{Process, Program};
use crate::sync::{lock, wait_timeout};
use executor::Client;
use frames::Told;

/// Given to a bridge that was asked to end: its engine has 10 s of it.
const ENDING: Duration = Duration::from_secs(20);
/// Given to a bridge that hung up to be gone by itself.
const LINGER: Duration = Duration::from_secs(12);

/// Which engine, and where its Python is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeOptions {
    /// Python's program, with the engine's package.
    pub python: PathBuf,
    /// The engine: `parsl`, `dask`, `globus` or `python`.
    pub engine: &'static str,
    /// The engine's own options, as `executors/python` has them.
    pub options: Value,
    /// How many workers the engine is to have.
    pub workers: u32,
    /// The command line of a worker process, which calls [`serve`](crate::worker::serve).
    pub worker: Vec<String>,
    /// Most time until the engine is there, and then until its workers are.
    pub ready_timeout: Duration,
    /// Where Python's side of the bridge is unpacked, beside those of other versions.
    pub packages: PathBuf,
}

/// An engine of Python's that runs, and the process that holds it.
///
/// Ends with it when dropped: the engine in order, which may take some seconds, and whatever it leaves behind by force.
pub struct Bridge {
    options: BridgeOptions,
    process: Process,
    channel: Arc<Channel>,
    outbox: Arc<Outbox>,
    state: Mutex<State>,
    changed: Condvar,
    /// Numbers for greetings, placements and works. They begin anywhere: workers of an engine may outlive the bridge, and what they keep
    /// of one work is nothing for the next.
    counter: AtomicU64,
    /// Tasks were left running in it: what comes next would wait behind them.
    spoiled: AtomicBool,
    /// The environment variable that all its processes have.
    marker: String,
}

#[derive(Default)]
struct State {
    ready: Option<Result<(), String>>,
    /// Whoever outcomes are for.
    client: Option<Arc<Client>>,
    /// What became of the workers that were placed; `None` while they run.
    placements: HashMap<u64, Option<Result<String, String>>>,
    /// Why it is gone.
    end: Option<String>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("engine", &self.options.engine).finish_non_exhaustive()
    }
}

impl Bridge {
    /// Starts Python and the engine, and waits until the engine is there. Its workers may come later.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Start`] if Python can't be started, [`ExecutorError::Engine`] with what the engine said if it can't.
    pub fn start(options: BridgeOptions) -> Result<Arc<Self>, ExecutorError> {
        let cannot = |what: &str| {
            let what = what.to_owned();
            move |source: io::Error| ExecutorError::Start { what, source }
        };
        let package = package::unpack(&options.packages)
            .map_err(cannot(&format!("Python's side of the bridge in {}", options.packages.display())))?;
        let marker = format!("PSBENCH_ENGINE={}", remains::mark().map_err(cannot("a bridge: no random numbers"))?);
        let (name, value) = marker.split_once('=').unwrap_or_default();
        let first = remains::number().map_err(cannot("a bridge: no random numbers"))?;
        let program = Program {
            path: options.python.clone(),
            args: ["-m", "psbench_executors", "bridge"].map(Into::into).to_vec(),
            env: vec![(name.into(), value.into()), ("PYTHONPATH".into(), package::search_path(&package))],
            stderr: WorkerStderr::Log,
            memory_limit: None,
            what: "Python",
        };
        let (process, socket) = Process::spawn(&program)?;
        process.log_as(options.engine).map_err(cannot("a thread for what the engine prints"))?;
        let channel = Arc::new(Channel::from(socket));
        let bridge = Arc::new(Self {
            process,
            outbox: Arc::new(Outbox::new(Arc::clone(&channel))),
            channel,
            state: Mutex::default(),
            changed: Condvar::new(),
            counter: AtomicU64::new(first),
            spoiled: AtomicBool::new(false),
            marker,
            options,
        });
        bridge.attend().map_err(cannot("a thread for the bridge"))?;
        let options = &bridge.options;
        let setup = json!({
            "engine": options.engine,
            "options": options.options,
            "workers": options.workers,
            "program": options.worker,
            "marker": bridge.marker,
        });
        bridge.send([frames::setup(setup.to_string())]);
        bridge.wait_ready()?;
        Ok(bridge)
    }

    /// Starts the threads that read and write, which have only what they need of it: they must not keep it.
    fn attend(self: &Arc<Self>) -> io::Result<()> {
        let reader = Arc::downgrade(self);
        let channel = Arc::clone(&self.channel);
        let outbox = Arc::clone(&self.outbox);
        thread::Builder::new().name("psbench-bridge-out".to_owned()).spawn(move || outbox.write_stalled())?;
        thread::Builder::new().name("psbench-bridge".to_owned()).spawn(move || {
            let mut told = FrameReader::<Told>::new(&channel);
            let mut news = Vec::new();
            let broken = loop {
                match told.next() {
                    Ok(Some(frame)) => news.push(frame),
                    Ok(None) => break None,
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => break Some(error.to_string()),
                    // However it hung up, it is its end that tells why.
                    Err(_) => break None,
                }
                if !told.has_frame() {
                    let Some(bridge) = reader.upgrade() else { return };
                    bridge.hear(&mut news);
                }
            };
            if let Some(bridge) = reader.upgrade() {
                bridge.hear(&mut news);
                bridge.hung_up(broken);
            }
        })?;
        Ok(())
    }

    fn send(&self, packets: impl IntoIterator<Item = Packet>) {
        let mut flush = false;
        for packet in packets {
            flush |= self.outbox.push(packet);
        }
        if flush {
            self.outbox.flush();
        }
    }

    fn next_number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    fn wait_ready(&self) -> Result<(), ExecutorError> {
        let engine = self.options.engine;
        let failed = |reason: String| Err(ExecutorError::Engine { engine, reason });
        let until = Instant::now() + self.options.ready_timeout;
        let mut state = lock(&self.state);
        loop {
            match (&state.ready, &state.end) {
                (Some(Ok(())), None) => return Ok(()),
                (Some(Err(reason)), _) => return failed(reason.clone()),
                (_, Some(end)) => return failed(end.clone()),
                (None, None) => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.spoil();
                return failed(format!("it was not there within {:?}", self.options.ready_timeout));
            }
            state = wait_timeout(&self.changed, state, left);
        }
    }

    /// Takes what the bridge told, leaving `news` empty.
    fn hear(&self, news: &mut Vec<Told>) {
        let mut gone = None;
        let client = {
            let mut state = lock(&self.state);
            for told in news.extract_if(.., |told| matches!(told, Told::Ready(_) | Told::Ended { .. } | Told::Finish)) {
                match told {
                    Told::Ready(Err(reason)) if state.ready.is_some() => {
                        gone = Some(state.end.get_or_insert(reason).clone());
                    }
                    Told::Ready(ready) => state.ready = Some(ready),
                    Told::Ended { placement, result } => {
                        if let Ok(last_words) = &result
                            && !last_words.is_empty()
                        {
                            tracing::warn!(engine = self.options.engine, "a worker said: {last_words}");
                        }
                        state.placements.entry(placement).and_modify(|place| *place = Some(result));
                    }
                    _ => {}
                }
            }
            state.client.clone()
        };
        self.changed.notify_all();
        match &client {
            Some(client) if !news.is_empty() => client.hear(self, news),
            // From tasks that were given up.
            _ => news.clear(),
        }
        if let (Some(client), Some(reason)) = (client, gone) {
            client.bridge_ended(&reason);
        }
    }

    fn hung_up(&self, broken: Option<String>) {
        let end = self.process.reap(LINGER);
        let words = self.process.last_words().map(|words| format!(": {words}")).unwrap_or_default();
        let mut end = match broken {
            Some(broken) => format!("its bridge broke the protocol: {broken}"),
            None => format!("its bridge ended ({}){words}", end.text),
        };
        remains::end_all(&self.marker);
        self.outbox.close();
        let client = {
            let mut state = lock(&self.state);
            // Of an engine that was gone before, this follows.
            end = state.end.get_or_insert(end).clone();
            state.client.clone()
        };
        self.changed.notify_all();
        if let Some(client) = client {
            client.bridge_ended(&end);
        }
    }

    /// Tasks were left running in it, or may be.
    fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    /// Whether more tasks can be given to it.
    pub fn is_usable(&self) -> bool {
        !self.spoiled.load(Ordering::Relaxed) && lock(&self.state).end.is_none()
    }

    /// What it was started with.
    pub fn options(&self) -> &BridgeOptions {
        &self.options
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if self.spoiled.load(Ordering::Relaxed) {
            // Its engine would wait for what was given up.
            self.process.terminate();
        } else {
            self.send([frames::finish()]);
        }
        self.channel.shut_down(Shutdown::Write);
        self.process.ends_within(ENDING);
        self.outbox.close();
        self.channel.shut_down(Shutdown::Both);
        self.process.reap(Duration::ZERO);
        remains::end_all(&self.marker);
    }
}
