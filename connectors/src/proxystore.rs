//! How Python's ProxyStore serialises bytes: a mark ahead of them, so that either side reads what the other stored.

use bytes::Bytes;

/// Stands ahead of an object that is plain bytes.
pub(crate) const PREFIX: &[u8; 3] = b"BS\n";

/// The object behind the prefix, without a copy; what is wrong where the prefix is missing.
pub(crate) fn strip_prefix(value: &Bytes) -> Result<Bytes, String> {
    if value.starts_with(PREFIX) {
        return Ok(value.slice(PREFIX.len()..));
    }
    let found = &value[..value.len().min(PREFIX.len())];
    Err(format!("expected ProxyStore's serialised bytes (`BS\\n` ahead), found `{}`", found.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_goes_and_nothing_else() {
        assert_eq!(strip_prefix(&Bytes::from_static(b"BS\nBS\nx")).unwrap(), "BS\nx");
        assert_eq!(strip_prefix(&Bytes::from_static(b"BS\n")).unwrap(), "");
    }

    #[test]
    fn another_serialisation_is_named() {
        assert!(strip_prefix(&Bytes::from_static(b"PK\n123")).unwrap_err().contains(r"PK\n"));
        strip_prefix(&Bytes::from_static(b"B")).unwrap_err();
    }
}
