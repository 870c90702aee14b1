//! Python's pickle, as far as ProxyStore's stream events need it, without running anything.
//!
//! A pickle is a program for a small stack machine, and Python's own reader calls whatever that program names. [`Document::read`]
//! takes any bytes and turns them into plain values or an error: it imports nothing, calls nothing, and knows four names
//! ([`Global`]); these, and all others, become data. What it may come to need in memory is bounded by [`MAX_OPCODES`], and long strings are slices of the input.
//!
//! The opcodes are those of CPython's `Lib/pickletools.py`, protocols 2 to 5.

mod document;
mod error;
mod opcode;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use self::document::{Document, MAX_SEARCHED, Object, Value};
pub use self::error::PickleError;
pub use self::reader::MAX_OPCODES;
pub use self::writer::{Pickle, Writer};

/// What a pickle may name that is known here: all else is a name and nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// The class `proxystore.store.config.StoreConfig`.
    StoreConfig,
    /// The class `proxystore.store.config.ConnectorConfig`.
    ConnectorConfig,
    /// The method that makes a `StoreConfig` of a dictionary.
    ValidateStoreConfig,
    /// The method that makes a `ConnectorConfig` of a dictionary.
    ValidateConnectorConfig,
}

/// Where all of them are.
const MODULE: &str = "proxystore.store.config";

impl Global {
    const ALL: [Self; 4] =
        [Self::StoreConfig, Self::ConnectorConfig, Self::ValidateStoreConfig, Self::ValidateConnectorConfig];

    /// Its name within its module.
    fn name(self) -> &'static str {
        match self {
            Self::StoreConfig => "StoreConfig",
            Self::ConnectorConfig => "ConnectorConfig",
            Self::ValidateStoreConfig => "StoreConfig.model_validate",
            Self::ValidateConnectorConfig => "ConnectorConfig.model_validate",
        }
    }

    fn find(module: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|global| module == MODULE && name == global.name())
    }
}
