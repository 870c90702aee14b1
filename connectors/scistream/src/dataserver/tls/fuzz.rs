//! For a fuzzer: what comes in, by somebody who has the key.

use std::task::Poll;

use super::handshake::Keys;
use super::inbox::Inbox;
use super::record::{CONTENT, HEADER, RECORD, known_pair};

/// Makes what comes in of a fuzzer's bytes, and has it read. Parts of it are sealed with a key that is known here, since nothing else gets
/// past the check of a record's seal: each has a byte that says of which type, two that say how long, and its content; of type 0 they are
/// not sealed at all. The first byte says how much is read at a time.
///
/// # Panics
/// Something comes out that was not put in.
pub fn read_records(bytes: &[u8]) {
    let (Some((step, mut rest)), Ok((mut sealer, opener))) = (bytes.split_first(), known_pair()) else { return };
    let (mut wire, mut stream) = (Vec::new(), Vec::new());
    while let [kind, high, low, more @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(more.len()).min(CONTENT);
        let (content, after) = more.split_at(len);
        rest = after;
        stream.extend_from_slice(content);
        if *kind == 0 {
            wire.extend_from_slice(content);
            continue;
        }
        let mut record = vec![0; RECORD];
        record[HEADER..][..len].copy_from_slice(content);
        let Ok(sealed) = sealer.seal_as(*kind, &mut record, len) else { return };
        wire.extend_from_slice(&record[..sealed]);
    }
    let (mut inbox, mut wire, mut heard) = (Inbox::new(opener, 2, &[]), &wire[..], 0);
    while let Ok(opened) = inbox.open(&Keys::none()) {
        assert!(inbox.unsent().len() == opened.len && heard + opened.len <= stream.len());
        heard += opened.len;
        inbox.sent(opened.len);
        if opened.ended || wire.is_empty() {
            return;
        }
        let filled = inbox.fill(1 + usize::from(*step) * 100, |space| {
            let len = space.len().min(wire.len());
            space[..len].copy_from_slice(&wire[..len]);
            wire = &wire[len..];
            Poll::Ready(Ok(len))
        });
        assert!(matches!(filled, Poll::Ready(Ok(1..))));
    }
}
