//! The server's objects, and the answers to requests for them.

use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Once};

use bytes::Bytes;
use rustix::io::Errno;
use uuid::Uuid;

use super::PROTOCOL;
use super::leases::{Leases, Lessee};
use super::segments::{Loan, SegmentPool};
use super::wire::{Answer, REQUEST_LEN, Request, encode_mapped};
use crate::Key;
use crate::net::{Protocol, Service, Socket};
use crate::object_map::{Object, ObjectMap};

/// Objects with fewer bytes go over the socket: up to here both ways were measured to take the same time, at twice the size shared
/// memory is 1.5 times as fast.
const INLINE_BELOW: usize = 32 << 10;
/// Bytes of requests read at once.
const REQUEST_BUFFER: usize = 64 * REQUEST_LEN;

/// Where an object's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    /// Where whoever stored it had them.
    Inline(Bytes),
    /// In shared memory.
    Shared(Arc<Loan>),
}

impl Object for Stored {
    fn size(&self) -> u64 {
        let len = match self {
            Self::Inline(object) => object.len(),
            Self::Shared(loan) => (**loan).as_ref().len(),
        };
        len as u64
    }
}

/// For readers in the server's own process, who need neither a mapping nor a lease of their own.
impl From<Stored> for Bytes {
    fn from(stored: Stored) -> Self {
        struct Owner(Arc<Loan>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                (*self.0).as_ref()
            }
        }
        match stored {
            Stored::Inline(object) => object,
            Stored::Shared(loan) => Self::from_owner(Owner(loan)),
        }
    }
}

/// What the threads of a server share.
#[derive(Debug)]
pub(super) struct SharedObjects {
    pub(super) objects: ObjectMap<Stored>,
    segments: Arc<SegmentPool>,
    leases: Leases,
    /// Called when a segment could not be made for the first time.
    shortage: Once,
}

impl SharedObjects {
    /// Keeps as many bytes of spare segments as the map holds objects.
    pub(super) fn new(objects: ObjectMap<Stored>) -> Self {
        let segments = SegmentPool::new(objects.limit());
        Self { objects, segments, leases: Leases::default(), shortage: Once::new() }
    }

    /// Puts the object where readers will find it.
    pub(super) fn share(&self, object: Bytes) -> io::Result<Stored> {
        if object.len() < INLINE_BELOW {
            return Ok(Stored::Inline(object));
        }
        let loan = match self.segments.lend(&object) {
            Err(error) if is_shortage(&error) => {
                self.shortage.call_once(|| {
                    tracing::warn!(
                        "{}: no more shared memory ({error}): objects go over the socket, which is slower; raise the limit on \
                         open files (`ulimit -n`) or on memory",
                        PROTOCOL.name
                    );
                });
                None
            }
            lent => lent?,
        };
        Ok(loan.map_or(Stored::Inline(object), |loan| Stored::Shared(Arc::new(loan))))
    }

    fn perform(&self, request: Request, lessee: &Lessee<'_>, socket: &Socket) -> io::Result<()> {
        let present = |present| if present { Answer::Present } else { Answer::Absent };
        let answer = match request {
            Request::Get(id) => return answer_with(self.objects.get(&Key::named(id)), lessee, socket),
            Request::Take(id) => return answer_with(self.objects.take(&Key::named(id)), lessee, socket),
            Request::Exists(id) => present(self.objects.contains(&Key::named(id))),
            Request::Evict(id) => present(self.evict(id)),
            Request::Map(lease) => {
                let loan = self.leases.loan(lease).ok_or(ErrorKind::InvalidData)?;
                let fd = loan.fd().ok_or(ErrorKind::InvalidData)?;
                return socket.send_with_descriptor(&encode_mapped(&self.segments.live()), fd.as_fd());
            }
            Request::Release(lease) => {
                self.leases.release(lease);
                return Ok(());
            }
        };
        socket.send(&mut [IoSlice::new(&answer.encode())])
    }

    fn evict(&self, id: Uuid) -> bool {
        self.objects.take(&Key::named(id)).is_some()
    }
}

/// Whether descriptors or memory ran out, which the next object may find otherwise.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

fn answer_with(stored: Option<Stored>, lessee: &Lessee<'_>, socket: &Socket) -> io::Result<()> {
    let Some(stored) = stored else {
        return socket.send(&mut [IoSlice::new(&Answer::Absent.encode())]);
    };
    let size = stored.size();
    if let Stored::Shared(loan) = &stored
        && let Some(lease) = lessee.lease(loan)
    {
        let answer = Answer::Segment { size, segment: loan.number(), lease };
        return socket.send(&mut [IoSlice::new(&answer.encode())]);
    }
    let object = Bytes::from(stored);
    socket.send(&mut [IoSlice::new(&Answer::Inline { size }.encode()), IoSlice::new(&object)])
}

impl Service for SharedObjects {
    const PROTOCOL: Protocol = PROTOCOL;

    fn serve(&self, socket: &Socket) -> io::Result<()> {
        let lessee = self.leases.connection();
        let mut requests = BufReader::with_capacity(REQUEST_BUFFER, socket);
        while !requests.fill_buf()?.is_empty() {
            let mut request = [0; REQUEST_LEN];
            requests.read_exact(&mut request)?;
            let request = Request::decode(&request).ok_or(ErrorKind::InvalidData)?;
            self.perform(request, &lessee, socket)?;
        }
        Ok(())
    }
}
