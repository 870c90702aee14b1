//! A stream put together again from the frames of its stripes, without reading or writing.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{FrameError, HEADER, Header, LARGEST};

/// What is held for each piece beside its bytes, so that tiny frames can't take more memory than the bound allows.
const COST: usize = 128;

/// The order of a stream.
#[derive(Debug)]
pub struct Order {
    /// The most to hold, in bytes; up to [`LARGEST`] more, so that the piece that everybody waits for always has room.
    most: usize,
    /// Of the first byte that did not come yet.
    next: u64,
    /// What is in order.
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    /// What came too early, by position.
    early: BTreeMap<u64, Bytes>,
    /// With their costs.
    held: usize,
    total: Option<u64>,
}

impl Order {
    /// One of which nothing came yet.
    pub fn new(most: usize) -> Self {
        Self { most, next: 0, ready: VecDeque::new(), ready_bytes: 0, early: BTreeMap::new(), held: 0, total: None }
    }

    /// How much may be read now of what is at this position, in bytes.
    fn room(&self, position: u64) -> usize {
        let room = self.most.saturating_sub(self.held);
        if position == self.next { room.max(LARGEST.saturating_sub(self.ready_bytes)) } else { room }
    }

    fn add(&mut self, position: u64, piece: Bytes) -> Result<(), FrameError> {
        self.held += piece.len() + COST;
        if position == self.next {
            self.push(piece);
            while let Some(early) = self.early.first_entry() {
                if *early.key() != self.next {
                    break;
                }
                let piece = early.remove();
                self.push(piece);
            }
        } else if position < self.next || self.early.insert(position, piece).is_some() {
            return Err(FrameError::Position(position));
        }
        match self.early.first_key_value() {
            // It overlaps what came already.
            Some((&early, _)) if early < self.next => Err(FrameError::Position(early)),
            _ if self.total.is_some_and(|total| self.next > total) => Err(FrameError::Ends),
            _ => Ok(()),
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.next += piece.len() as u64;
        self.ready_bytes += piece.len();
        self.ready.push_back(piece);
    }

    fn end(&mut self, total: u64) -> Result<(), FrameError> {
        if total < self.next || *self.total.get_or_insert(total) != total {
            return Err(FrameError::Ends);
        }
        Ok(())
    }

    /// What can be handed on, in pieces of which none is empty.
    pub fn ready(&self) -> &VecDeque<Bytes> {
        &self.ready
    }

    /// So many bytes of it were handed on.
    pub fn consume(&mut self, mut bytes: usize) {
        bytes = bytes.min(self.ready_bytes);
        self.ready_bytes -= bytes;
        self.held -= bytes;
        while let Some(first) = self.ready.front_mut() {
            let part = bytes.min(first.len());
            first.advance(part);
            bytes -= part;
            if !first.is_empty() {
                break;
            }
            self.held -= COST;
            self.ready.pop_front();
        }
    }

    /// Bytes that are held, with what each piece costs.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether everything came.
    pub fn is_whole(&self) -> bool {
        self.total == Some(self.next)
    }
}

/// What comes over one stripe.
#[derive(Debug, Default)]
pub struct Stripe {
    /// What was read and not yet looked at.
    pub buffer: BytesMut,
    /// The rest of the frame that has begun: where it is, and how long.
    frame: Option<(u64, usize)>,
    /// No later frame may begin before this one's end: whatever everybody waits for is at the head of its stripe, or will be.
    least: u64,
    ended: bool,
}

impl Stripe {
    /// How much may be read now, in bytes; 0: nothing until others have made room.
    pub fn wants(&self, order: &Order) -> usize {
        match self.frame {
            // That it ends, too.
            _ if self.ended => 1,
            None => HEADER - self.buffer.len(),
            Some((position, rest)) => match order.room(position) {
                room if room < rest => room,
                // Along with the next header, which costs no room.
                _ => rest + HEADER,
            },
        }
    }

    /// Looks at what was read.
    ///
    /// # Errors
    /// What the other gateway should not have sent.
    pub fn take(&mut self, order: &mut Order) -> Result<(), FrameError> {
        loop {
            match &mut self.frame {
                _ if self.ended && !self.buffer.is_empty() => return Err(FrameError::AfterEnd),
                None => {
                    let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(()) };
                    let header = Header::decode(header)?;
                    self.buffer.advance(HEADER);
                    match header {
                        Header::Data { position, .. } if position < self.least => {
                            return Err(FrameError::Position(position));
                        }
                        Header::Data { position, len } => {
                            self.frame = Some((position, len as usize));
                            self.least = position + u64::from(len);
                        }
                        Header::End { total } if total < self.least => return Err(FrameError::Ends),
                        Header::End { total } => {
                            order.end(total)?;
                            self.ended = true;
                        }
                    }
                }
                Some(_) if self.buffer.is_empty() => return Ok(()),
                Some((position, rest)) => {
                    let piece = self.buffer.split_to(self.buffer.len().min(*rest)).freeze();
                    let (at, len) = (*position, piece.len());
                    *position += len as u64;
                    *rest -= len;
                    if *rest == 0 {
                        self.frame = None;
                    }
                    order.add(at, piece)?;
                }
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// Before the stripe did.
    pub fn close(&self) -> Result<(), FrameError> {
        if self.ended { Ok(()) } else { Err(FrameError::Lost) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// The frames of a stream, dealt to stripes.
    fn deal(stream: &[u8], sizes: &[usize], stripes: &[usize], count: usize) -> Vec<Vec<u8>> {
        let mut wires = vec![Vec::new(); count];
        let (mut position, mut turn) = (0, 0);
        while position < stream.len() {
            let len = sizes[turn % sizes.len()].min(stream.len() - position);
            let wire = &mut wires[stripes[turn % stripes.len()] % count];
            wire.extend(Header::Data { position: position as u64, len: len as u32 }.encode());
            wire.extend(&stream[position..position + len]);
            (position, turn) = (position + len, turn + 1);
        }
        for wire in &mut wires {
            wire.extend(Header::End { total: stream.len() as u64 }.encode());
        }
        wires
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_stream_is_in_order_again_whichever_stripe_is_late(
            stream in vec(any::<u8>(), 0..20_000),
            sizes in vec(1_usize..3_000, 1..10),
            stripes in vec(0_usize..8, 1..20),
            count in 2_usize..6,
            most in 0_usize..10_000,
            events in vec((any::<Index>(), 1_usize..5_000, 0_usize..5_000), 1..50),
        ) {
            let wires = deal(&stream, &sizes, &stripes, count);
            let mut wires: Vec<&[u8]> = wires.iter().map(Vec::as_slice).collect();
            let mut order = Order::new(most);
            let mut ends: Vec<_> = (0..count).map(|_| Stripe::default()).collect();
            let mut got: Vec<u8> = Vec::new();
            let mut rounds = events.iter().cycle();
            let mut idle = 0;
            while !(order.is_whole() && order.ready().is_empty()) {
                let (which, size, written) = rounds.next().unwrap();
                // The named stripe; all of them if nothing has moved for long: then something has to, or it never would.
                let stuck = idle > events.len() * 2;
                prop_assert!(idle < events.len() * 4, "deadlock");
                let before = (wires.iter().map(|wire| wire.len()).sum::<usize>(), got.len());
                for index in 0..count {
                    if stuck || index == which.index(count) {
                        let read = ends[index].wants(&order).min(*size).min(wires[index].len());
                        ends[index].buffer.extend_from_slice(&wires[index][..read]);
                        wires[index] = &wires[index][read..];
                        ends[index].take(&mut order).unwrap();
                    }
                }
                prop_assert!(order.held() <= most + LARGEST + COST * 20_000);
                let ready: Vec<u8> = order.ready().iter().flatten().copied().collect();
                let written = if stuck { ready.len() } else { (*written).min(ready.len()) };
                got.extend(&ready[..written]);
                order.consume(written);
                let after = (wires.iter().map(|wire| wire.len()).sum::<usize>(), got.len());
                idle = if before == after { idle + 1 } else { 0 };
            }
            prop_assert!(got == stream);
            // Whatever they still have to say is that they ended.
            for (end, wire) in ends.iter_mut().zip(wires) {
                end.buffer.extend_from_slice(wire);
                end.take(&mut order).unwrap();
                end.close().unwrap();
            }
            prop_assert_eq!(order.held(), 0);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(wires in vec(vec(any::<u8>(), 0..200), 1..4)) {
            let mut order = Order::new(1_000);
            for wire in wires {
                let mut stripe = Stripe { buffer: wire.as_slice().into(), ..Stripe::default() };
                let _ = stripe.take(&mut order);
            }
        }
    }

    fn take(frames: &[(Header, &[u8])]) -> Result<(), FrameError> {
        let (mut order, mut stripe) = (Order::new(1_000), Stripe::default());
        for (header, bytes) in frames {
            stripe.buffer.extend_from_slice(&header.encode());
            stripe.buffer.extend_from_slice(bytes);
            stripe.take(&mut order)?;
        }
        stripe.close()
    }

    #[test]
    fn a_stripe_that_goes_back_ends_twice_or_not_at_all_is_refused() {
        let data = |position| (Header::Data { position, len: 2 }, &b"ab"[..]);
        let end = |total| (Header::End { total }, &b""[..]);
        assert_eq!(take(&[data(0), data(2), end(4)]), Ok(()));
        assert_eq!(take(&[data(0), data(1)]), Err(FrameError::Position(1)));
        assert_eq!(take(&[data(4), data(2)]), Err(FrameError::Position(2)));
        assert_eq!(take(&[data(0), end(1)]), Err(FrameError::Ends));
        assert_eq!(take(&[data(0), end(2), end(2)]), Err(FrameError::AfterEnd));
        assert_eq!(take(&[data(0)]), Err(FrameError::Lost));
    }

    #[test]
    fn stripes_that_send_the_same_twice_are_refused() {
        let mut order = Order::new(1_000);
        order.add(2, Bytes::from_static(b"cd")).unwrap();
        assert_eq!(order.add(2, Bytes::from_static(b"cd")), Err(FrameError::Position(2)));
        let mut order = Order::new(1_000);
        order.add(2, Bytes::from_static(b"cd")).unwrap();
        assert_eq!(order.add(0, Bytes::from_static(b"abc")), Err(FrameError::Position(2)));
    }
}
