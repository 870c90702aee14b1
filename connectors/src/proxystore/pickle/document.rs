//! What a pickle comes to: plain values.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;

use super::Global;

/// The most entries of a dictionary that [`Value::get`] searches.
pub const MAX_SEARCHED: usize = 256;

/// The values of one pickle.
///
/// They lie side by side and refer to each other by number. So a value that a pickle uses a thousand times is there once, a list
/// that contains itself is harmless, and nothing is as deep as an attacker nests it.
#[derive(Clone, Debug)]
pub struct Document {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Id,
    pub(super) input: Bytes,
    /// Where in the input each node is.
    pub(super) spans: Vec<Range<usize>>,
}

/// The number of a node.
pub(super) type Id = u32;

#[derive(Clone, Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: two's complement, little-endian.
    Long(Bytes),
    Float(f64),
    Str(ByteString),
    Bytes(Bytes),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// A name that is not known here.
    Foreign {
        module: ByteString,
        name: ByteString,
    },
    Object {
        callable: Id,
        args: Id,
        state: Option<Id>,
    },
}

/// One value of a [`Document`].
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    document: &'a Document,
    id: Id,
}

/// A call or a new object, as data.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// What would be called.
    pub global: Global,
    /// A tuple: with what.
    pub args: Value<'a>,
    /// What would be set on the new object, where anything would.
    pub state: Option<Value<'a>>,
}

impl Document {
    /// What the pickle is of.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, id: self.root }
    }
}

impl<'a> Value<'a> {
    fn node(self) -> Option<&'a Node> {
        self.document.nodes.get(self.id as usize)
    }

    fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    /// Whether it is `None`.
    pub fn is_none(self) -> bool {
        matches!(self.node(), Some(Node::None))
    }

    /// A `bool`.
    pub fn as_bool(self) -> Option<bool> {
        match self.node()? {
            Node::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An `int` within the range.
    pub fn as_int(self) -> Option<i128> {
        match self.node()? {
            Node::Int(value) => Some((*value).into()),
            Node::Long(bytes) => long(bytes),
            _ => None,
        }
    }

    /// A `float`.
    pub fn as_float(self) -> Option<f64> {
        match self.node()? {
            Node::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A `str`, however long, at no cost: a pickle may use one a million times.
    pub fn as_str(self) -> Option<&'a str> {
        match self.node()? {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// `bytes`, a `bytearray`, or a `str` in UTF-8, as a slice of the input.
    pub fn as_bytes(self) -> Option<Bytes> {
        match self.node()? {
            Node::Bytes(bytes) => Some(bytes.clone()),
            Node::Str(text) => Some(text.as_bytes().clone()),
            _ => None,
        }
    }

    /// The elements of a list, tuple or set, in order.
    pub fn elements(self) -> Option<impl ExactSizeIterator<Item = Value<'a>>> {
        match self.node()? {
            Node::List(ids) | Node::Tuple(ids) | Node::Set(ids) => Some(ids.iter().map(move |id| self.at(*id))),
            _ => None,
        }
    }

    /// The keys and values of a dictionary, in the order of the pickle; of a key that comes twice, the last one counts.
    pub fn entries(self) -> Option<impl ExactSizeIterator<Item = (Value<'a>, Value<'a>)>> {
        match self.node()? {
            Node::Dict(entries) => Some(entries.iter().map(move |(key, value)| (self.at(*key), self.at(*value)))),
            _ => None,
        }
    }

    /// The value of a dictionary under a key that is a `str`. It looks at every entry, and so finds nothing in a dictionary of more
    /// than [`MAX_SEARCHED`]: a pickle may use one that is large a million times.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        let entries = self.entries().filter(|entries| entries.len() <= MAX_SEARCHED)?;
        entries.filter(|(name, _)| name.as_str() == Some(key)).last().map(|(_, value)| value)
    }

    /// A call or a new object of what is known here.
    pub fn as_object(self) -> Option<Object<'a>> {
        match self.node()? {
            Node::Object { callable, args, state } => match self.at(*callable).node()? {
                Node::Global(global) => {
                    Some(Object { global: *global, args: self.at(*args), state: state.map(|state| self.at(state)) })
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The module and name of what an object that is not known here would be made by.
    pub fn foreign(self) -> Option<(&'a str, &'a str)> {
        let mut value = self;
        // What is called may have been made by a call itself, but that was there before it.
        while let Node::Object { callable, .. } = value.node()? {
            value = self.at(*callable);
        }
        match value.node()? {
            Node::Foreign { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// What an object, known here or not, would be made with: a tuple.
    pub fn arguments(self) -> Option<Value<'a>> {
        match self.node()? {
            Node::Object { args, .. } => Some(self.at(*args)),
            _ => None,
        }
    }

    /// The part of the pickle that makes it, as a slice of the input. It is no pickle by itself: it may refer to what stands ahead of it.
    pub fn serialised(self) -> Bytes {
        let span = self.document.spans.get(self.id as usize).cloned().unwrap_or_default();
        self.document.input.slice(span)
    }

    /// What Python calls its type, for errors.
    pub fn type_name(self) -> &'static str {
        match self.node() {
            None | Some(Node::None) => "None",
            Some(Node::Bool(_)) => "a bool",
            Some(Node::Int(_) | Node::Long(_)) => "an int",
            Some(Node::Float(_)) => "a float",
            Some(Node::Str(_)) => "a str",
            Some(Node::Bytes(_)) => "bytes",
            Some(Node::Tuple(_)) => "a tuple",
            Some(Node::List(_)) => "a list",
            Some(Node::Set(_)) => "a set",
            Some(Node::Dict(_)) => "a dict",
            Some(Node::Global(_) | Node::Foreign { .. }) => "a class",
            Some(Node::Object { .. }) => "an object",
        }
    }
}

/// Two's complement, little-endian; `None` beyond 128 bits.
pub(super) fn long(bytes: &[u8]) -> Option<i128> {
    let mut wide = if bytes.last().is_some_and(|last| last & 0x80 != 0) { [0xff; 16] } else { [0; 16] };
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(wide))
}
