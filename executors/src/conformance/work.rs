//! What the workers do in the checks.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;

use super::gate;
use crate::{Task, TaskContext, TaskId, Work, WorkerReport};

/// What a task of [`TestWork`] does; written as the task's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Returns the payload.
    Echo,
    /// Sleeps for so many milliseconds, then returns the payload.
    Sleep(u64),
    /// Fails with this text.
    Fail(String),
    /// Panics with this text.
    Panic(String),
    /// Ends the process with this exit code.
    Exit(i32),
    /// Says at a [`Gate`](super::Gate) that it has begun, waits there, then returns the payload.
    Hold(PathBuf),
    /// Waits to be cancelled.
    Wait,
    /// Says at a [`Gate`](super::Gate) that it has begun, then waits to be cancelled.
    Stay(PathBuf),
    /// Waits to be told at least this number, or to be cancelled, and returns what it was told, in 8 little-endian bytes.
    Listen(u64),
    /// Prints so many lines to standard output and standard error.
    Print(u32),
    /// Allocates so many bytes, which it does not touch.
    Allocate(usize),
}

impl Command {
    /// A task that does this.
    pub fn task(&self, id: u64, payload: impl Into<Bytes>) -> Task {
        let exclusive = matches!(self, Self::Wait | Self::Stay(_) | Self::Listen(_));
        Task { id: TaskId(id), head: self.to_string().into(), payload: payload.into(), exclusive }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => write!(f, "echo"),
            Self::Sleep(milliseconds) => write!(f, "sleep {milliseconds}"),
            Self::Fail(text) => write!(f, "fail {text}"),
            Self::Panic(text) => write!(f, "panic {text}"),
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Hold(gate) => write!(f, "hold {}", gate.display()),
            Self::Wait => write!(f, "wait"),
            Self::Stay(gate) => write!(f, "stay {}", gate.display()),
            Self::Listen(number) => write!(f, "listen {number}"),
            Self::Print(lines) => write!(f, "print {lines}"),
            Self::Allocate(bytes) => write!(f, "allocate {bytes}"),
        }
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
        let number = |error: std::num::ParseIntError| format!("{text:?}: {error}");
        Ok(match name {
            "echo" => Self::Echo,
            "sleep" => Self::Sleep(argument.parse().map_err(number)?),
            "fail" => Self::Fail(argument.to_owned()),
            "panic" => Self::Panic(argument.to_owned()),
            "exit" => Self::Exit(argument.parse().map_err(number)?),
            "hold" => Self::Hold(argument.into()),
            "wait" => Self::Wait,
            "stay" => Self::Stay(argument.into()),
            "listen" => Self::Listen(argument.parse().map_err(number)?),
            "print" => Self::Print(argument.parse().map_err(number)?),
            "allocate" => Self::Allocate(argument.parse().map_err(number)?),
            _ => return Err(format!("{text:?} is no command")),
        })
    }
}

/// Does what the tasks' heads say, see [`Command`]. Its end report is the number of tasks it began, in 8
/// little-endian bytes.
#[derive(Debug, Default)]
pub struct TestWork {
    begun: AtomicU64,
}

impl Work for TestWork {
    fn run(&self, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        match String::from_utf8_lossy(&task.head).parse()? {
            Command::Echo => {}
            Command::Sleep(milliseconds) => {
                context.about_to_wait();
                sleep(Duration::from_millis(milliseconds));
            }
            Command::Fail(text) => return Err(text),
            Command::Panic(text) => panic!("{text}"),
            Command::Exit(code) => std::process::exit(code),
            Command::Hold(gate) => {
                context.about_to_wait();
                gate::enter(&gate, task.id).map_err(|error| error.to_string())?;
                gate::pass(&gate);
            }
            Command::Wait => stay(context),
            Command::Stay(gate) => {
                gate::enter(&gate, task.id).map_err(|error| error.to_string())?;
                stay(context);
            }
            Command::Listen(number) => {
                let mut told = 0;
                while told < number && !context.is_cancelled() {
                    told = context.told_above(told, Duration::from_millis(50));
                }
                return Ok(Bytes::copy_from_slice(&told.to_le_bytes()));
            }
            Command::Print(lines) => {
                for line in 0..lines {
                    println!("line {line} of standard output");
                    eprintln!("line {line} of standard error");
                }
            }
            Command::Allocate(bytes) => drop(std::hint::black_box(Vec::<u8>::with_capacity(bytes))),
        }
        Ok(task.payload)
    }

    fn finish(&self) -> Bytes {
        self.progress()
    }

    fn progress(&self) -> Bytes {
        let begun = self.begun.load(Ordering::Relaxed);
        Bytes::copy_from_slice(&begun.to_le_bytes())
    }
}

fn stay(context: &TaskContext<'_>) {
    while !context.is_cancelled() {
        sleep(Duration::from_millis(1));
    }
}

/// The tasks that all workers of a [`TestWork`] began, by their reports.
///
/// # Panics
///
/// If an end report is none of [`TestWork`]'s.
pub fn begun(reports: &[WorkerReport]) -> u64 {
    let counts = reports.iter().filter_map(|report| report.finish.as_ref());
    counts
        .map(|report| match <[u8; 8]>::try_from(report.as_ref()) {
            Ok(bytes) => u64::from_le_bytes(bytes),
            Err(_) => panic!("an end report of {} bytes", report.len()),
        })
        .sum()
}
