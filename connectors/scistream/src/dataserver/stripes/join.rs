//! Stripes joined to the stream that they were dealt.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::net::TcpStream;

use super::frame::{FrameError, HEADER, LARGEST};
use super::order::{Order, Stripe};
use crate::forward::{Held, Way};
use crate::relay::{Activity, Flow, Path, Progress, TURN, Toll, end_stream, poll_write};

/// Pieces that one write takes. More would not fit into a socket's buffer.
const VECTOR: usize = 16;

/// The way from many connections to one.
#[derive(Debug)]
pub(super) struct Join<'a> {
    path: &'a Path,
    activity: &'a Activity,
    way: Way,
    stripes: Vec<Incoming<'a>>,
    to: &'a TcpStream,
    order: Order,
    /// What is held, as the meter knows it: once for all that happened in a turn.
    reported: Held<'a>,
    toll: Toll<'a>,
    done: bool,
}

#[derive(Debug)]
struct Incoming<'a> {
    connection: &'a TcpStream,
    stripe: Stripe,
    closed: bool,
}

impl Incoming<'_> {
    /// Reads once. `None`: nothing is there, or may be read yet.
    fn read(&mut self, context: &mut Context<'_>, order: &mut Order, toll: &mut Toll<'_>) -> io::Result<Option<usize>> {
        let wants = self.stripe.wants(order);
        if self.closed || wants == 0 {
            return Ok(None);
        }
        let Poll::Ready(allowed) = toll.poll(context) else { return Ok(None) };
        let wants = wants.min(allowed);
        let buffer = &mut self.stripe.buffer;
        if buffer.capacity() - buffer.len() < wants {
            // Memory whose pieces were all handed on is taken again.
            buffer.reserve(LARGEST + HEADER);
        }
        loop {
            if self.connection.poll_read_ready(context)?.is_pending() {
                return Ok(None);
            }
            match self.connection.try_read_buf(&mut (&mut *buffer).limit(wants)) {
                Ok(bytes) => {
                    if bytes == 0 {
                        self.stripe.close().map_err(wrong)?;
                        self.closed = true;
                    }
                    toll.took(bytes);
                    self.stripe.take(order).map_err(wrong)?;
                    return Ok(Some(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn wrong(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<'a> Join<'a> {
    pub(super) fn new(
        path: &'a Path,
        activity: &'a Activity,
        way: Way,
        stripes: impl IntoIterator<Item = &'a TcpStream>,
        to: &'a TcpStream,
    ) -> Self {
        let fresh = |connection| Incoming { connection, stripe: Stripe::default(), closed: false };
        Self {
            path,
            activity,
            way,
            stripes: stripes.into_iter().map(fresh).collect(),
            to,
            order: Order::new(path.options.buffer_size),
            reported: Held::new(&path.meter),
            toll: Toll::new(path.rate.as_ref(), activity, way),
            done: false,
        }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        if self.done {
            return Poll::Ready(Ok(Progress::Done));
        }
        let (mut moved, mut any) = (0, false);
        while moved < TURN {
            let wrote = self.write(context)?;
            moved += wrote;
            let mut progress = wrote > 0;
            for stripe in &mut self.stripes {
                progress |= stripe.read(context, &mut self.order, &mut self.toll)?.is_some();
            }
            if self.stripes.iter().all(|stripe| stripe.closed) && self.order.ready().is_empty() {
                if !self.order.is_whole() {
                    return Poll::Ready(Err(wrong(FrameError::Ends)));
                }
                end_stream(self.to)?;
                self.done = true;
                return Poll::Ready(Ok(Progress::Done));
            }
            if !progress {
                return if any { Poll::Ready(Ok(Progress::Moved)) } else { Poll::Pending };
            }
            any = true;
            self.activity.note();
        }
        Poll::Ready(Ok(Progress::Moved))
    }

    /// Writes until nothing is in order or the socket takes no more.
    fn write(&mut self, context: &mut Context<'_>) -> io::Result<usize> {
        let mut written = 0;
        while !self.order.ready().is_empty() {
            let mut parts = [IoSlice::new(&[]); VECTOR];
            let filled = self.order.ready().iter().zip(&mut parts).map(|(piece, part)| *part = IoSlice::new(piece));
            let count = filled.count();
            let Poll::Ready(wrote) = poll_write(self.to, context, &parts[..count]) else { break };
            let wrote = wrote?;
            self.order.consume(wrote);
            written += wrote;
            self.path.meter.moved(self.way, wrote as u64);
        }
        Ok(written)
    }
}

impl Flow for Join<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let progress = self.turn(context);
        self.reported.set(self.order.held() as u64);
        progress
    }
}
