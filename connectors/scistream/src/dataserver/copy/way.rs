//! One way of a connection: read, held, written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::pool::{CHUNK, Chunk};
use crate::forward::Held;
use crate::relay::{Course, Flow, Progress, TURN, Toll, end_stream, poll_read, poll_write};

/// How long a receiver may take nothing before more than a chunk is held for it.
///
/// What is held beyond that has left the cache when its turn comes: reading on at once, up to 10 MB, cost 0.65 CPU s/GB (two gateways,
/// 1 MiB samples), and stopping at 256 KiB 0.58. In full flow the sockets' own buffers do as well; a longer stall is what the rest is for.
const PATIENCE: Duration = Duration::from_millis(2);
/// Chunks that one write takes. More would not fit into a socket's buffer.
const VECTOR: usize = 16;

/// The state of one way.
#[derive(Debug)]
pub(super) struct OneWay<'a> {
    course: Course<'a>,
    /// What was read and not yet written; no chunk of it is empty.
    queue: VecDeque<Chunk>,
    held: usize,
    /// As the meter knows it: once for all that happened in a turn.
    reported: Held<'a>,
    stage: Stage,
    toll: Toll<'a>,
    /// While more than a chunk is held: until it may be more.
    patience: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flowing,
    /// The sender has ended its stream.
    Draining,
    Done,
}

impl<'a> OneWay<'a> {
    pub(super) fn new(course: Course<'a>) -> Self {
        Self {
            course,
            queue: VecDeque::new(),
            held: 0,
            reported: Held::new(&course.path.meter),
            stage: Stage::Flowing,
            toll: course.toll(),
            patience: None,
        }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let mut moved = 0;
        while moved < TURN {
            let written = self.write(context)?;
            moved += written;
            match self.stage {
                Stage::Flowing => match self.read(context)? {
                    Poll::Ready(()) => {}
                    Poll::Pending if moved > 0 => break,
                    Poll::Pending => return Poll::Pending,
                },
                Stage::Draining if self.held > 0 => return Poll::Pending,
                Stage::Draining => {
                    end_stream(self.course.to)?;
                    self.stage = Stage::Done;
                }
                Stage::Done => return Poll::Ready(Ok(Progress::Done)),
            }
        }
        Poll::Ready(Ok(Progress::Moved))
    }

    /// Writes until nothing is held or the socket takes no more.
    fn write(&mut self, context: &mut Context<'_>) -> io::Result<usize> {
        let mut written = 0;
        while self.held > 0 {
            let mut parts = [IoSlice::new(&[]); VECTOR];
            let filled = self.queue.iter().zip(&mut parts).map(|(chunk, part)| *part = IoSlice::new(chunk.filled()));
            let count = filled.count();
            let wrote = poll_write(self.course.to, context, &parts[..count]);
            let Poll::Ready(wrote) = wrote else { break };
            let wrote = wrote?;
            self.consume(wrote);
            self.patience = None;
            written += wrote;
            self.course.path.meter.moved(self.course.way, wrote as u64);
            self.course.activity.note();
        }
        Ok(written)
    }

    fn consume(&mut self, mut bytes: usize) {
        self.held -= bytes;
        while let Some(first) = self.queue.front_mut() {
            let part = bytes.min(first.filled().len());
            first.consume(part);
            bytes -= part;
            if !first.is_empty() {
                break;
            }
            self.queue.pop_front();
        }
    }

    /// Reads once.
    fn read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        let room = self.course.path.options.buffer_size - self.held;
        if room == 0 {
            return Ok(Poll::Pending);
        }
        if self.held >= CHUNK {
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
            if patience.as_mut().poll(context).is_pending() {
                return Ok(Poll::Pending);
            }
        }
        let Poll::Ready(allowed) = self.toll.poll(context) else { return Ok(Poll::Pending) };
        let mut chunk = match self.queue.pop_back_if(|last| !last.is_full()) {
            Some(last) => last,
            None => Chunk::take(),
        };
        let spare = chunk.spare();
        let most = room.min(allowed).min(spare.len());
        let read = poll_read(self.course.from, context, &mut spare[..most]);
        if let Poll::Ready(Ok(bytes)) = read {
            chunk.fill(bytes);
        }
        if !chunk.is_empty() {
            self.queue.push_back(chunk);
        }
        let Poll::Ready(read) = read else { return Ok(Poll::Pending) };
        let bytes = read?;
        if bytes == 0 {
            self.stage = Stage::Draining;
            return Ok(Poll::Ready(()));
        }
        self.held += bytes;
        self.course.activity.note();
        self.toll.took(bytes);
        Ok(Poll::Ready(()))
    }
}

impl Flow for OneWay<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let progress = self.turn(context);
        self.reported.set(self.held as u64);
        progress
    }
}
