//! What is sent over a stripe: frames, each a header and, if it is one of data, so many bytes.

/// Bytes of a header: kind, position, length.
pub const HEADER: usize = 13;

/// The most that a frame carries, in bytes.
pub const LARGEST: usize = 256 << 10;

const DATA: u8 = 1;
const END: u8 = 2;

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// So many bytes of the stream, from this position on.
    Data {
        /// Of the first byte; the stream begins at 0.
        position: u64,
        /// 1 to [`LARGEST`].
        len: u32,
    },
    /// Nothing on this stripe: the stream is whole.
    End {
        /// The stream's length, in bytes.
        total: u64,
    },
}

/// What the other gateway should not have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such kind.
    #[error("a frame of kind {0}")]
    Kind(u8),
    /// Nothing, or too much.
    #[error("a frame of {0} bytes")]
    Length(u32),
    /// It is not where the stripe has got to, or past the end, or somebody else's.
    #[error("a frame out of place, at {0}")]
    Position(u64),
    /// Something after a stripe's end.
    #[error("a frame after the end")]
    AfterEnd,
    /// Stripes that don't agree on how long the stream is.
    #[error("two ends, or one before the last byte")]
    Ends,
    /// A stripe without an end.
    #[error("a stripe is lost")]
    Lost,
}

impl Header {
    /// In bytes.
    pub fn encode(self) -> [u8; HEADER] {
        let (kind, position, len) = match self {
            Self::Data { position, len } => (DATA, position, len),
            Self::End { total } => (END, total, 0),
        };
        let mut bytes = [0; HEADER];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&position.to_be_bytes());
        bytes[9..].copy_from_slice(&len.to_be_bytes());
        bytes
    }

    /// Of bytes.
    ///
    /// # Errors
    /// It is none, or says what can't be.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Self, FrameError> {
        let [kind, p0, p1, p2, p3, p4, p5, p6, p7, len @ ..] = *bytes;
        let position = u64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
        let len = u32::from_be_bytes(len);
        match kind {
            DATA if len == 0 || len as usize > LARGEST => Err(FrameError::Length(len)),
            DATA if position.checked_add(len.into()).is_none() => Err(FrameError::Position(position)),
            DATA => Ok(Self::Data { position, len }),
            END if len != 0 => Err(FrameError::Length(len)),
            END => Ok(Self::End { total: position }),
            kind => Err(FrameError::Kind(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_wire() {
        for header in [
            Header::Data { position: 0, len: 1 },
            Header::Data { position: u64::MAX - LARGEST as u64, len: LARGEST as u32 },
            Header::End { total: 0 },
            Header::End { total: u64::MAX },
        ] {
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let data = |position, len| Header::decode(&Header::Data { position, len }.encode());
        assert_eq!(data(0, 0), Err(FrameError::Length(0)));
        assert_eq!(data(0, LARGEST as u32 + 1), Err(FrameError::Length(LARGEST as u32 + 1)));
        assert_eq!(data(u64::MAX, 1), Err(FrameError::Position(u64::MAX)));
        assert_eq!(Header::decode(&[9; HEADER]), Err(FrameError::Kind(9)));
    }
}
