//! Records of TLS 1.3 (RFC 8446 §5), sealed and opened where they lie.
//!
//! A record is a header of 5 bytes and what it protects: up to 16 KiB of content, a byte that says of which type, a tag of 16 bytes. The
//! header is authenticated with it; records are numbered, so that none can be left out, repeated or moved.

use std::ops::Range;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

/// Bytes before what is protected.
pub(crate) const HEADER: usize = 5;
/// The most that a record holds.
pub(crate) const CONTENT: usize = 1 << 14;
/// Bytes after the content: its type and the tag.
pub(crate) const TRAILER: usize = 1 + TAG;
/// The longest record that is made here.
pub(crate) const RECORD: usize = HEADER + CONTENT + TRAILER;
/// The longest record that is taken: others may pad (§5.4).
pub(crate) const LONGEST: usize = HEADER + LONGEST_PROTECTED;
/// A record with a message that announces new keys.
pub(crate) const KEY_UPDATE_RECORD: usize = HEADER + KEY_UPDATE.len() + TRAILER;

const TAG: usize = 16;
const LONGEST_PROTECTED: usize = CONTENT + 256;

/// Types of content.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// The alert that ends a stream: of level "warning", `close_notify`.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// The message `key_update`, which asks for none in return.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// With AES-GCM a key is good for 2^24.5 records of full size (§5.5). That is not waited for.
const KEY_LIFETIME: u64 = 1 << 23;

/// Why a connection can't go on.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum RecordError {
    /// Not a record of TLS.
    #[error("what came is not TLS: type {kind}, version {version:#06x}, {len} bytes")]
    Header {
        /// Type of content.
        kind: u8,
        /// Of TLS.
        version: u16,
        /// Of what follows.
        len: usize,
    },
    /// Not sealed with the session's key, or not in its place.
    #[error("a record was tampered with")]
    Forged,
    /// Nothing that belongs on an established connection.
    #[error("a record of type {0} has no place here")]
    Unexpected(u8),
    /// The other side gave up.
    #[error("the other gateway gave the connection up: TLS alert {0}")]
    Alert(u8),
    /// The connection ended before its stream did.
    #[error("the connection ended in the middle of a stream")]
    Truncated,
    /// rustls has no keys.
    #[error("no key: {0}")]
    Key(#[from] rustls::Error),
}

impl From<RecordError> for std::io::Error {
    fn from(error: RecordError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// What came in a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// So many bytes of the stream.
    Data(usize),
    /// The end of the stream.
    End,
    /// Whatever follows is sealed with the next key. Whether the other side wants new ones for its own way too.
    KeyUpdate {
        /// It does.
        answer: bool,
    },
}

/// The length of the record at the front of these bytes, with its header; `None` if they don't tell yet.
///
/// # Errors
/// It can't be one.
pub(crate) fn record_len(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(&[kind, high, low, len @ ..]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let (version, len) = (u16::from_be_bytes([high, low]), usize::from(u16::from_be_bytes(len)));
    // Types 20 to 23; the version is 3.1 in a client's first record and 3.3 ever after (§5.1).
    let known = (20..=DATA).contains(&kind) && matches!(version, 0x0301 | 0x0303);
    if !known || len == 0 || len > LONGEST_PROTECTED {
        return Err(RecordError::Header { kind, version, len });
    }
    Ok(Some(HEADER + len))
}

/// The key of one way of a connection, and the number of the next record.
#[derive(Debug)]
struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    next: u64,
}

impl Key {
    fn new((next, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, RecordError> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err(rustls::Error::General("another cipher suite than the only one offered".into()).into());
        };
        Self::from_bytes(key.as_ref(), iv.as_ref(), next)
    }

    fn from_bytes(key: &[u8], iv: &[u8], next: u64) -> Result<Self, RecordError> {
        let wrong = || RecordError::Key(rustls::Error::General("a key of another length".into()));
        let key = UnboundKey::new(&AES_128_GCM, key).map_err(|_| wrong())?;
        let iv = iv.try_into().map_err(|_| wrong())?;
        Ok(Self { key: LessSafeKey::new(key), iv, next })
    }

    /// Of the next record (§5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.next.to_be_bytes()) {
            *byte ^= number;
        }
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals what goes out.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: Key,
    lifetime: u64,
}

impl Sealer {
    /// With the first key, and the number of the next record.
    pub(crate) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, RecordError> {
        Ok(Self { key: Key::new(secrets)?, lifetime: KEY_LIFETIME })
    }

    /// Takes a new key after so many records.
    #[cfg(test)]
    pub(crate) fn with_lifetime(mut self, records: u64) -> Self {
        self.lifetime = records;
        self
    }

    /// Seals bytes of the stream: the first `len` after a record's header, at most [`CONTENT`]. Says how long the record is.
    pub(crate) fn seal(&mut self, record: &mut [u8], len: usize) -> Result<usize, RecordError> {
        self.seal_as(DATA, record, len)
    }

    /// Makes a record that ends the stream.
    pub(crate) fn seal_end(&mut self, record: &mut [u8]) -> Result<usize, RecordError> {
        record[HEADER..][..CLOSE_NOTIFY.len()].copy_from_slice(&CLOSE_NOTIFY);
        self.seal_as(ALERT, record, CLOSE_NOTIFY.len())
    }

    /// Whether the key is to be replaced before this many more records.
    pub(crate) fn is_worn(&self, records: u64) -> bool {
        self.key.next.saturating_add(records) > self.lifetime
    }

    /// Makes the record, of [`KEY_UPDATE_RECORD`] bytes, that announces the next key, and uses that from then on.
    pub(crate) fn seal_key_update(
        &mut self,
        record: &mut [u8],
        next: (u64, ConnectionTrafficSecrets),
    ) -> Result<usize, RecordError> {
        record[HEADER..][..KEY_UPDATE.len()].copy_from_slice(&KEY_UPDATE);
        let sealed = self.seal_as(HANDSHAKE, record, KEY_UPDATE.len())?;
        self.key = Key::new(next)?;
        Ok(sealed)
    }

    pub(super) fn seal_as(&mut self, kind: u8, record: &mut [u8], len: usize) -> Result<usize, RecordError> {
        let total = HEADER + len + TRAILER;
        let (header, rest) = record[..total].split_at_mut(HEADER);
        let (content, tag) = rest.split_at_mut(len + 1);
        // The type is told only inside; the version is that of TLS 1.2, for whatever looks on (§5.2).
        let [high, low] = ((len + TRAILER) as u16).to_be_bytes();
        header.copy_from_slice(&[DATA, 3, 3, high, low]);
        content[len] = kind;
        let nonce = self.key.nonce();
        let sealed = self.key.key.seal_in_place_separate_tag(nonce, Aad::from(&header), content);
        tag.copy_from_slice(sealed.map_err(|_| RecordError::Forged)?.as_ref());
        Ok(total)
    }
}

/// Both ends of a connection whose key everybody knows.
pub(super) fn known_pair() -> Result<(Sealer, Opener), RecordError> {
    let key = || Key::from_bytes(&[0; 16], &[0; NONCE_LEN], 0);
    Ok((Sealer { key: key()?, lifetime: KEY_LIFETIME }, Opener { key: key()? }))
}

/// Opens what comes in.
#[derive(Debug)]
pub(crate) struct Opener {
    key: Key,
}

impl Opener {
    /// With the first key, and the number of the next record.
    pub(crate) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, RecordError> {
        Ok(Self { key: Key::new(secrets)? })
    }

    /// Uses the key that the other side announced.
    pub(crate) fn update(&mut self, next: (u64, ConnectionTrafficSecrets)) -> Result<(), RecordError> {
        self.key = Key::new(next)?;
        Ok(())
    }

    /// Opens the record at `record`; its content goes to `to` and what follows, which is not past the record's start. Deciphering moves the
    /// bytes anyway, so that the contents of several records come to lie side by side at no cost. `record` is as [`record_len`] says.
    pub(crate) fn open(&mut self, buffer: &mut [u8], to: usize, record: Range<usize>) -> Result<Content, RecordError> {
        let sealed = record.start + HEADER;
        let mut header = [0; HEADER];
        header.copy_from_slice(&buffer[record.start..sealed]);
        // The type of content that a protected record shows (§5.2).
        if header[0] != DATA {
            return Err(RecordError::Unexpected(header[0]));
        }
        let nonce = self.key.nonce();
        let place = &mut buffer[to..record.end];
        let opened = self.key.key.open_within(nonce, Aad::from(header), place, sealed - to..);
        let opened = opened.map_err(|_| RecordError::Forged)?;
        // Zeros after the type are padding (§5.4).
        let Some(last) = opened.iter().rposition(|byte| *byte != 0) else { return Err(RecordError::Unexpected(0)) };
        let (content, kind) = (&opened[..last], opened[last]);
        match (kind, content) {
            (DATA, data) if data.len() <= CONTENT => Ok(Content::Data(data.len())),
            (ALERT, [_, 0]) => Ok(Content::End),
            (ALERT, [_, alert]) => Err(RecordError::Alert(*alert)),
            (HANDSHAKE, [24, 0, 0, 1, answer @ (0 | 1)]) => Ok(Content::KeyUpdate { answer: *answer == 1 }),
            // Session tickets too: neither gateway hands any out.
            _ => Err(RecordError::Unexpected(kind)),
        }
    }
}
