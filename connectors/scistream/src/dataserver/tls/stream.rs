//! A connection's two ways: what goes out is sealed, what comes in is opened.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::handshake::{Keys, Session};
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::record::{RECORD, RecordError};
use crate::Role;
use crate::forward::{Held, Way};
use crate::relay::{
    Activity, Flow, Path, Progress, TURN, Toll, end_stream, poll_read, poll_read_vectored, poll_write, pump,
};

/// Carries a connection until the streams of both ways have ended.
///
/// # Errors
/// It ended otherwise. Both ends are to be reset then.
pub(crate) async fn carry(path: &Path, plain: &TcpStream, sealed: &TcpStream, session: Session) -> io::Result<()> {
    let Session { sealer, opener, keys, early } = session;
    let records = path.options.buffer_size / RECORD;
    let (activity, owes_update) = (Activity::default(), AtomicBool::new(false));
    let ends = Ends { path, plain, sealed, keys: &keys, owes_update: &owes_update, activity: &activity };
    let (out, back) = match path.role {
        Role::Consumer => (Way::ToTarget, Way::ToClient),
        Role::Producer => (Way::ToClient, Way::ToTarget),
    };
    let out = OneWay::new(ends, out, Cipher::Seal(Outbox::new(sealer, records)));
    let back = OneWay::new(ends, back, Cipher::Open(Inbox::new(opener, records, &early)));
    pump(path, &activity, [plain, sealed], [out, back]).await
}

/// What both ways of a connection share.
#[derive(Clone, Copy, Debug)]
struct Ends<'a> {
    path: &'a Path,
    plain: &'a TcpStream,
    sealed: &'a TcpStream,
    keys: &'a Keys,
    /// The other side wants new keys for this side's way as well (RFC 8446 §4.6.3).
    owes_update: &'a AtomicBool,
    activity: &'a Activity,
}

/// The state of one way.
struct OneWay<'a> {
    ends: Ends<'a>,
    way: Way,
    cipher: Cipher,
    toll: Toll<'a>,
    stage: Stage,
    /// Bytes of the stream that are in what is to be sent.
    carried: usize,
    /// What waits to be written.
    held: Held<'a>,
}

enum Cipher {
    /// From the plain end to the sealed one.
    Seal(Outbox),
    /// And back.
    Open(Inbox),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flowing,
    /// The sender has ended its stream.
    Draining,
    Done,
}

impl<'a> OneWay<'a> {
    fn new(ends: Ends<'a>, way: Way, cipher: Cipher) -> Self {
        let toll = Toll::new(ends.path.rate.as_ref(), ends.activity, way);
        let held = Held::new(&ends.path.meter);
        Self { ends, way, cipher, toll, stage: Stage::Flowing, carried: 0, held }
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let mut moved = 0;
        loop {
            // Everything goes before more is read: what does not is held back by the kernel at the sender.
            let sent = self.send(context, &mut moved)?;
            if moved >= TURN || (sent.is_pending() && moved > 0) {
                return Poll::Ready(Ok(Progress::Moved));
            }
            std::task::ready!(sent);
            match self.stage {
                Stage::Flowing => match self.receive(context)? {
                    Poll::Pending if moved > 0 => return Poll::Ready(Ok(Progress::Moved)),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => self.ends.activity.note(),
                },
                Stage::Draining => {
                    // Where it is sealed the other side was told by a record, and whatever is on the way is told by this.
                    end_stream(self.to())?;
                    self.stage = Stage::Done;
                }
                Stage::Done => return Poll::Ready(Ok(Progress::Done)),
            }
        }
    }

    /// Sends what there is.
    fn send(&mut self, context: &mut Context<'_>, moved: &mut usize) -> io::Result<Poll<()>> {
        loop {
            let unsent = self.unsent();
            if unsent.is_empty() {
                break;
            }
            let Poll::Ready(sent) = poll_write(self.to(), context, &[IoSlice::new(unsent)]) else {
                return Ok(Poll::Pending);
            };
            let sent = sent?;
            match &mut self.cipher {
                Cipher::Seal(outbox) => outbox.sent(sent),
                Cipher::Open(inbox) => inbox.sent(sent),
            }
            *moved += sent;
            self.ends.activity.note();
        }
        if self.carried > 0 {
            self.ends.path.meter.moved(self.way, self.carried as u64);
            self.carried = 0;
        }
        Ok(Poll::Ready(()))
    }

    /// Reads once, and seals or opens what came.
    fn receive(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        let Poll::Ready(limit) = self.toll.poll(context) else { return Ok(Poll::Pending) };
        let Ends { plain, sealed, keys, owes_update, .. } = self.ends;
        match &mut self.cipher {
            Cipher::Seal(outbox) => {
                let update = owes_update.load(Relaxed);
                let read = outbox.fill(limit, keys, update, |slots| poll_read_vectored(plain, context, slots));
                let Poll::Ready(read) = read else { return Ok(Poll::Pending) };
                match read? {
                    0 => self.stage = Stage::Draining,
                    bytes => {
                        if update {
                            owes_update.store(false, Relaxed);
                        }
                        self.carried = bytes;
                    }
                }
            }
            Cipher::Open(inbox) => {
                // What came with the handshake is there before anything is read.
                let mut opened = inbox.open(keys)?;
                if opened.len == 0 && !opened.ended {
                    let Poll::Ready(read) = inbox.fill(limit, |space| poll_read(sealed, context, space)) else {
                        return Ok(Poll::Pending);
                    };
                    if read? == 0 {
                        return Err(RecordError::Truncated.into());
                    }
                    let before = opened;
                    opened = inbox.open(keys)?;
                    opened.asked_for_update |= before.asked_for_update;
                }
                if opened.asked_for_update {
                    owes_update.store(true, Relaxed);
                }
                if opened.ended {
                    self.stage = Stage::Draining;
                }
                self.carried = opened.len;
            }
        }
        if self.carried > 0 {
            self.toll.took(self.carried);
        }
        Ok(Poll::Ready(()))
    }

    fn unsent(&self) -> &[u8] {
        match &self.cipher {
            Cipher::Seal(outbox) => outbox.unsent(),
            Cipher::Open(inbox) => inbox.unsent(),
        }
    }

    fn to(&self) -> &'a TcpStream {
        match &self.cipher {
            Cipher::Seal(_) => self.ends.sealed,
            Cipher::Open(_) => self.ends.plain,
        }
    }
}

impl Flow for OneWay<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let progress = self.turn(context);
        self.held.set(self.unsent().len() as u64);
        progress
    }
}

/// Reads whatever is there; waits until there is something. 0: the stream has ended.
pub(crate) async fn read_some(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    std::future::poll_fn(|context| poll_read(stream, context, buffer)).await
}

/// Writes all of it; waits where the other end is slow.
pub(crate) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::future::poll_fn(|context| poll_write(stream, context, &[IoSlice::new(bytes)])).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}
