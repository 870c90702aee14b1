//! What psbench shares with Python's ProxyStore: how objects are marked, and the events of its streams.

pub mod event;
pub mod pickle;

use bytes::Bytes;

/// Stands ahead of an object that is plain bytes.
pub(crate) const PREFIX: &[u8; MARK] = b"BS\n";

/// Stands ahead of a pickled object, as an event is.
const PICKLED: &[u8; MARK] = b"PK\n";

/// Length of the marks.
const MARK: usize = 3;

/// The marks of ProxyStore's serialisations: bytes, str, NumPy, pandas, polars, pickle, cloudpickle.
const MARKS: [&[u8; MARK]; 7] = [PREFIX, b"US\n", b"NP\n", b"PD\n", b"PL\n", PICKLED, b"CP\n"];

/// The object behind its mark, without a copy; what is wrong where there is none. What is no plain bytes stays serialised.
pub(crate) fn strip_prefix(value: &Bytes) -> Result<Bytes, String> {
    if value.first_chunk().is_some_and(|mark| MARKS.contains(&mark)) {
        return Ok(value.slice(MARK..));
    }
    let found = &value[..value.len().min(MARK)];
    Err(format!(
        "expected an object that ProxyStore serialised (`BS\\n` or another of its marks ahead), found `{}`",
        found.escape_ascii()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_goes_and_nothing_else() {
        assert_eq!(strip_prefix(&Bytes::from_static(b"BS\nBS\nx")).unwrap(), "BS\nx");
        assert_eq!(strip_prefix(&Bytes::from_static(b"BS\n")).unwrap(), "");
        assert_eq!(strip_prefix(&Bytes::from_static(b"NP\n\x93NUMPY")).unwrap(), &b"\x93NUMPY"[..]);
    }

    #[test]
    fn what_has_no_mark_is_shown() {
        assert!(strip_prefix(&Bytes::from_static(b"XY\n123")).unwrap_err().contains(r"XY\n"));
        strip_prefix(&Bytes::from_static(b"B")).unwrap_err();
    }
}
