//! What goes over a peer's socket after the hello. All numbers are little endian.
//!
//! ```text
//! client → server  request  operation:u8 id:16                            any number, ahead of their answers if it likes
//! server → client  answer   found:u8 size:u64, then size bytes of object  one for each request but confirm, in order
//! ```
//!
//! An object that was asked for by lend stays until it is confirmed: one that a connection lost on its way is there for another.

use uuid::Uuid;

/// Bytes of a request.
pub(super) const REQUEST_LEN: usize = 1 + 16;
/// Bytes of an answer, ahead of the object.
pub(super) const ANSWER_LEN: usize = 1 + 8;

/// What may be asked about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Get = 1,
    Take = 2,
    Exists = 3,
    Evict = 4,
    Lend = 5,
    Confirm = 6,
}

impl Operation {
    const ALL: [Self; 6] = [Self::Get, Self::Take, Self::Exists, Self::Evict, Self::Lend, Self::Confirm];
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) id: Uuid,
}

impl Request {
    pub(super) fn encode(self) -> [u8; REQUEST_LEN] {
        let mut bytes = [self.operation as u8; REQUEST_LEN];
        bytes[1..].copy_from_slice(self.id.as_bytes());
        bytes
    }

    /// `None` for an operation that this version does not know.
    pub(super) fn decode(bytes: &[u8; REQUEST_LEN]) -> Option<Self> {
        let (first, id) = bytes.split_first()?;
        let operation = Operation::ALL.into_iter().find(|operation| *operation as u8 == *first)?;
        Some(Self { operation, id: Uuid::from_slice(id).ok()? })
    }
}

/// What goes ahead of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether there was such an object.
    pub(super) found: bool,
    /// Bytes of the object that follow.
    pub(super) size: u64,
}

impl Answer {
    pub(super) fn encode(self) -> [u8; ANSWER_LEN] {
        let mut bytes = [u8::from(self.found); ANSWER_LEN];
        bytes[1..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    /// `None` for what no server says.
    pub(super) fn decode(bytes: &[u8; ANSWER_LEN]) -> Option<Self> {
        let (found, size) = bytes.split_first()?;
        let size = u64::from_le_bytes(size.try_into().ok()?);
        match found {
            0 if size == 0 => Some(Self { found: false, size }),
            1 => Some(Self { found: true, size }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same(request: [u8; REQUEST_LEN], answer: [u8; ANSWER_LEN]) {
            if let Some(decoded) = Request::decode(&request) {
                prop_assert_eq!(decoded.encode(), request);
            }
            if let Some(decoded) = Answer::decode(&answer) {
                prop_assert_eq!(decoded.encode(), answer);
            }
        }

        #[test]
        fn every_request_and_answer_decodes(id: u128, size: u64, operation in proptest::sample::select(&Operation::ALL[..])) {
            let request = Request { operation, id: Uuid::from_u128(id) };
            prop_assert_eq!(Request::decode(&request.encode()), Some(request));
            let answer = Answer { found: true, size };
            prop_assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }
}
