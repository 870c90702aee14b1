//! What each connection of a stream begins with.

use ring::hmac::{HMAC_SHA256, Key, Tag, sign, verify};

use crate::forward::{MOST_STRIPES, Secret};

const MAGIC: [u8; 4] = *b"PSBS";
const VERSION: u8 = 1;
const TAG_LEN: usize = 32;
const SIGNED: usize = MAGIC.len() + 1 + 16 + 2;

/// Bytes of a preamble.
pub const LEN: usize = SIGNED + TAG_LEN;

/// The most connections that one stream may have.
pub const MOST: u8 = MOST_STRIPES as u8;

/// Which connection of which stream it is: magic, version, stream, index, count, and an HMAC-SHA256 of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Random, of the stream.
    pub stream: [u8; 16],
    /// From 0.
    pub index: u8,
    /// Of connections, up to [`MOST`].
    pub count: u8,
}

/// Why a connection is none of a stream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreambleError {
    /// Somebody who speaks something else.
    #[error("not a stripe of a stream: is `stripes` the same at both gateways?")]
    Foreign,
    /// Another version of this.
    #[error("stripes of version {0}; this gateway speaks version 1")]
    Version(u8),
    /// It was not made with the session's secret.
    #[error("a stripe that does not know the session's secret")]
    Forged,
    /// What the other gateway should not have sent.
    #[error("stripe {0} of {1}")]
    Count(u8, u8),
}

/// The key of a session's preambles.
pub fn key(secret: &Secret) -> Key {
    Key::new(HMAC_SHA256, &secret.derive::<32>("stripes"))
}

impl Preamble {
    /// In bytes.
    pub fn encode(&self, key: &Key) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let (signed, tag) = bytes.split_at_mut(SIGNED);
        signed[..4].copy_from_slice(&MAGIC);
        signed[4] = VERSION;
        signed[5..21].copy_from_slice(&self.stream);
        signed[21] = self.index;
        signed[22] = self.count;
        let made: Tag = sign(key, signed);
        tag.copy_from_slice(made.as_ref());
        bytes
    }

    /// Of bytes. The comparison of tags takes as long whether they agree or not.
    ///
    /// # Errors
    /// Nobody who has the key made it, or made it for this.
    pub fn decode(bytes: &[u8; LEN], key: &Key) -> Result<Self, PreambleError> {
        let (signed, tag) = bytes.split_at(SIGNED);
        if signed[..4] != MAGIC {
            return Err(PreambleError::Foreign);
        }
        if signed[4] != VERSION {
            return Err(PreambleError::Version(signed[4]));
        }
        verify(key, signed, tag).map_err(|_| PreambleError::Forged)?;
        let mut stream = [0; 16];
        stream.copy_from_slice(&signed[5..21]);
        let (index, count) = (signed[21], signed[22]);
        if index >= count || !(2..=MOST).contains(&count) {
            return Err(PreambleError::Count(index, count));
        }
        Ok(Self { stream, index, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::SECRET_LEN;

    #[test]
    fn only_whoever_knows_the_secret_makes_preambles() {
        let ours = key(&Secret::random([1; SECRET_LEN]));
        let preamble = Preamble { stream: [7; 16], index: 3, count: 4 };
        let bytes = preamble.encode(&ours);
        assert_eq!(Preamble::decode(&bytes, &ours), Ok(preamble));
        let theirs = key(&Secret::random([2; SECRET_LEN]));
        assert_eq!(Preamble::decode(&bytes, &theirs), Err(PreambleError::Forged));
        for at in 0..LEN {
            let mut changed = bytes;
            changed[at] ^= 1;
            Preamble::decode(&changed, &ours).unwrap_err();
        }
    }

    #[test]
    fn counts_without_sense_are_refused() {
        let key = key(&Secret::random([1; SECRET_LEN]));
        for (index, count) in [(0, 0), (0, 1), (2, 2), (0, 33), (255, 255)] {
            let bytes = Preamble { stream: [0; 16], index, count }.encode(&key);
            assert_eq!(Preamble::decode(&bytes, &key), Err(PreambleError::Count(index, count)));
        }
    }
}
