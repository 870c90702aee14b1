//! A stream dealt to stripes.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::frame::{HEADER, Header, LARGEST};
use crate::dataserver::copy::pool::Chunk;
use crate::forward::{Held, Way};
use crate::relay::{Activity, Flow, Path, Progress, TURN, Toll, end_stream, poll_read, poll_write};

/// The way from one connection to many.
#[derive(Debug)]
pub(super) struct Split<'a> {
    path: &'a Path,
    activity: &'a Activity,
    way: Way,
    from: &'a TcpStream,
    stripes: Vec<Outgoing<'a>>,
    /// Of the next byte to read.
    position: u64,
    whole: bool,
    /// Whose turn it is, of the stripes that have nothing to send.
    turn: usize,
    /// What was read and not yet written.
    held: usize,
    /// As the meter knows it: once for all that happened in a turn.
    reported: Held<'a>,
    toll: Toll<'a>,
}

/// A stripe and the frame that it sends.
#[derive(Debug)]
struct Outgoing<'a> {
    stripe: &'a TcpStream,
    header: [u8; HEADER],
    /// Of the header.
    left: usize,
    payload: Option<Chunk>,
    ending: bool,
    ended: bool,
}

impl Outgoing<'_> {
    fn is_idle(&self) -> bool {
        self.left == 0 && self.payload.is_none()
    }

    fn load(&mut self, header: Header, payload: Option<Chunk>) {
        (self.header, self.left, self.payload) = (header.encode(), HEADER, payload);
    }

    /// Writes until there is nothing left or the socket takes no more. Says how much of the stream, and whether anything.
    fn write(&mut self, context: &mut Context<'_>) -> io::Result<(usize, bool)> {
        let (mut payload, mut wrote) = (0, false);
        while !self.is_idle() {
            let header = IoSlice::new(&self.header[HEADER - self.left..]);
            let result = match &self.payload {
                Some(chunk) if self.left == 0 => poll_write(self.stripe, context, &[IoSlice::new(chunk.filled())]),
                Some(chunk) => poll_write(self.stripe, context, &[header, IoSlice::new(chunk.filled())]),
                None => poll_write(self.stripe, context, &[header]),
            };
            let Poll::Ready(bytes) = result else { break };
            let bytes = bytes?;
            wrote = true;
            let of_header = bytes.min(self.left);
            self.left -= of_header;
            if let Some(chunk) = &mut self.payload {
                chunk.consume(bytes - of_header);
                payload += bytes - of_header;
                if chunk.is_empty() {
                    self.payload = None;
                }
            }
        }
        if self.ending && !self.ended && self.is_idle() {
            end_stream(self.stripe)?;
            self.ended = true;
        }
        Ok((payload, wrote))
    }
}

impl<'a> Split<'a> {
    pub(super) fn new(
        path: &'a Path,
        activity: &'a Activity,
        way: Way,
        from: &'a TcpStream,
        stripes: impl IntoIterator<Item = &'a TcpStream>,
    ) -> Self {
        let idle =
            |stripe| Outgoing { stripe, header: [0; HEADER], left: 0, payload: None, ending: false, ended: false };
        Self {
            path,
            activity,
            way,
            from,
            stripes: stripes.into_iter().map(idle).collect(),
            position: 0,
            whole: false,
            turn: 0,
            held: 0,
            reported: Held::new(&path.meter),
            toll: Toll::new(path.rate.as_ref(), activity, way),
        }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let (mut moved, mut any) = (0, false);
        while moved < TURN {
            let mut progress = false;
            for stripe in &mut self.stripes {
                let (payload, wrote) = stripe.write(context)?;
                if payload > 0 {
                    self.held -= payload;
                    self.path.meter.moved(self.way, payload as u64);
                }
                moved += payload;
                progress |= wrote;
            }
            if self.whole {
                let total = self.position;
                for stripe in self.stripes.iter_mut().filter(|stripe| stripe.is_idle() && !stripe.ending) {
                    stripe.load(Header::End { total }, None);
                    stripe.ending = true;
                    progress = true;
                }
                if self.stripes.iter().all(|stripe| stripe.ended) {
                    return Poll::Ready(Ok(Progress::Done));
                }
            } else {
                progress |= self.read(context)?.is_ready();
            }
            if !progress {
                return if any { Poll::Ready(Ok(Progress::Moved)) } else { Poll::Pending };
            }
            any = true;
            self.activity.note();
        }
        Poll::Ready(Ok(Progress::Moved))
    }

    /// Reads once, for a stripe that takes it.
    fn read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        let Some(index) = self.willing(context)? else { return Ok(Poll::Pending) };
        let room = self.path.options.buffer_size.max(1).saturating_sub(self.held).min(LARGEST);
        if room == 0 {
            return Ok(Poll::Pending);
        }
        let Poll::Ready(allowed) = self.toll.poll(context) else { return Ok(Poll::Pending) };
        let mut chunk = Chunk::take();
        let spare = chunk.spare();
        let most = spare.len().min(room).min(allowed);
        let Poll::Ready(read) = poll_read(self.from, context, &mut spare[..most]) else { return Ok(Poll::Pending) };
        let bytes = read?;
        if bytes == 0 {
            self.whole = true;
            return Ok(Poll::Ready(()));
        }
        chunk.fill(bytes);
        self.toll.took(bytes);
        self.held += bytes;
        // A chunk is no larger than a frame.
        let header = Header::Data { position: self.position, len: bytes as u32 };
        self.stripes[index].load(header, Some(chunk));
        self.position += bytes as u64;
        self.turn = index + 1;
        Ok(Poll::Ready(()))
    }

    /// The next stripe that has nothing to send, and room in its socket.
    fn willing(&self, context: &mut Context<'_>) -> io::Result<Option<usize>> {
        let count = self.stripes.len();
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let stripe = &self.stripes[index];
            if stripe.is_idle() && stripe.stripe.poll_write_ready(context)?.is_ready() {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

impl Flow for Split<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let progress = self.turn(context);
        self.reported.set(self.held as u64);
        progress
    }
}
