//! What comes in: records that are read, opened where they lie, and passed on.

use std::io;
use std::ops::Range;
use std::task::Poll;

use super::handshake::Keys;
use super::memory::{BATCH, Memory};
use super::record::{Content, LONGEST, Opener, RECORD, RecordError, record_len};

/// Records are read as they come; whole ones are opened so that their contents lie one after the other. Of one that is not whole, at most
/// one, the part that is there is moved to the front before more is read.
#[derive(Debug)]
pub(crate) struct Inbox {
    memory: Option<Memory>,
    opener: Opener,
    /// The most to read at once, in bytes.
    most: usize,
    /// What was read and not opened.
    unopened: Range<usize>,
    /// What was opened and not passed on.
    opened: Range<usize>,
}

/// What was opened at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Bytes of the stream.
    pub(crate) len: usize,
    /// No more follow.
    pub(crate) ended: bool,
    /// The other side wants new keys for this side's way too.
    pub(crate) asked_for_update: bool,
}

impl Inbox {
    /// One that takes so many records, if that is not too many, at least one, with what was read already, which is less than one of them takes.
    pub(crate) fn new(opener: Opener, records: usize, early: &[u8]) -> Self {
        let memory = (!early.is_empty()).then(|| {
            let mut memory = Memory::take();
            memory[..early.len()].copy_from_slice(early);
            memory
        });
        let most = records.clamp(1, BATCH) * RECORD;
        Self { memory, opener, most, unopened: 0..early.len(), opened: 0..0 }
    }

    /// Has more read, so many bytes at most. Says how many; 0: the connection has ended. Whatever was opened was passed on before.
    pub(crate) fn fill(
        &mut self,
        limit: usize,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut memory = self.memory.take().unwrap_or_else(Memory::take);
        if self.unopened.start > 0 {
            memory.copy_within(self.unopened.clone(), 0);
            self.unopened = 0..self.unopened.len();
        }
        // An unfinished record is shorter than the longest, so that there is room.
        let read = read(&mut memory[self.unopened.end..][..self.most.min(limit)]);
        if let Poll::Ready(Ok(bytes)) = read {
            self.unopened.end += bytes;
        }
        if !self.unopened.is_empty() {
            self.memory = Some(memory);
        }
        read
    }

    /// Opens whatever records are whole. Whatever follows the stream's end is ignored (RFC 8446 §6.1).
    pub(crate) fn open(&mut self, keys: &Keys) -> Result<Opened, RecordError> {
        let mut opened = Opened::default();
        let Some(memory) = &mut self.memory else { return Ok(opened) };
        while !opened.ended
            && let Some(len) = record_len(&memory[self.unopened.clone()])?
            && self.unopened.len() >= len
        {
            let record = self.unopened.start..self.unopened.start + len;
            self.unopened.start = record.end;
            match self.opener.open(memory, opened.len, record)? {
                Content::Data(len) => opened.len += len,
                Content::End => opened.ended = true,
                Content::KeyUpdate { answer } => {
                    self.opener.update(keys.next_in()?)?;
                    opened.asked_for_update |= answer;
                }
            }
        }
        self.opened = 0..opened.len;
        self.rest();
        Ok(opened)
    }

    /// What was opened and not passed on.
    pub(crate) fn unsent(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[self.opened.clone()])
    }

    /// So many bytes were passed on.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.opened.start += bytes;
        self.rest();
    }

    /// Gives up memory that holds nothing.
    fn rest(&mut self) {
        if self.opened.is_empty() && self.unopened.is_empty() {
            (self.memory, self.unopened) = (None, 0..0);
        }
    }
}

/// What precedes a batch is a part of a record at most.
const _: () = assert!(LONGEST >= RECORD);
