//! How long objects stay.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long an object stays where it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Until its last use: resolving its proxy, of which there is one, deletes it.
    Owned,
    /// Until this long after it was stored: then its [`Store`](crate::Store) deletes it, resolved or not.
    Leased(Duration),
    /// Until it is deleted by name, or its connector ends.
    Kept,
}

impl Lifetime {
    /// Why an object of this lifetime may be gone.
    pub(crate) fn end(self) -> String {
        match self {
            Self::Owned => "it was evicted before (was its proxy resolved twice?)".into(),
            Self::Leased(lease) => format!("its lease of {lease:?} has expired"),
            Self::Kept => "it was deleted by name".into(),
        }
    }
}
