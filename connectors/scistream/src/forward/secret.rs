//! What the gateways of one session know, and nobody else.

use std::fmt;

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use uuid::Uuid;

/// A session's secret, from which data servers derive their keys.
#[derive(Clone)]
pub struct Secret {
    bytes: Vec<u8>,
    guessable: bool,
}

/// Bytes of a random secret.
pub const SECRET_LEN: usize = 32;

impl Secret {
    /// A random one, which the user client handed to both gateways.
    pub fn random(bytes: [u8; SECRET_LEN]) -> Self {
        Self { bytes: bytes.into(), guessable: false }
    }

    /// Of what the gateways share with a user client that hands out none: the session's UUID.
    pub fn of(uid: Uuid) -> Self {
        Self { bytes: uid.as_bytes().into(), guessable: uid.get_version_num() != 4 && uid.get_version_num() != 7 }
    }

    /// Whether somebody who knows about when and where the session was made could find it out: UUIDs of version 1 are clock and host.
    pub fn is_guessable(&self) -> bool {
        self.guessable
    }

    /// The session's UUID, where nothing else is known.
    pub(crate) fn uid(&self) -> Option<Uuid> {
        Uuid::from_slice(&self.bytes).ok()
    }

    /// A key for this purpose alone: HKDF-SHA256 (RFC 5869).
    pub(crate) fn derive<const N: usize>(&self, purpose: &str) -> [u8; N] {
        struct Length(usize);
        impl KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let mut key = [0; N];
        let info = [purpose.as_bytes()];
        let derived = Salt::new(HKDF_SHA256, b"psbench scistream").extract(&self.bytes);
        if derived.expand(&info, Length(N)).and_then(|okm| okm.fill(&mut key)).is_err() {
            unreachable!("HKDF gives up to 255 times its hash's length");
        }
        key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_secret_and_purpose() {
        let secret = Secret::random([7; SECRET_LEN]);
        assert_eq!(secret.derive::<32>("a"), secret.clone().derive("a"));
        assert_ne!(secret.derive::<32>("a"), secret.derive("b"));
        assert_ne!(secret.derive::<32>("a"), Secret::random([8; SECRET_LEN]).derive("a"));
    }

    #[test]
    fn only_random_uuids_are_hard_to_guess() {
        assert!(!Secret::of(Uuid::new_v4()).is_guessable());
        assert!(Secret::of(Uuid::from_bytes([0, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])).is_guessable());
    }
}
