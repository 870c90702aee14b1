//! What travels between an executor and a worker process.
//!
//! A frame is a fixed little-endian header, then a head, then a payload:
//!
//! | bytes | field |
//! |---|---|
//! | 0 | kind |
//! | 1 | flags: [`EXCLUSIVE`], [`FAILED`] |
//! | 2–3 | 0 |
//! | 4–7 | length of the head |
//! | 8–15 | length of the payload |
//! | 16–23 | task, or for a setup the worker |
//!
//! The head of a setup is the worker's [`Settings`], the payload of an overdue frame the tasks that run, 8 bytes each.
//!
//! There is no frame for the end: the executor closes its sending side instead, which a worker notices while frames are
//! still queued before it (see [`lifeline`](super::lifeline)).

use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::{Task, TaskId, WorkerId};

/// Longest head of a task, setup of a worker, and end report of a worker, in bytes.
pub(super) const MAX_HEAD: usize = 16 << 20;
/// Longest payload of a task, in bytes: far above the largest items in the field (some 100 MB), far below a length read
/// from bytes that are no header.
pub(super) const MAX_PAYLOAD: usize = 4 << 30;
/// Longest outcome, in bytes. Outcomes are small by nature; the executor holds those of all workers in memory.
pub(super) const MAX_OUTCOME: usize = 256 << 20;

/// Most threads for shared tasks in one worker: one that has more is better split.
pub(super) const MAX_THREADS: u32 = 1024;

/// Length of the header, in bytes.
pub(super) const HEADER: usize = 24;
const EXCLUSIVE: u8 = 1;
const FAILED: u8 = 2;

/// How a worker runs its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Shared tasks that run at a time, 1 to [`MAX_THREADS`].
    pub(super) threads: u32,
    /// Most time for a shared task.
    pub(super) task_timeout: Option<Duration>,
}

/// Length of settings as they travel: the threads, then the time limit in nanoseconds, 0 for none.
const SETTINGS: usize = 12;

impl Settings {
    fn encode(self) -> Bytes {
        // A limit of 500 years is none.
        let limit = self.task_timeout.and_then(|limit| u64::try_from(limit.as_nanos().max(1)).ok()).unwrap_or(0);
        [&self.threads.to_le_bytes()[..], &limit.to_le_bytes()].concat().into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (threads, limit) = bytes.split_first_chunk()?;
        let threads = u32::from_le_bytes(*threads);
        let limit = u64::from_le_bytes(limit.try_into().ok()?);
        (1..=MAX_THREADS)
            .contains(&threads)
            .then(|| Self { threads, task_timeout: (limit > 0).then(|| Duration::from_nanos(limit)) })
    }
}

/// One message, in either direction.
#[derive(Debug)]
pub(super) enum Frame {
    /// To the worker, first: who it is and what its work is made from.
    Setup { worker: WorkerId, settings: Settings, setup: Bytes },
    /// To the worker.
    Task(Task),
    /// To the worker, about the exclusive task it runs.
    Cancel(TaskId),
    /// From the worker, first: whether its work could be made.
    Ready(Result<(), String>),
    /// From the worker.
    Outcome { task: TaskId, result: Result<Bytes, String> },
    /// From the worker: `task` outlasted its time limit, the tasks `begun` are those that may be running, and no other
    /// will begin.
    Overdue { task: TaskId, begun: Vec<TaskId> },
    /// From the worker, last: what the work had to tell at its end.
    Finish(Bytes),
}

/// A frame as it travels; head and payload are those of the frame, not copies.
pub(super) struct Packet {
    header: [u8; HEADER],
    head: Bytes,
    payload: Bytes,
}

impl Packet {
    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [&self.header, &self.head, &self.payload]
    }

    pub(super) fn len(&self) -> usize {
        HEADER + self.head.len() + self.payload.len()
    }
}

impl From<Frame> for Packet {
    fn from(frame: Frame) -> Self {
        let empty = Bytes::new();
        let (kind, flags, id, head, payload) = match frame {
            Frame::Setup { worker, settings, setup } => (Kind::Setup, 0, u64::from(worker.0), settings.encode(), setup),
            Frame::Task(task) => {
                let flags = if task.exclusive { EXCLUSIVE } else { 0 };
                (Kind::Task, flags, task.id.0, task.head, task.payload)
            }
            Frame::Cancel(task) => (Kind::Cancel, 0, task.0, empty.clone(), empty),
            Frame::Ready(Ok(())) => (Kind::Ready, 0, 0, empty.clone(), empty),
            Frame::Ready(Err(text)) => (Kind::Ready, FAILED, 0, empty, text.into()),
            Frame::Outcome { task, result } => match result {
                Ok(bytes) => (Kind::Outcome, 0, task.0, empty, bytes),
                Err(text) => (Kind::Outcome, FAILED, task.0, empty, text.into()),
            },
            Frame::Overdue { task, begun } => {
                let begun: Vec<u8> = begun.iter().flat_map(|task| task.0.to_le_bytes()).collect();
                (Kind::Overdue, 0, task.0, empty, begun.into())
            }
            Frame::Finish(bytes) => (Kind::Finish, 0, 0, empty, bytes),
        };
        let mut header = [0; HEADER];
        header[0] = kind as u8;
        header[1] = flags;
        // Senders refuse what is longer than the limits above, which fit.
        header[4..8].copy_from_slice(&(head.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        header[16..].copy_from_slice(&id.to_le_bytes());
        Self { header, head, payload }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Setup = 1,
    Task,
    Cancel,
    Ready,
    Outcome,
    Overdue,
    Finish,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Setup, Self::Task, Self::Cancel, Self::Ready, Self::Outcome, Self::Overdue, Self::Finish];

    /// Longest head and longest payload.
    fn limits(self) -> (usize, usize) {
        match self {
            Self::Setup => (SETTINGS, MAX_HEAD),
            Self::Finish => (0, MAX_HEAD),
            Self::Task => (MAX_HEAD, MAX_PAYLOAD),
            Self::Cancel => (0, 0),
            Self::Overdue => (0, 8 * MAX_THREADS as usize),
            Self::Ready | Self::Outcome => (0, MAX_OUTCOME),
        }
    }
}

/// A header whose kind is known and whose lengths are within the kind's limits.
#[derive(Debug)]
pub(super) struct Header {
    kind: Kind,
    flags: u8,
    id: u64,
    /// Length of the head that follows.
    pub(super) head: usize,
    /// Length of the payload that follows the head.
    pub(super) payload: usize,
}

impl Header {
    /// Reads a header from the front of `bytes`, `None` if they are too few.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, flags, _, _, h0, h1, h2, h3, rest @ ..] = *header;
        let head = u64::from(u32::from_le_bytes([h0, h1, h2, h3]));
        let (payload, id) = halves(rest);
        let kind = Kind::ALL
            .into_iter()
            .find(|known| *known as u8 == kind)
            .ok_or_else(|| invalid(format!("a frame of unknown kind {kind}")))?;
        let (max_head, max_payload) = kind.limits();
        let within = |what: &str, length: u64, limit: usize| {
            usize::try_from(length)
                .ok()
                .filter(|length| *length <= limit)
                .ok_or_else(|| invalid(format!("a {kind:?} frame with a {what} of {length} bytes, more than {limit}")))
        };
        Ok(Some(Self {
            kind,
            flags,
            id,
            head: within("head", head, max_head)?,
            payload: within("payload", payload, max_payload)?,
        }))
    }

    /// The frame that this header and what followed it make.
    ///
    /// # Errors
    ///
    /// A head that is none of the kind's.
    pub(super) fn frame(self, head: Bytes, payload: Bytes) -> io::Result<Frame> {
        let failure = || String::from_utf8_lossy(&payload).into_owned();
        let failed = self.flags & FAILED != 0;
        Ok(match self.kind {
            Kind::Setup => Frame::Setup {
                // A worker's number is written from a `u32`.
                worker: WorkerId(self.id as u32),
                settings: Settings::decode(&head).ok_or_else(|| invalid("a setup without settings".to_owned()))?,
                setup: payload,
            },
            Kind::Task => {
                Frame::Task(Task { id: TaskId(self.id), head, payload, exclusive: self.flags & EXCLUSIVE != 0 })
            }
            Kind::Cancel => Frame::Cancel(TaskId(self.id)),
            Kind::Ready => Frame::Ready(if failed { Err(failure()) } else { Ok(()) }),
            Kind::Outcome => {
                Frame::Outcome { task: TaskId(self.id), result: if failed { Err(failure()) } else { Ok(payload) } }
            }
            Kind::Overdue => Frame::Overdue {
                task: TaskId(self.id),
                begun: payload.as_chunks().0.iter().map(|id| TaskId(u64::from_le_bytes(*id))).collect(),
            },
            Kind::Finish => Frame::Finish(payload),
        })
    }
}

fn halves(bytes: [u8; 16]) -> (u64, u64) {
    // One little-endian number of 16 bytes is two of 8.
    let both = u128::from_le_bytes(bytes);
    (both as u64, (both >> 64) as u64)
}

/// The error of a peer that breaks the protocol.
pub(super) fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
