//! What goes out: plain bytes that are read, sealed where they lie, and sent.

use std::array;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::task::Poll;

use super::handshake::Keys;
use super::memory::{BATCH, Memory};
use super::record::{CONTENT, HEADER, KEY_UPDATE_RECORD, RECORD, RecordError, Sealer};

/// Plain bytes are read into the places that they have in records, which are sealed there and lie one after the other. In front there is
/// room for the record that announces a new key.
#[derive(Debug)]
pub(crate) struct Outbox {
    memory: Option<Memory>,
    sealer: Sealer,
    /// The most to read at once.
    records: usize,
    /// What is sealed and not sent.
    sealed: Range<usize>,
}

impl Outbox {
    /// One that takes so many records, if that is not too many; at least one.
    pub(crate) fn new(sealer: Sealer, records: usize) -> Self {
        Self { memory: None, sealer, records: records.clamp(1, BATCH), sealed: 0..0 }
    }

    /// Has the records' places filled from the first on, with so many bytes at most, and sealed, after the announcement of a new key if one
    /// is wanted or due. Says with how many; they are [to be sent](Self::unsent) before more is read. 0: the stream has ended, and the
    /// record that says so is to be sent.
    pub(crate) fn fill(
        &mut self,
        limit: usize,
        keys: &Keys,
        update: bool,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut memory = self.memory.take().unwrap_or_else(Memory::take);
        let mut left = limit;
        let mut count = 0;
        let places = memory[KEY_UPDATE_RECORD..].chunks_exact_mut(RECORD).take(self.records);
        let mut places = places.map_while(|record| {
            let len = left.min(CONTENT);
            left -= len;
            count += usize::from(len > 0);
            (len > 0).then(|| &mut record[HEADER..][..len])
        });
        let mut slots: [_; BATCH] = array::from_fn(|_| IoSliceMut::new(places.next().unwrap_or_default()));
        drop(places);
        let read = std::task::ready!(read(&mut slots[..count]))?;
        let sealed = match read {
            0 => self.sealer.seal_end(&mut memory).map(|len| 0..len),
            read => seal(&mut self.sealer, &mut memory, read, keys, update),
        };
        self.sealed = sealed?;
        self.memory = Some(memory);
        Poll::Ready(Ok(read))
    }

    /// What is sealed and not sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[self.sealed.clone()])
    }

    /// So many bytes were sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sealed.start += bytes;
        if self.sealed.is_empty() {
            self.memory = None;
        }
    }
}

fn seal(
    sealer: &mut Sealer,
    memory: &mut [u8],
    mut len: usize,
    keys: &Keys,
    update: bool,
) -> Result<Range<usize>, RecordError> {
    let (mut start, mut end) = (KEY_UPDATE_RECORD, KEY_UPDATE_RECORD);
    // Two more: what announces the next key, and what ends the stream.
    if update || sealer.is_worn(len.div_ceil(CONTENT) as u64 + 2) {
        sealer.seal_key_update(memory, keys.next_out()?)?;
        start = 0;
    }
    while len > 0 {
        let content = len.min(CONTENT);
        end += sealer.seal(&mut memory[end..], content)?;
        len -= content;
    }
    Ok(start..end)
}
