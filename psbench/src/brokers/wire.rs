//! psbench's own form of a message where a broker carries one string of bytes: the head's length (`u32`, little-endian), the head, the payload.

use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

use super::Message;

/// Bytes ahead of the head.
const LENGTH: usize = size_of::<u32>();

/// The largest head: it holds metadata, never data.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// What stands ahead of the head.
pub(super) fn prefix(message: &Message) -> [u8; LENGTH] {
    // Heads are some dozen bytes; one past 4 GiB would be refused by the reader, not misread.
    u32::try_from(message.head.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// A message in parts, in order.
pub(super) fn parts<'a>(prefix: &'a [u8; LENGTH], message: &'a Message) -> [&'a [u8]; 3] {
    [prefix, &message.head, &message.payload]
}

/// The parts of a message, without copying.
pub(super) fn split(mut bytes: Bytes) -> Result<Message, String> {
    let length = bytes.len();
    let head = bytes.try_get_u32_le().map_or(usize::MAX, |head| head as usize);
    if head > MAX_HEAD || head > bytes.len() {
        return Err(format!("a message of {length} bytes that is not psbench's; give this run a topic of its own"));
    }
    Ok(Message { head: bytes.split_to(head), payload: bytes })
}

/// Writes all parts, in order, with as few system calls as the writer allows.
pub(super) fn write_all_vectored(writer: &mut impl Write, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Also skips empty parts at the front, which would look like the end of the stream.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match writer.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut parts, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_come_apart_as_they_were_joined(head in prop::collection::vec(any::<u8>(), 0..100), payload in prop::collection::vec(any::<u8>(), 0..1000)) {
            let message = Message { head: head.into(), payload: payload.into() };
            let joined = [&prefix(&message)[..], &message.head, &message.payload].concat();
            prop_assert_eq!(split(joined.into()), Ok(message));
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let length = bytes.len() as u64;
            if let Ok(message) = split(bytes.into()) {
                prop_assert_eq!(message.len() + LENGTH as u64, length);
            }
        }
    }
}
