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
//! The head of a setup is the worker's [`Settings`], the payload of an overdue frame the tasks that run, 8 bytes each, that of a tell frame
//! the number, 8 bytes.
//!
//! There is no frame for the end: the executor closes its sending side instead, which a worker notices while frames are
//! still queued before it (see [`lifeline`](super::lifeline)).

use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::{Task, TaskId, WorkerId};

/// Longest head of a task, setup of a worker, and end report of a worker, in bytes.
pub(crate) const MAX_HEAD: usize = 16 << 20;
/// Longest payload of a task, in bytes: far above the largest items in the field (some 100 MB), far below a length read
/// from bytes that are no header.
pub(crate) const MAX_PAYLOAD: usize = 4 << 30;
/// Longest outcome, in bytes. Outcomes are small by nature; the executor holds those of all workers in memory.
pub(crate) const MAX_OUTCOME: usize = 256 << 20;

/// Most threads for shared tasks in one worker: one that has more is better split.
pub(crate) const MAX_THREADS: u32 = 1024;

/// Length of the header, in bytes.
pub(crate) const HEADER: usize = 24;
pub(crate) const EXCLUSIVE: u8 = 1;
pub(crate) const FAILED: u8 = 2;

/// How a worker runs its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Shared tasks that run at a time, 1 to [`MAX_THREADS`].
    pub(crate) threads: u32,
    /// Most time for a shared task.
    pub(crate) task_timeout: Option<Duration>,
}

/// Length of settings as they travel: the threads, then the time limit in nanoseconds, 0 for none.
const SETTINGS: usize = 12;

impl Settings {
    pub(crate) fn encode(self) -> Bytes {
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
pub(crate) enum Frame {
    /// To the worker, first: who it is and what its work is made from.
    Setup { worker: WorkerId, settings: Settings, setup: Bytes },
    /// To the worker.
    Task(Task),
    /// To the worker, about the exclusive task it runs.
    Cancel(TaskId),
    /// To the worker, for the exclusive task it runs.
    Tell { task: TaskId, number: u64 },
    /// From the worker, first: whether its work could be made.
    Ready(Result<(), String>),
    /// From the worker.
    Outcome { task: TaskId, result: Result<Bytes, String> },
    /// From the worker: `task` outlasted its time limit, the tasks `begun` are those that may be running, and no other
    /// will begin.
    Overdue { task: TaskId, begun: Vec<TaskId> },
    /// From the worker, last: what the work had to tell at its end. Also its answer to [`Report`](Self::Report).
    Finish(Bytes),
    /// To the worker, from Python's side of an engine: what it has to tell so far.
    Report,
    /// From a worker on the network, about every second: that it is there.
    Alive,
}

/// A frame as it travels; head and payload are those of the frame, not copies.
pub(crate) struct Packet {
    header: [u8; HEADER],
    head: Bytes,
    payload: Bytes,
}

impl Packet {
    /// `head` and `payload` are within the limits of the kind: senders refuse what is longer.
    pub(crate) fn new(kind: u8, flags: u8, id: u64, head: Bytes, payload: Bytes) -> Self {
        let mut header = [0; HEADER];
        header[0] = kind;
        header[1] = flags;
        header[4..8].copy_from_slice(&(head.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        header[16..].copy_from_slice(&id.to_le_bytes());
        Self { header, head, payload }
    }

    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        [&self.header, &self.head, &self.payload]
    }

    pub(crate) fn len(&self) -> usize {
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
            Frame::Tell { task, number } => {
                (Kind::Tell, 0, task.0, empty, Bytes::copy_from_slice(&number.to_le_bytes()))
            }
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
            Frame::Report => (Kind::Report, 0, 0, empty.clone(), empty),
            Frame::Alive => (Kind::Alive, 0, 0, empty.clone(), empty),
        };
        Self::new(kind as u8, flags, id, head, payload)
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
    Report,
    Alive = 17,
    Tell,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Setup,
        Self::Task,
        Self::Cancel,
        Self::Ready,
        Self::Outcome,
        Self::Overdue,
        Self::Finish,
        Self::Report,
        Self::Alive,
        Self::Tell,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u8 == number)
    }
}

/// A set of frames that two sides speak.
pub(crate) trait Protocol: Sized {
    /// Longest head and longest payload of a kind, `None` for one that is not in the set.
    fn limits(kind: u8) -> Option<(usize, usize)>;

    /// The frame that a header and what followed it make.
    ///
    /// # Errors
    ///
    /// A head that is none of the kind's.
    fn decode(header: Header, head: Bytes, payload: Bytes) -> io::Result<Self>;
}

/// A header whose kind is known and whose lengths are within the kind's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u64,
    /// Length of the head that follows.
    pub(crate) head: usize,
    /// Length of the payload that follows the head.
    pub(crate) payload: usize,
}

impl Header {
    /// Reads a header from the front of `bytes`, `None` if they are too few.
    pub(crate) fn parse<F: Protocol>(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, flags, _, _, h0, h1, h2, h3, rest @ ..] = *header;
        let head = u64::from(u32::from_le_bytes([h0, h1, h2, h3]));
        let (payload, id) = halves(rest);
        let (max_head, max_payload) =
            F::limits(kind).ok_or_else(|| invalid(format!("a frame of unknown kind {kind}")))?;
        let within = |what: &str, length: u64, limit: usize| {
            usize::try_from(length).ok().filter(|length| *length <= limit).ok_or_else(|| {
                invalid(format!("a frame of kind {kind} with a {what} of {length} bytes, more than {limit}"))
            })
        };
        let (head, payload) = (within("head", head, max_head)?, within("payload", payload, max_payload)?);
        Ok(Some(Self { kind, flags, id, head, payload }))
    }
}

impl Protocol for Frame {
    fn limits(kind: u8) -> Option<(usize, usize)> {
        Some(match Kind::of(kind)? {
            Kind::Setup => (SETTINGS, MAX_HEAD),
            Kind::Finish => (0, MAX_HEAD),
            Kind::Task => (MAX_HEAD, MAX_PAYLOAD),
            Kind::Cancel | Kind::Report | Kind::Alive => (0, 0),
            Kind::Tell => (0, 8),
            Kind::Overdue => (0, 8 * MAX_THREADS as usize),
            Kind::Ready | Kind::Outcome => (0, MAX_OUTCOME),
        })
    }

    fn decode(header: Header, head: Bytes, payload: Bytes) -> io::Result<Self> {
        let failure = || String::from_utf8_lossy(&payload).into_owned();
        let failed = header.flags & FAILED != 0;
        let kind = Kind::of(header.kind).ok_or_else(|| invalid("a frame of another protocol".to_owned()))?;
        Ok(match kind {
            Kind::Setup => Self::Setup {
                // A worker's number is written from a `u32`.
                worker: WorkerId(header.id as u32),
                settings: Settings::decode(&head).ok_or_else(|| invalid("a setup without settings".to_owned()))?,
                setup: payload,
            },
            Kind::Task => {
                Self::Task(Task { id: TaskId(header.id), head, payload, exclusive: header.flags & EXCLUSIVE != 0 })
            }
            Kind::Cancel => Self::Cancel(TaskId(header.id)),
            Kind::Tell => {
                let number = payload.first_chunk().ok_or_else(|| invalid("a number that is none".to_owned()))?;
                Self::Tell { task: TaskId(header.id), number: u64::from_le_bytes(*number) }
            }
            Kind::Ready => Self::Ready(if failed { Err(failure()) } else { Ok(()) }),
            Kind::Outcome => {
                Self::Outcome { task: TaskId(header.id), result: if failed { Err(failure()) } else { Ok(payload) } }
            }
            Kind::Overdue => Self::Overdue {
                task: TaskId(header.id),
                begun: payload.as_chunks().0.iter().map(|id| TaskId(u64::from_le_bytes(*id))).collect(),
            },
            Kind::Finish => Self::Finish(payload),
            Kind::Report => Self::Report,
            Kind::Alive => Self::Alive,
        })
    }
}

fn halves(bytes: [u8; 16]) -> (u64, u64) {
    // One little-endian number of 16 bytes is two of 8.
    let both = u128::from_le_bytes(bytes);
    (both as u64, (both >> 64) as u64)
}

/// The error of a peer that breaks the protocol.
pub(crate) fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
