//! Where nobody is.

/// An address of this host at which nothing listens: the port has been out of use for decades, and only root could take it.
pub(crate) const NOBODY: &str = "127.0.0.1:1";
