//! Why bytes are no pickle, or not one that is read here.

use super::MAX_OPCODES;

/// Bytes that can't be read. Positions are bytes from the pickle's start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// The bytes end amid something.
    #[error("the pickle ends at byte {at}, before it is complete")]
    Truncated {
        /// Where more was expected.
        at: usize,
    },
    /// Something that this reader does not do.
    #[error("opcode 0x{opcode:02x} at byte {at} is none that a ProxyStore event is written with")]
    Opcode {
        /// The opcode.
        opcode: u8,
        /// Its place.
        at: usize,
    },
    /// It makes no sense.
    #[error("a malformed pickle: {what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Its place.
        at: usize,
    },
    /// It is longer than any event.
    #[error("a pickle of more than {MAX_OPCODES} opcodes; send smaller batches")]
    TooLong,
}
