//! What goes over the socket of shared memory after the hello. All numbers are little endian.
//!
//! ```text
//! client → server  request  operation:u8 operand:16
//!                           get, take, exists, evict: an object's id
//!                           map, release: a lease:u64, then zeros
//! server → client  answer   kind:u8 size:u64 segment:u64 lease:u64, to all but map and release
//!                           absent, present: zeros
//!                           inline: size, zeros, then size bytes of object
//!                           segment: the object is the first size bytes of this segment
//! server → client  mapped   count:u32, then the numbers of all segments that may be met again, u64 each; answers map,
//!                           and has the leased segment's descriptor attached
//! ```

use uuid::Uuid;

use super::segments::MAX_SEGMENTS;

/// Bytes of a request.
pub(super) const REQUEST_LEN: usize = 1 + 16;
/// Bytes of an answer, ahead of the object.
pub(super) const ANSWER_LEN: usize = 1 + 8 + 8 + 8;
/// Bytes ahead of the segments' numbers.
pub(super) const MAPPED_LEN: usize = 4;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Get(Uuid),
    Take(Uuid),
    Exists(Uuid),
    Evict(Uuid),
    /// The descriptor of the segment that the lease is on.
    Map(u64),
    /// The end of a lease; the only request without an answer.
    Release(u64),
}

impl Request {
    pub(super) fn encode(self) -> [u8; REQUEST_LEN] {
        let (operation, operand) = match self {
            Self::Get(id) => (1, id.into_bytes()),
            Self::Take(id) => (2, id.into_bytes()),
            Self::Exists(id) => (3, id.into_bytes()),
            Self::Evict(id) => (4, id.into_bytes()),
            Self::Map(lease) => (5, u128::from(lease).to_le_bytes()),
            Self::Release(lease) => (6, u128::from(lease).to_le_bytes()),
        };
        let mut bytes = [operation; REQUEST_LEN];
        bytes[1..].copy_from_slice(&operand);
        bytes
    }

    /// `None` for what no client asks.
    pub(super) fn decode(bytes: &[u8; REQUEST_LEN]) -> Option<Self> {
        let (operation, operand) = bytes.split_first_chunk::<1>()?;
        let operand: [u8; 16] = operand.try_into().ok()?;
        let id = Uuid::from_bytes(operand);
        let lease = u64::try_from(u128::from_le_bytes(operand)).ok();
        match operation {
            [1] => Some(Self::Get(id)),
            [2] => Some(Self::Take(id)),
            [3] => Some(Self::Exists(id)),
            [4] => Some(Self::Evict(id)),
            [5] => lease.map(Self::Map),
            [6] => lease.map(Self::Release),
            _ => None,
        }
    }
}

/// What is said about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is no such object.
    Absent,
    /// There is, or there was until it was evicted by this.
    Present,
    /// It follows.
    Inline {
        /// Its bytes.
        size: u64,
    },
    /// It is in shared memory.
    Segment {
        /// Its bytes.
        size: u64,
        /// Where they are.
        segment: u64,
        /// What keeps them there.
        lease: u64,
    },
}

impl Answer {
    pub(super) fn encode(self) -> [u8; ANSWER_LEN] {
        let (kind, numbers) = match self {
            Self::Absent => (0, [0; 3]),
            Self::Present => (1, [0; 3]),
            Self::Inline { size } => (2, [size, 0, 0]),
            Self::Segment { size, segment, lease } => (3, [size, segment, lease]),
        };
        let mut bytes = [kind; ANSWER_LEN];
        bytes[1..].copy_from_slice(numbers.map(u64::to_le_bytes).as_flattened());
        bytes
    }

    /// `None` for what no server says.
    pub(super) fn decode(bytes: &[u8; ANSWER_LEN]) -> Option<Self> {
        let (kind, numbers) = bytes.split_first_chunk::<1>()?;
        let ([size, segment, lease], []) = numbers.as_chunks() else { return None };
        match (kind, [size, segment, lease].map(|number| u64::from_le_bytes(*number))) {
            ([0], [0, 0, 0]) => Some(Self::Absent),
            ([1], [0, 0, 0]) => Some(Self::Present),
            ([2], [size, 0, 0]) => Some(Self::Inline { size }),
            ([3], [size, segment, lease]) => Some(Self::Segment { size, segment, lease }),
            _ => None,
        }
    }
}

/// The answer to [`Request::Map`].
pub(super) fn encode_mapped(segments: &[u64]) -> Vec<u8> {
    // There are at most `MAX_SEGMENTS`.
    let count = segments.len() as u32;
    count.to_le_bytes().into_iter().chain(segments.iter().flat_map(|segment| segment.to_le_bytes())).collect()
}

/// How many bytes of segments' numbers follow; `None` for more than a server ever has.
pub(super) fn mapped_rest(head: [u8; MAPPED_LEN]) -> Option<usize> {
    let count = usize::try_from(u32::from_le_bytes(head)).ok()?;
    (count <= MAX_SEGMENTS).then_some(count * 8)
}

/// The segments' numbers.
pub(super) fn decode_segments(rest: &[u8]) -> Vec<u64> {
    rest.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same(
            mut request: [u8; REQUEST_LEN], mut answer: [u8; ANSWER_LEN], operation in 0_u8..9, kind in 0_u8..5,
        ) {
            (request[0], answer[0]) = (operation, kind);
            if let Some(decoded) = Request::decode(&request) {
                prop_assert_eq!(decoded.encode(), request);
            }
            if let Some(decoded) = Answer::decode(&answer) {
                prop_assert_eq!(decoded.encode(), answer);
            }
        }

        #[test]
        fn every_request_decodes(id: u128, lease: u64) {
            let id = Uuid::from_u128(id);
            let objects = [Request::Get, Request::Take, Request::Exists, Request::Evict].map(|request| request(id));
            for request in objects.into_iter().chain([Request::Map(lease), Request::Release(lease)]) {
                prop_assert_eq!(Request::decode(&request.encode()), Some(request));
            }
        }

        #[test]
        fn every_answer_decodes(size: u64, segment: u64, lease: u64) {
            let found = [Answer::Inline { size }, Answer::Segment { size, segment, lease }];
            for answer in found.into_iter().chain([Answer::Absent, Answer::Present]) {
                prop_assert_eq!(Answer::decode(&answer.encode()), Some(answer));
            }
        }

        #[test]
        fn segments_survive_the_wire(segments in prop::collection::vec(any::<u64>(), 0..=MAX_SEGMENTS)) {
            let bytes = encode_mapped(&segments);
            let (head, rest) = bytes.split_first_chunk().unwrap();
            prop_assert_eq!(mapped_rest(*head), Some(rest.len()));
            prop_assert_eq!(decode_segments(rest), segments);
        }
    }

    #[test]
    fn more_segments_than_there_can_be_are_refused() {
        assert_eq!(mapped_rest((MAX_SEGMENTS as u32 + 1).to_le_bytes()), None);
        assert_eq!(mapped_rest([0xff; 4]), None);
    }
}
