//! Shared memory: the only place in this crate with `unsafe`.
#![expect(
    unsafe_code,
    reason = "the compiler can't see who else maps the memory; seals and leases are what keeps it sound"
)]

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

use super::lease::Lease;

/// What a reader relies on: nobody cuts the memory short under its mapping, and nobody writes to it but through the mapping that its
/// maker has.
const NEEDED_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::FUTURE_WRITE);

/// Shared memory that this process made and may write to.
#[derive(Debug)]
pub(super) struct WriteMapping {
    fd: OwnedFd,
    memory: MmapMut,
}

impl WriteMapping {
    /// Makes `len` bytes of shared memory. All pages are touched at once, which is faster than by the first copy, one by one.
    pub(super) fn create(len: u64) -> io::Result<Self> {
        let fd = memfd_create("psbench-shm", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, len)?;
        let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        // SAFETY: nobody else has the file, which has `len` bytes. Before anyone gets it, the seals below keep it from shrinking and
        // from being written to by others. Readers never write; so what `self` borrows out changes through `self` alone.
        let memory = unsafe { MmapOptions::new().len(len).populate().map_mut(&fd) }?;
        fcntl_add_seals(&fd, NEEDED_SEALS | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { fd, memory })
    }

    /// What readers map.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl AsRef<[u8]> for WriteMapping {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl AsMut<[u8]> for WriteMapping {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

/// Another process's shared memory. What is in it changes, so nothing can be read here: see [`LeasedObject`].
#[derive(Debug)]
pub(super) struct ReadMapping(Mmap);

impl ReadMapping {
    /// Maps all of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidData`] for what is not sealed as it must be.
    pub(super) fn open(fd: impl AsFd) -> io::Result<Self> {
        let unfit = |what: &str| io::Error::new(ErrorKind::InvalidData, format!("the segment is {what}"));
        let seals = fcntl_get_seals(&fd).map_err(|_| unfit("not shared memory"))?;
        if !seals.contains(NEEDED_SEALS) {
            return Err(unfit("not sealed"));
        }
        let len = usize::try_from(fstat(&fd)?.st_size).map_err(|_| unfit("too large"))?;
        // SAFETY: the file has `len` bytes and is sealed against shrinking, so that all of the mapping stays valid. Nothing reads
        // it but `LeasedObject::as_ref`, which says why its part does not change.
        let memory = unsafe { MmapOptions::new().len(len).map(&fd.as_fd()) }?;
        Ok(Self(memory))
    }
}

/// The object at the start of a segment, with the lease that keeps it there.
pub(super) struct LeasedObject {
    // Dropped in this order: the mapping goes, or stays for others, after nothing here reads it any more.
    mapping: Arc<ReadMapping>,
    len: usize,
    /// As long as it lives the server, which alone can write to the segment, does not.
    _lease: Lease,
}

impl LeasedObject {
    /// `None` where the segment has less than `len` bytes. The lease must be on the object in this segment.
    pub(super) fn new(mapping: Arc<ReadMapping>, len: u64, lease: Lease) -> Option<Self> {
        let len = usize::try_from(len).ok().filter(|len| *len <= mapping.0.len())?;
        Some(Self { mapping, len, _lease: lease })
    }
}

impl AsRef<[u8]> for LeasedObject {
    fn as_ref(&self) -> &[u8] {
        &self.mapping.0[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::{Errno, pwrite};

    use super::*;

    #[test]
    fn what_is_written_is_seen_by_whoever_maps_it() {
        let mut ours = WriteMapping::create(8192).unwrap();
        let theirs = ReadMapping::open(ours.fd()).unwrap();
        ours.as_mut()[8191] = 7;
        assert_eq!((theirs.0.len(), theirs.0[8191]), (8192, 7));
        drop(ours);
        assert_eq!(theirs.0[8191], 7, "a mapping outlives the process that made it");
    }

    #[test]
    fn others_can_neither_write_nor_shrink() {
        let ours = WriteMapping::create(4096).unwrap();
        assert_eq!(ftruncate(ours.fd(), 0).unwrap_err(), Errno::PERM);
        assert_eq!(pwrite(ours.fd(), b"x", 0).unwrap_err(), Errno::PERM);
    }

    #[test]
    fn what_could_shrink_is_not_mapped() {
        let unsealed = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, 4096).unwrap();
        assert!(ReadMapping::open(&unsealed).unwrap_err().to_string().contains("not sealed"));
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert_eq!(ReadMapping::open(&file).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
