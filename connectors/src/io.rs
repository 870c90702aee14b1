//! Reads and writes of whole objects, without copies or zeroed buffers.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::{read, retry_on_intr};

/// Reads exactly `len` bytes into memory of just that size, in as many calls as it takes: Linux moves at most 0x7fff_f000 bytes
/// with each.
pub(crate) fn read_full(fd: impl AsFd, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    while buffer.len() < len {
        if retry_on_intr(|| read(&fd, spare_capacity(&mut buffer)))? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{} of {len} bytes came", buffer.len())));
        }
    }
    // The allocator may have given more room than was asked for.
    if buffer.len() > len {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("more than {len} bytes came")));
    }
    Ok(buffer)
}

/// Writes all of `parts` with `write` (`writev` or `sendmsg`), which may write less than it is given.
pub(crate) fn write_full(
    mut parts: &mut [IoSlice<'_>],
    mut write: impl FnMut(&[IoSlice<'_>]) -> rustix::io::Result<usize>,
) -> io::Result<()> {
    // Drops empty parts ahead, for which `write` would rightly report 0.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match retry_on_intr(|| write(parts))? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut parts, written),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_writes_are_continued() {
        let mut written = Vec::new();
        let mut parts = [b"" as &[u8], b"abc", b"", b"defg"].map(IoSlice::new);
        write_full(&mut parts, |parts| {
            let first = parts.iter().find(|part| !part.is_empty()).unwrap();
            let len = first.len().min(2);
            written.extend_from_slice(&first[..len]);
            Ok(len)
        })
        .unwrap();
        assert_eq!(written, b"abcdefg");
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"abc").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        assert_eq!(read_full(&file, 4).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_absurd_size_is_an_error_not_an_abort() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read_full(&file, usize::MAX).unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
}
