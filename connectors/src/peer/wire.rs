//! What goes over a peer's socket. All numbers are little endian.
//!
//! ```text
//! client → server  hello    "PSBP" version:u8 secret:16                   once
//! server → client  verdict  u8                                            once
//! client → server  request  operation:u8 id:16                            any number, ahead of their answers if it likes
//! server → client  answer   found:u8 size:u64, then size bytes of object  one for each request, in order
//! ```

use uuid::Uuid;

use crate::Secret;

const MAGIC: [u8; 4] = *b"PSBP";
const VERSION: u8 = 1;

/// Bytes of a hello.
pub(super) const HELLO_LEN: usize = MAGIC.len() + 1 + 16;
/// Bytes of a request.
pub(super) const REQUEST_LEN: usize = 1 + 16;
/// Bytes of an answer, ahead of the object.
pub(super) const ANSWER_LEN: usize = 1 + 8;

/// What a server makes of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    Welcome = 0,
    WrongSecret = 1,
    WrongVersion = 2,
}

impl Verdict {
    pub(super) fn decode(byte: u8) -> Option<Self> {
        [Self::Welcome, Self::WrongSecret, Self::WrongVersion].into_iter().find(|verdict| *verdict as u8 == byte)
    }
}

pub(super) fn hello(secret: &Secret) -> [u8; HELLO_LEN] {
    let mut hello = [0; HELLO_LEN];
    hello[..4].copy_from_slice(&MAGIC);
    hello[4] = VERSION;
    hello[5..].copy_from_slice(&secret.0);
    hello
}

/// `None` for what is no hello at all, and deserves no answer.
pub(super) fn judge(hello: &[u8; HELLO_LEN], secret: &Secret) -> Option<Verdict> {
    let (magic, rest) = hello.split_first_chunk::<4>()?;
    let (version, offered) = rest.split_first()?;
    if *magic != MAGIC {
        None
    } else if *version != VERSION {
        Some(Verdict::WrongVersion)
    } else if equal_in_constant_time(offered, &secret.0) {
        Some(Verdict::Welcome)
    } else {
        Some(Verdict::WrongSecret)
    }
}

/// Compares all bytes whatever the first ones are, so that the time taken tells nothing about the secret.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    a.len() == b.len() && difference == 0
}

/// What may be asked about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Get = 1,
    Take = 2,
    Exists = 3,
    Evict = 4,
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
        let operations = [Operation::Get, Operation::Take, Operation::Exists, Operation::Evict];
        let operation = operations.into_iter().find(|operation| *operation as u8 == *first)?;
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

    #[test]
    fn hellos_are_judged() {
        let secret = Secret([7; 16]);
        let good = hello(&secret);
        assert_eq!(judge(&good, &secret), Some(Verdict::Welcome));
        assert_eq!(judge(&good, &Secret([8; 16])), Some(Verdict::WrongSecret));
        let mut other_version = good;
        other_version[4] += 1;
        assert_eq!(judge(&other_version, &secret), Some(Verdict::WrongVersion));
        assert_eq!(judge(b"GET / HTTP/1.1\r\nHost:", &secret), None);
        for verdict in [Verdict::Welcome, Verdict::WrongSecret, Verdict::WrongVersion] {
            assert_eq!(Verdict::decode(verdict as u8), Some(verdict));
        }
        assert_eq!(Verdict::decode(9), None);
    }

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
        fn every_request_and_answer_decodes(id: u128, size: u64, operation in 0_usize..4) {
            let operation = [Operation::Get, Operation::Take, Operation::Exists, Operation::Evict][operation];
            let request = Request { operation, id: Uuid::from_u128(id) };
            prop_assert_eq!(Request::decode(&request.encode()), Some(request));
            let answer = Answer { found: true, size };
            prop_assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }
}
