//! The stack machine.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;

use super::document::{Document, Id, Node, long};
use super::{Global, PickleError, opcode};

/// The most opcodes of a pickle: some eight thousand of ProxyStore's events, and at the very worst 100 MB of values.
pub const MAX_OPCODES: usize = 1 << 20;

/// The newest protocol.
const NEWEST: u8 = 5;

/// The longest line of the opcode `GLOBAL`.
const MAX_LINE: usize = 256;

impl Document {
    /// Reads one pickle, which must be all of `input`.
    ///
    /// # Errors
    ///
    /// [`PickleError`] for anything else than a pickle. What it names of Python's beyond [`Global`] is a name and nothing more.
    pub fn read(input: Bytes) -> Result<Self, PickleError> {
        let mut machine = Machine {
            input,
            at: 0,
            from: 0,
            nodes: Vec::new(),
            spans: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
        };
        for _ in 0..MAX_OPCODES {
            let at = machine.at;
            machine.from = at;
            let opcode = machine.byte()?;
            if opcode == opcode::STOP {
                return machine.stop();
            }
            machine.step(opcode, at)?;
        }
        Err(PickleError::TooLong)
    }
}

/// Every opcode adds at most one node, one mark, one entry of the memo, and one of the stack, from which all elements of containers
/// come: so the number of opcodes bounds everything.
struct Machine {
    input: Bytes,
    at: usize,
    /// Where what the present opcode makes begins: at the opcode, or at the first of what it takes from the stack.
    from: usize,
    nodes: Vec<Node>,
    /// Where in the input each node is.
    spans: Vec<Range<usize>>,
    stack: Vec<Slot>,
    /// Where on the stack the open marks are, and in the input.
    marks: Vec<(usize, usize)>,
    memo: Vec<Id>,
}

#[derive(Clone, Copy)]
struct Slot {
    id: Id,
    /// Where in the input what pushed it begins.
    from: usize,
}

impl Machine {
    fn step(&mut self, opcode: u8, at: usize) -> Result<(), PickleError> {
        match opcode {
            opcode::PROTO => self.proto(),
            opcode::FRAME => self.frame(),
            opcode::MARK => {
                self.marks.push((self.stack.len(), at));
                Ok(())
            }
            opcode::POP => self.pop().map(drop),
            opcode::POP_MARK => self.pop_mark().map(drop),
            opcode::DUP => {
                let id = self.top()?;
                self.stack.push(Slot { id, from: at });
                Ok(())
            }
            opcode::MEMOIZE => self.put(self.memo.len()),
            opcode::BINPUT => self.byte().and_then(|index| self.put(index.into())),
            opcode::LONG_BINPUT => self.length4().and_then(|index| self.put(index)),
            opcode::BINGET => self.byte().and_then(|index| self.fetch(index.into())),
            opcode::LONG_BINGET => self.length4().and_then(|index| self.fetch(index)),
            opcode::STACK_GLOBAL => self.stack_global(),
            opcode::GLOBAL => self.line_global(),
            opcode::NEWOBJ | opcode::REDUCE => self.object(false),
            opcode::NEWOBJ_EX => self.object(true),
            opcode::BUILD => self.build(),
            opcode::SETITEM | opcode::SETITEMS => self.set_items(opcode == opcode::SETITEMS),
            opcode::APPEND | opcode::APPENDS => self.append(opcode == opcode::APPENDS),
            opcode::ADDITEMS => self.add_items(),
            _ => {
                let node = self.value(opcode, at)?;
                self.push(node)
            }
        }
    }

    /// A new value.
    fn value(&mut self, opcode: u8, at: usize) -> Result<Node, PickleError> {
        Ok(match opcode {
            opcode::NONE => Node::None,
            opcode::NEWTRUE => Node::Bool(true),
            opcode::NEWFALSE => Node::Bool(false),
            opcode::BININT => Node::Int(i32::from_le_bytes(self.array()?).into()),
            opcode::BININT1 => Node::Int(self.byte()?.into()),
            opcode::BININT2 => Node::Int(u16::from_le_bytes(self.array()?).into()),
            opcode::LONG1 => self.byte().and_then(|length| self.long(length.into()))?,
            opcode::LONG4 => self.length4().and_then(|length| self.long(length))?,
            opcode::BINFLOAT => Node::Float(f64::from_be_bytes(self.array()?)),
            opcode::SHORT_BINUNICODE => self.byte().and_then(|length| self.text(length.into()))?,
            opcode::BINUNICODE => self.length4().and_then(|length| self.text(length))?,
            opcode::BINUNICODE8 => self.length8().and_then(|length| self.text(length))?,
            opcode::SHORT_BINBYTES => Node::Bytes(self.byte().and_then(|length| self.take(length.into()))?),
            opcode::BINBYTES => Node::Bytes(self.length4().and_then(|length| self.take(length))?),
            opcode::BINBYTES8 | opcode::BYTEARRAY8 => Node::Bytes(self.length8().and_then(|length| self.take(length))?),
            opcode::EMPTY_DICT => Node::Dict(Vec::new()),
            opcode::EMPTY_LIST => Node::List(Vec::new()),
            opcode::EMPTY_SET => Node::Set(Vec::new()),
            opcode::EMPTY_TUPLE => Node::Tuple(Vec::new()),
            opcode::TUPLE1 => Node::Tuple(self.pop_last(1)?),
            opcode::TUPLE2 => Node::Tuple(self.pop_last(2)?),
            opcode::TUPLE3 => Node::Tuple(self.pop_last(3)?),
            opcode::TUPLE => Node::Tuple(self.pop_mark()?),
            opcode::FROZENSET => Node::Set(self.pop_mark()?),
            _ => return Err(PickleError::Opcode { opcode, at }),
        })
    }

    fn stop(mut self) -> Result<Document, PickleError> {
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.malformed("something is left over"));
        }
        if self.at < self.input.len() {
            return Err(self.malformed("something follows its end"));
        }
        Ok(Document { nodes: self.nodes, root, input: self.input, spans: self.spans })
    }

    fn proto(&mut self) -> Result<(), PickleError> {
        if self.byte()? > NEWEST {
            return Err(self.malformed("a protocol newer than 5"));
        }
        Ok(())
    }

    /// Frames only say how much to read ahead.
    fn frame(&mut self) -> Result<(), PickleError> {
        let length = self.length8()?;
        if length > self.left() {
            return Err(PickleError::Truncated { at: self.input.len() });
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), PickleError> {
        let (name, module) = (self.pop()?, self.pop()?);
        let text = |id: Id| match self.nodes.get(id as usize) {
            Some(Node::Str(text)) => Some(text.clone()),
            _ => None,
        };
        let (Some(module), Some(name)) = (text(module), text(name)) else {
            return Err(self.malformed("a global whose name is no text"));
        };
        self.push(global(module, name))
    }

    fn line_global(&mut self) -> Result<(), PickleError> {
        let (module, name) = (self.line()?, self.line()?);
        let (Ok(module), Ok(name)) = (ByteString::try_from(module), ByteString::try_from(name)) else {
            return Err(self.malformed("a global whose name is no text"));
        };
        self.push(global(module, name))
    }

    /// What would be called may have been made by a call itself: nothing is.
    fn object(&mut self, by_name: bool) -> Result<(), PickleError> {
        if by_name {
            self.pop()?;
        }
        let (args, callable) = (self.pop()?, self.pop()?);
        if !matches!(
            self.nodes.get(callable as usize),
            Some(Node::Global(_) | Node::Foreign { .. } | Node::Object { .. })
        ) {
            return Err(self.malformed("a call of something that is no global"));
        }
        if !matches!(self.nodes.get(args as usize), Some(Node::Tuple(_))) {
            return Err(self.malformed("a call whose arguments are no tuple"));
        }
        self.push(Node::Object { callable, args, state: None })
    }

    fn build(&mut self) -> Result<(), PickleError> {
        let new = self.pop()?;
        match self.top_node()? {
            Node::Object { state, .. } => *state = Some(new),
            _ => return Err(self.malformed("a state for something that is no object")),
        }
        Ok(())
    }

    fn set_items(&mut self, many: bool) -> Result<(), PickleError> {
        let items = if many { self.pop_mark()? } else { self.pop_last(2)? };
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.malformed("a key without a value"));
        };
        match self.top_node()? {
            Node::Dict(entries) => entries.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            // Of a class that is not known here.
            Node::Object { .. } => {}
            _ => return Err(self.malformed("entries for something that is no dict")),
        }
        Ok(())
    }

    fn append(&mut self, many: bool) -> Result<(), PickleError> {
        let items = if many { self.pop_mark()? } else { self.pop_last(1)? };
        match self.top_node()? {
            Node::List(elements) => elements.extend(items),
            Node::Object { .. } => {}
            _ => return Err(self.malformed("elements for something that is no list")),
        }
        Ok(())
    }

    fn add_items(&mut self) -> Result<(), PickleError> {
        let items = self.pop_mark()?;
        match self.top_node()? {
            Node::Set(elements) => elements.extend(items),
            Node::Object { .. } => {}
            _ => return Err(self.malformed("elements for something that is no set")),
        }
        Ok(())
    }

    /// Every writer counts up: so the memo is no larger than what is put into it.
    fn put(&mut self, index: usize) -> Result<(), PickleError> {
        let top = self.top()?;
        self.reach(top);
        if index == self.memo.len() {
            self.memo.push(top);
            return Ok(());
        }
        match self.memo.get_mut(index) {
            Some(known) => *known = top,
            None => return Err(self.malformed("a gap in the memo")),
        }
        Ok(())
    }

    fn fetch(&mut self, index: usize) -> Result<(), PickleError> {
        let Some(id) = self.memo.get(index) else {
            return Err(self.malformed("a memo that was never put"));
        };
        self.stack.push(Slot { id: *id, from: self.from });
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<(), PickleError> {
        let id = Id::try_from(self.nodes.len()).map_err(|_| PickleError::TooLong)?;
        self.nodes.push(node);
        self.spans.push(self.from..self.at);
        self.stack.push(Slot { id, from: self.from });
        Ok(())
    }

    /// Where the innermost mark is, below which nothing is taken from the stack.
    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |(floor, _)| *floor)
    }

    fn top(&self) -> Result<Id, PickleError> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(top.id),
            _ => Err(self.malformed("an empty stack")),
        }
    }

    fn top_node(&mut self) -> Result<&mut Node, PickleError> {
        let (top, at) = (self.top()?, self.at);
        self.reach(top);
        self.nodes.get_mut(top as usize).ok_or(PickleError::Malformed { what: "an empty stack", at })
    }

    /// A node takes in what was just read.
    fn reach(&mut self, id: Id) {
        if let Some(span) = self.spans.get_mut(id as usize) {
            span.end = self.at;
        }
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        if let Some(slot) = self.stack.pop() {
            self.from = self.from.min(slot.from);
        }
        Ok(top)
    }

    /// All of the stack from here on.
    fn split_off(&mut self, first: usize) -> Vec<Id> {
        let taken = self.stack.split_off(first);
        self.from = taken.first().map_or(self.from, |slot| self.from.min(slot.from));
        taken.into_iter().map(|slot| slot.id).collect()
    }

    fn pop_last(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        match self.stack.len().checked_sub(count) {
            Some(first) if first >= self.floor() => Ok(self.split_off(first)),
            _ => Err(self.malformed("an empty stack")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        match self.marks.pop() {
            Some((first, at)) if first <= self.stack.len() => {
                self.from = self.from.min(at);
                Ok(self.split_off(first))
            }
            _ => Err(self.malformed("no mark")),
        }
    }

    fn left(&self) -> usize {
        self.input.len() - self.at
    }

    /// The next bytes, as a slice of the input.
    fn take(&mut self, length: usize) -> Result<Bytes, PickleError> {
        if length > self.left() {
            return Err(PickleError::Truncated { at: self.input.len() });
        }
        let bytes = self.input.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let next = self.input[self.at..].first_chunk().copied();
        let bytes = next.ok_or(PickleError::Truncated { at: self.input.len() })?;
        self.at += N;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        self.array().map(|[byte]| byte)
    }

    fn length4(&mut self) -> Result<usize, PickleError> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.malformed("a length beyond this machine"))
    }

    fn length8(&mut self) -> Result<usize, PickleError> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| self.malformed("a length beyond this machine"))
    }

    fn text(&mut self, length: usize) -> Result<Node, PickleError> {
        let text = self.take(length)?;
        ByteString::try_from(text).map(Node::Str).map_err(|_| self.malformed("text that is not UTF-8"))
    }

    fn long(&mut self, length: usize) -> Result<Node, PickleError> {
        let bytes = self.take(length)?;
        let small = long(&bytes).and_then(|value| i64::try_from(value).ok());
        Ok(small.map_or(Node::Long(bytes), Node::Int))
    }

    /// The bytes up to the next line feed, which is left out.
    fn line(&mut self) -> Result<Bytes, PickleError> {
        let ahead = &self.input[self.at..];
        let Some(length) = ahead.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
            return Err(self.malformed("a global without its end"));
        };
        let line = self.take(length)?;
        self.at += 1;
        Ok(line)
    }

    fn malformed(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { what, at: self.at }
    }
}

/// A name costs no more than the text that it is.
fn global(module: ByteString, name: ByteString) -> Node {
    Global::find(&module, &name).map_or(Node::Foreign { module, name }, Node::Global)
}
