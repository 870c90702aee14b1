//! Pickles of protocol 4, without memo and frames, which Python reads in any version from 3.4.

use bytes::Bytes;

use super::{Global, MODULE, opcode};

const PROTOCOL: u8 = 4;

/// Writes one pickle, value after value.
///
/// Object data is not copied: see [`Pickle::parts`].
#[derive(Debug)]
pub struct Writer {
    text: Vec<u8>,
    data: Vec<(usize, Bytes)>,
}

/// A pickle whose object data lies where it did.
#[derive(Debug)]
pub struct Pickle {
    /// All but the data.
    text: Vec<u8>,
    /// The data, and where in the text each belongs, in order.
    data: Vec<(usize, Bytes)>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { text: vec![opcode::PROTO, PROTOCOL], data: Vec::new() }
    }
}

impl Writer {
    /// A pickle whose first bytes (ProxyStore's mark) are `ahead`.
    pub fn after(ahead: &[u8]) -> Self {
        Self { text: [ahead, &[opcode::PROTO, PROTOCOL]].concat(), data: Vec::new() }
    }

    /// A `bool`.
    pub fn bool(&mut self, value: bool) {
        self.text.push(if value { opcode::NEWTRUE } else { opcode::NEWFALSE });
    }

    /// An `int`.
    pub fn int(&mut self, value: i128) {
        if let Ok(small) = i32::try_from(value) {
            self.text.push(opcode::BININT);
            self.text.extend_from_slice(&small.to_le_bytes());
            return;
        }
        const BYTES: u8 = 16;
        self.text.extend_from_slice(&[opcode::LONG1, BYTES]);
        self.text.extend_from_slice(&value.to_le_bytes());
    }

    /// A `str`.
    pub fn str(&mut self, value: &str) {
        match u32::try_from(value.len()) {
            Ok(length) => {
                self.text.push(opcode::BINUNICODE);
                self.text.extend_from_slice(&length.to_le_bytes());
            }
            Err(_) => {
                self.text.push(opcode::BINUNICODE8);
                self.text.extend_from_slice(&(value.len() as u64).to_le_bytes());
            }
        }
        self.text.extend_from_slice(value.as_bytes());
    }

    /// `bytes`, which are not copied.
    pub fn bytes(&mut self, value: Bytes) {
        self.text.push(opcode::BINBYTES8);
        self.text.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.data.push((self.text.len(), value));
    }

    /// A `list` of what `elements` writes.
    pub fn list(&mut self, elements: impl FnOnce(&mut Self)) {
        self.text.extend_from_slice(&[opcode::EMPTY_LIST, opcode::MARK]);
        elements(self);
        self.text.push(opcode::APPENDS);
    }

    /// A `dict` of what `entries` writes: keys and values in turn.
    pub fn dict(&mut self, entries: impl FnOnce(&mut Self)) {
        self.text.extend_from_slice(&[opcode::EMPTY_DICT, opcode::MARK]);
        entries(self);
        self.text.push(opcode::SETITEMS);
    }

    /// What a call with the one argument that `argument` writes returns.
    pub fn call(&mut self, global: Global, argument: impl FnOnce(&mut Self)) {
        self.str(MODULE);
        self.str(global.name());
        self.text.push(opcode::STACK_GLOBAL);
        argument(self);
        self.text.extend_from_slice(&[opcode::TUPLE1, opcode::REDUCE]);
    }

    /// The whole pickle, of the one value that was written.
    pub fn finish(mut self) -> Pickle {
        self.text.push(opcode::STOP);
        Pickle { text: self.text, data: self.data }
    }
}

impl Pickle {
    /// Its length, bytes.
    pub fn len(&self) -> usize {
        self.text.len() + self.data.iter().map(|(_, data)| data.len()).sum::<usize>()
    }

    /// Never: a pickle has at least a protocol and an end.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its parts in order; joined, they are the pickle.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut written = 0;
        let pairs = self.data.iter().flat_map(move |(until, data)| {
            let text = &self.text[written..*until];
            written = *until;
            [text, &data[..]]
        });
        let rest = self.data.last().map_or(0, |(until, _)| *until);
        pairs.chain(std::iter::once(&self.text[rest..]))
    }
}
