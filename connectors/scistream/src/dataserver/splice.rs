//! `splice`: in the kernel, through pipes: splice(2).
//!
//! A pipe holds references to the pages in which packets arrived, and the other socket sends these pages: nothing is copied here, and
//! what the caches hold is the endpoints'. For up to a pipe's fill (1 MiB) it takes one system call in, and one out; one more in that says
//! that the socket is empty, since a splice that brought little may also have met a full pipe; and one wait.
//!
//! Two gateways on loopback beside two HAProxies as the reference sets them up (`benches/paths`; medians of five interleaved rounds on
//! two cores):
//!
//! | sample | goodput | CPU of all | CPU of gateways, s/GB | jitter |
//! |---|---|---|---|---|
//! | 1 KiB | × 1.1 | × 0.92 | 0.59 (HAProxy 0.96) | × 0.6 |
//! | 64 KiB | × 1.0 (8.6 to 16.5 Gbit/s) | × 0.95 | 0.45 (0.82) | × 1.0 |
//! | 1 MiB | × 1.8 | × 0.57 | 0.24 (0.77) | × 0.9 |
//! | 64 KiB, `reno` for all sockets | × 0.9 (7.9 to 25.7 Gbit/s) | × 1.12 | 0.35 (0.59) | × 0.8 |
//! | 1 MiB, `reno` for all sockets | × 1.5 | × 0.74 | 0.21 (0.54) | × 0.7 |
//!
//! At 64 KiB it is bistable: where each wake-up finds much to move it carries half as much again as HAProxy, where it finds one packet,
//! less. On a quiet machine it mostly finds much (× 1.3 at × 0.73 of the CPU, jitter × 0.7). Fixed buffers keep it steady, but low:
//! `--socket-buffer 200K` gave × 1.14 at × 0.96, jitter × 0.6, so the kernel tunes them unless told otherwise.
//!
//! The pipe's size matters: when no more than 64 KiB were in it at a time the gateways took twice as long at 1 MiB samples.

mod pipe;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use self::pipe::Pipe;
use super::DataServerType;
use super::in_process::InProcess;
use crate::forward::{ForwardPlan, Forwarding, Held};
use crate::relay::{BothWays, Course, DataPlane, Flow, Progress, Relay, TURN, Toll, end_stream, keep};

/// Forwards in the kernel, through pipes.
#[derive(Clone, Debug)]
pub struct Splice {
    plane: Arc<DataPlane>,
}

impl Splice {
    /// On these threads.
    pub fn new(plane: Arc<DataPlane>) -> Self {
        Self { plane }
    }
}

impl InProcess for Splice {
    const KIND: DataServerType = DataServerType::Splice;

    fn forward(&self, plan: ForwardPlan) -> io::Result<Box<dyn Forwarding>> {
        Relay::start(&self.plane, plan, |tasks, path| {
            keep(tasks, &path);
            Ok(Arc::new(BothWays { path, flow: |course| Box::new(OneWay::new(course)) }))
        })
    }
}

/// The state of one way.
#[derive(Debug)]
struct OneWay<'a> {
    course: Course<'a>,
    /// There while something is in it: whoever waits for data holds none.
    pipe: Option<Pipe>,
    /// What is in the pipe, as the meter knows it: once for all that happened in a turn.
    held: Held<'a>,
    stage: Stage,
    toll: Toll<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flowing,
    /// The sender has ended its stream.
    Draining,
    Done,
}

impl<'a> OneWay<'a> {
    fn new(course: Course<'a>) -> Self {
        let held = Held::new(&course.path.meter);
        Self { course, pipe: None, held, stage: Stage::Flowing, toll: course.toll() }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let mut moved = 0;
        while moved < TURN {
            // An empty pipe is filled, and emptied before it is filled again: so "would block" is always the socket's word.
            match &mut self.pipe {
                Some(pipe) => match pipe.poll_out(self.course.to, context)? {
                    Poll::Ready(bytes) => {
                        moved += bytes;
                        self.course.path.meter.moved(self.course.way, bytes as u64);
                        self.course.activity.note();
                        if pipe.held() == 0 {
                            self.pipe = None;
                        }
                    }
                    Poll::Pending if moved > 0 => break,
                    Poll::Pending => return Poll::Pending,
                },
                None => match self.stage {
                    Stage::Flowing => match self.fill(context)? {
                        Poll::Ready(()) => {}
                        Poll::Pending if moved > 0 => break,
                        Poll::Pending => return Poll::Pending,
                    },
                    Stage::Draining => {
                        end_stream(self.course.to)?;
                        self.stage = Stage::Done;
                    }
                    Stage::Done => return Poll::Ready(Ok(Progress::Done)),
                },
            }
        }
        Poll::Ready(Ok(Progress::Moved))
    }

    fn fill(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        let Poll::Ready(allowed) = self.toll.poll(context) else { return Ok(Poll::Pending) };
        let most = allowed.min(self.course.path.options.buffer_size);
        let mut pipe = Pipe::take()?;
        match pipe.poll_in(self.course.from, context, most)? {
            Poll::Ready(0) => self.stage = Stage::Draining,
            Poll::Ready(bytes) => {
                self.toll.took(bytes);
                self.course.activity.note();
                self.pipe = Some(pipe);
            }
            Poll::Pending => return Ok(Poll::Pending),
        }
        Ok(Poll::Ready(()))
    }
}

impl Flow for OneWay<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let progress = self.turn(context);
        self.held.set(self.pipe.as_ref().map_or(0, Pipe::held) as u64);
        progress
    }
}
