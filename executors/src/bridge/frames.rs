//! What travels between this process and a bridge.
//!
//! Headers are those of worker processes. What the bridge is sent:
//!
//! | kind | id | head | payload |
//! |---|---|---|---|
//! | setup | | | JSON: the engine, its options and workers, the worker program |
//! | work | generation | [`Settings`](crate::fleet::frames::Settings) | what workers make their work from, until the next |
//! | task | task | its head | its payload; [`MORE`] of its batch may follow |
//! | greet | greeting | | for how many milliseconds to stay at a worker, 4 bytes |
//! | place | placement | | JSON: command line and environment of a worker that connects |
//! | withdraw | | | tasks that have not begun are not to |
//! | finish | | | the end of the stream, which follows, is meant |
//!
//! What it tells is [`Told`].

use std::io;

use bytes::Bytes;

use crate::fleet::frames::{FAILED, Header, MAX_HEAD, MAX_OUTCOME, Packet, Protocol, invalid};
use crate::{Task, TaskId};

const SETUP: u8 = 1;
const TASK: u8 = 2;
const READY: u8 = 4;
const OUTCOME: u8 = 5;
const FINISH: u8 = 7;
const REPORT: u8 = 8;
const WORK: u8 = 9;
const GREET: u8 = 10;
const PLACE: u8 = 11;
const WITHDRAW: u8 = 12;
const WORKER: u8 = 13;
const ENDED: u8 = 14;
const LOG: u8 = 15;
const GREETED: u8 = 16;
const GONE: u8 = 17;

const MORE: u8 = 4;
const LOST: u8 = 8;
const NOT_RUN: u8 = 16;
const TIMED_OUT: u8 = 32;

/// Longest text, in bytes.
const MAX_TEXT: usize = 1 << 20;
/// Five numbers.
const REPORT_HEAD: usize = 40;

pub(super) fn setup(json: String) -> Packet {
    Packet::new(SETUP, 0, 0, Bytes::new(), json.into())
}

pub(super) fn work(generation: u64, settings: Bytes, setup: Bytes) -> Packet {
    Packet::new(WORK, 0, generation, settings, setup)
}

pub(super) fn task(task: Task, last_of_batch: bool) -> Packet {
    Packet::new(TASK, if last_of_batch { 0 } else { MORE }, task.id.0, task.head, task.payload)
}

pub(super) fn greet(greeting: u64, milliseconds: u32) -> Packet {
    Packet::new(GREET, 0, greeting, Bytes::new(), Bytes::copy_from_slice(&milliseconds.to_le_bytes()))
}

pub(super) fn place(placement: u64, json: String) -> Packet {
    Packet::new(PLACE, 0, placement, Bytes::new(), json.into())
}

pub(super) fn withdraw() -> Packet {
    Packet::new(WITHDRAW, 0, 0, Bytes::new(), Bytes::new())
}

pub(super) fn finish() -> Packet {
    Packet::new(FINISH, 0, 0, Bytes::new(), Bytes::new())
}

/// What a bridge tells. Its workers have numbers of its own.
#[derive(Debug)]
pub(super) enum Told {
    /// Whether there is an engine; said again of one that is gone.
    Ready(Result<(), String>),
    /// A worker that was not known before; JSON.
    Worker { worker: u32, about: Bytes },
    /// What a batch or a greeting came to, but for the outcomes, which follow.
    Report(Report),
    /// What became of a task.
    Outcome { task: TaskId, worker: Option<u32>, result: Result<Bytes, Fate> },
    /// Which worker a greeting reached.
    Greeted { greeting: u64, result: Result<u32, String> },
    /// A worker that was placed has ended; what it said last, or why it ended badly.
    Ended { placement: u64, result: Result<String, String> },
    /// A worker has ended without a task, and how; another may take its place.
    Gone { worker: u32, end: String },
    /// What a worker printed.
    Log { worker: u32, text: String },
    /// Everything is told.
    Finish,
}

/// Why a task has no outcome of its own.
#[derive(Debug)]
pub(super) enum Fate {
    Failed(String),
    Lost(String),
    NotRun(String),
    TimedOut,
}

/// What a worker said with a batch.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) worker: u32,
    /// When the batch came to the worker, by the worker's clock, ns.
    pub(super) received: u64,
    /// When it left.
    pub(super) answered: u64,
    /// CPU time that Python's process has used, ns.
    pub(super) cpu_ns: u64,
    /// The most memory that Python's process had, bytes.
    pub(super) peak_memory: u64,
    /// The batch's first task, or the greeting.
    pub(super) of: u64,
    /// What the work had to tell; empty for nothing.
    pub(super) progress: Bytes,
}

impl Protocol for Told {
    fn limits(kind: u8) -> Option<(usize, usize)> {
        Some(match kind {
            READY | WORKER | ENDED | LOG | GONE | FINISH => (0, MAX_TEXT),
            GREETED => (4, MAX_TEXT),
            OUTCOME => (4, MAX_OUTCOME),
            REPORT => (REPORT_HEAD, MAX_HEAD),
            _ => return None,
        })
    }

    fn decode(header: Header, head: Bytes, payload: Bytes) -> io::Result<Self> {
        let text = || String::from_utf8_lossy(&payload).trim_end().to_owned();
        let has = |flag| header.flags & flag != 0;
        let result = |ok: String| if has(FAILED) { Err(ok) } else { Ok(ok) };
        let number =
            || u32::try_from(header.id).map_err(|_| invalid(format!("no worker has the number {}", header.id)));
        let worker = match head.as_ref() {
            [] => None,
            bytes if header.kind != REPORT => Some(u32::from_le_bytes(
                bytes.try_into().map_err(|_| invalid("a worker's number of less than 4 bytes".to_owned()))?,
            )),
            _ => None,
        };
        Ok(match header.kind {
            READY => Self::Ready(result(text()).map(drop)),
            WORKER => Self::Worker { worker: number()?, about: payload },
            OUTCOME => {
                let result = match header.flags {
                    0 => Ok(payload),
                    _ if has(LOST) => Err(Fate::Lost(text())),
                    _ if has(NOT_RUN) => Err(Fate::NotRun(text())),
                    _ if has(TIMED_OUT) => Err(Fate::TimedOut),
                    _ => Err(Fate::Failed(text())),
                };
                Self::Outcome { task: TaskId(header.id), worker, result }
            }
            REPORT => {
                let (numbers, rest) = head.as_chunks::<8>();
                let (&[received, answered, cpu, peak, of], []) = (numbers, rest) else {
                    return Err(invalid("a report without its five numbers".to_owned()));
                };
                Self::Report(Report {
                    worker: number()?,
                    received: u64::from_le_bytes(received),
                    answered: u64::from_le_bytes(answered),
                    cpu_ns: u64::from_le_bytes(cpu),
                    peak_memory: u64::from_le_bytes(peak),
                    of: u64::from_le_bytes(of),
                    progress: payload,
                })
            }
            GREETED => {
                let reached = || worker.ok_or_else(|| invalid("a greeting that reached nobody".to_owned()));
                let result = if has(FAILED) { Err(text()) } else { Ok(reached()?) };
                Self::Greeted { greeting: header.id, result }
            }
            ENDED => Self::Ended { placement: header.id, result: result(text()) },
            GONE => Self::Gone { worker: number()?, end: text() },
            LOG => Self::Log { worker: number()?, text: text() },
            _ => Self::Finish,
        })
    }
}
