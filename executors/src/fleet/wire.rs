//! Frames on a socket: many leave in one system call, many arrive in one.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::marker::PhantomData;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::channel::Channel;
use super::frames::{Frame, HEADER, Header, Packet, Protocol};

/// Pieces handed to the kernel at once: 32 frames of header, head and payload.
const SLICES: usize = 96;
/// Bytes asked of the kernel at once where frames are small.
const READ_AHEAD: usize = 256 << 10;
/// Frames longer than this are read into memory of their own. Only what of them has come with their header is copied once more.
const LARGE: usize = 64 << 10;
/// Bytes asked of the kernel at once after a large frame, as the next is likely to be large, too.
const READ_AHEAD_OF_LARGE: usize = 4 << 10;

/// Frames on their way out, the first perhaps half sent.
#[derive(Default)]
pub(crate) struct SendQueue {
    packets: VecDeque<Packet>,
    /// Bytes of the first packet that have left.
    sent: usize,
}

impl SendQueue {
    pub(crate) fn push(&mut self, frame: impl Into<Packet>) {
        self.packets.push_back(frame.into());
    }

    pub(crate) fn append(&mut self, packets: &mut VecDeque<Packet>) {
        self.packets.append(packets);
    }

    /// Frames that have not left entirely.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether more than `bytes` have yet to leave.
    pub(crate) fn exceeds(&self, bytes: usize) -> bool {
        let mut left = bytes + self.sent;
        self.packets.iter().any(|packet| match left.checked_sub(packet.len()) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
    }

    /// Sends until nothing is left or the socket says no. What is left stays queued.
    pub(crate) fn send(&mut self, socket: &Channel, flags: SendFlags) -> io::Result<()> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.fill(&mut slices);
            let sent =
                sendmsg(socket, &slices[..used], &mut SendAncillaryBuffer::default(), flags | SendFlags::NOSIGNAL);
            match sent {
                Ok(bytes) => self.advance(bytes),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut skip = self.sent;
        let unsent = self
            .packets
            .iter()
            .flat_map(Packet::parts)
            .map(|part| {
                let (_, rest) = part.split_at(skip.min(part.len()));
                skip -= part.len() - rest.len();
                rest
            })
            .filter(|part| !part.is_empty());
        let mut used = 0;
        for (slice, part) in slices.iter_mut().zip(unsent) {
            *slice = IoSlice::new(part);
            used += 1;
        }
        used
    }

    fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(first) = self.packets.front()
            && self.sent >= first.len()
        {
            self.sent -= first.len();
            self.packets.pop_front();
        }
    }
}

/// Reads frames: small ones by many from one buffer, large ones straight into memory of their own.
pub(crate) struct FrameReader<'a, F = Frame> {
    socket: &'a Channel,
    buffer: Box<[u8]>,
    /// The unread part of `buffer`.
    start: usize,
    end: usize,
    /// Bytes to ask of the kernel at once.
    ahead: usize,
    frames: PhantomData<fn() -> F>,
}

impl<'a, F: Protocol> FrameReader<'a, F> {
    pub(crate) fn new(socket: &'a Channel) -> Self {
        Self {
            socket,
            buffer: vec![0; READ_AHEAD].into_boxed_slice(),
            start: 0,
            end: 0,
            ahead: READ_AHEAD,
            frames: PhantomData,
        }
    }

    /// Waits for the next frame; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if the peer breaks the protocol, [`io::ErrorKind::UnexpectedEof`] for an end
    /// within a frame, else the socket's.
    pub(crate) fn next(&mut self) -> io::Result<Option<F>> {
        let header = loop {
            if let Some(header) = Header::parse::<F>(self.unread())? {
                break header;
            }
            if self.fill()? == 0 {
                return match self.unread() {
                    [] => Ok(None),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        };
        let (head, payload) = (header.head, header.payload);
        let (head, payload) = if HEADER + head + payload <= LARGE {
            self.ahead = READ_AHEAD;
            while self.unread().len() < HEADER + head + payload {
                if self.fill()? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            // Head and payload share one allocation.
            let body = &self.unread()[HEADER..HEADER + head + payload];
            let mut body = Bytes::copy_from_slice(body);
            self.start += HEADER + head + payload;
            (body.split_to(head), body)
        } else {
            self.ahead = READ_AHEAD_OF_LARGE;
            self.start += HEADER;
            (self.read_alone(head)?, self.read_alone(payload)?)
        };
        F::decode(header, head, payload).map(Some)
    }

    /// Whether [`next`](Self::next) would return a frame without waiting.
    pub(crate) fn has_frame(&self) -> bool {
        match Header::parse::<F>(self.unread()) {
            Ok(Some(header)) => self.unread().len() >= HEADER + header.head + header.payload,
            Ok(None) => false,
            // An error is had without waiting, too.
            Err(_) => true,
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let until = self.buffer.len().min(self.end + self.ahead);
        loop {
            match self.socket.read(&mut self.buffer[self.end..until]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads `length` bytes into memory of their own, which is not filled with zeros before. Using the memory of an
    /// earlier payload again was measured to gain nothing: mimalloc hands it out again by itself.
    fn read_alone(&mut self, length: usize) -> io::Result<Bytes> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(length).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
        let buffered = length.min(self.unread().len());
        memory.extend_from_slice(&self.unread()[..buffered]);
        self.start += buffered;
        let missing = length - buffered;
        if self.socket.read_into(&mut memory, missing)? < missing {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(memory.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use crate::fleet::frames::MAX_PAYLOAD;
    use crate::{Task, TaskId};

    fn task(id: u64, head: usize, payload: usize) -> Task {
        Task { id: TaskId(id), head: vec![1; head].into(), payload: vec![2; payload].into(), exclusive: id % 2 == 1 }
    }

    fn pair() -> (Channel, Channel) {
        let (here, there) = UnixStream::pair().unwrap();
        (here.into(), there.into())
    }

    #[test]
    fn frames_of_all_sizes_arrive_in_order() {
        let lengths = [0, 1, 100, LARGE - HEADER, LARGE, READ_AHEAD, 3_000_000];
        let sizes: Vec<(usize, usize)> =
            lengths.iter().flat_map(|head| lengths.map(|payload| (*head, payload))).collect();
        let (here, there) = pair();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut queue = SendQueue::default();
                for (id, (head, payload)) in (0..).zip(&sizes) {
                    queue.push(Frame::Task(task(id, *head, *payload)));
                }
                queue.send(&here, SendFlags::empty()).unwrap();
                assert!(queue.is_empty());
                drop(here);
            });
            let mut frames = FrameReader::<Frame>::new(&there);
            for (id, (head, payload)) in (0..).zip(&sizes) {
                let (sent, frame) = (task(id, *head, *payload), frames.next().unwrap());
                let Some(Frame::Task(got)) = frame else { panic!("{frame:?}") };
                assert_eq!((got.id, got.exclusive), (sent.id, sent.exclusive));
                assert!(got.head == sent.head && got.payload == sent.payload, "{head} B and {payload} B");
            }
            assert!(frames.next().unwrap().is_none());
        });
    }

    #[test]
    fn what_a_full_socket_does_not_take_stays_queued() {
        let (here, there) = pair();
        let mut queue = SendQueue::default();
        queue.push(Frame::Task(task(0, 10, 4_000_000)));
        queue.push(Frame::Cancel(TaskId(0)));
        let refused = queue.send(&here, SendFlags::DONTWAIT).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        assert_eq!(queue.len(), 2);
        assert!(queue.exceeds(1_000_000) && !queue.exceeds(4_000_000));
        thread::scope(|scope| {
            scope.spawn(|| queue.send(&here, SendFlags::empty()).unwrap());
            let mut frames = FrameReader::<Frame>::new(&there);
            assert!(matches!(frames.next().unwrap(), Some(Frame::Task(task)) if task.payload == vec![2; 4_000_000]));
            assert!(matches!(frames.next().unwrap(), Some(Frame::Cancel(TaskId(0)))));
        });
    }

    fn error_of(bytes: &[u8]) -> io::Error {
        let (mut here, there) = UnixStream::pair().unwrap();
        let there = Channel::from(there);
        here.write_all(bytes).unwrap();
        drop(here);
        FrameReader::<Frame>::new(&there).next().unwrap_err()
    }

    #[test]
    fn broken_streams_are_errors() {
        let mut bytes = Packet::from(Frame::Task(task(0, 1, 1))).parts().concat();
        assert_eq!(error_of(&bytes[..HEADER - 1]).kind(), ErrorKind::UnexpectedEof);
        assert_eq!(error_of(&bytes[..HEADER + 1]).kind(), ErrorKind::UnexpectedEof);
        bytes[8..16].copy_from_slice(&(MAX_PAYLOAD as u64 + 1).to_le_bytes());
        assert_eq!(error_of(&bytes).kind(), ErrorKind::InvalidData);
        bytes[0] = 99;
        assert_eq!(error_of(&bytes).to_string(), "a frame of unknown kind 99");
    }
}
