//! Answers requests for objects.

use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read};

use bytes::Bytes;

use super::PROTOCOL;
use super::loans::{Loan, Loans};
use super::wire::{ANSWER_LEN, Answer, Operation, REQUEST_LEN, Request};
use crate::Key;
use crate::net::{Protocol, Service, Socket};
use crate::object_map::ObjectMap;

/// Bytes of requests read at once: pipelined ones are answered together.
const REQUEST_BUFFER: usize = 256 * REQUEST_LEN;

/// Objects, and where they are on their way to.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) objects: ObjectMap,
    pub(super) loans: Loans,
}

impl Service for Served {
    const PROTOCOL: Protocol = PROTOCOL;

    fn serve(&self, socket: &Socket) -> io::Result<()> {
        let mut requests = BufReader::with_capacity(REQUEST_BUFFER, socket);
        let mut heads = Vec::with_capacity(REQUEST_BUFFER / REQUEST_LEN * ANSWER_LEN);
        let mut loan = self.loans.none();
        while !requests.fill_buf()?.is_empty() {
            let mut request = [0; REQUEST_LEN];
            requests.read_exact(&mut request)?;
            let request = Request::decode(&request).ok_or(ErrorKind::InvalidData)?;
            let Done { answer, object } = perform(&self.objects, &mut loan, request);
            heads.extend(answer.iter().flat_map(|answer| answer.encode()));
            // Answers without an object wait for each other while the next request is here.
            if object.is_some() || (requests.buffer().len() < REQUEST_LEN && !heads.is_empty()) {
                let object = object.unwrap_or_default();
                socket.send(&mut [IoSlice::new(&heads), IoSlice::new(&object)])?;
                heads.clear();
            }
        }
        Ok(())
    }
}

/// What became of a request.
struct Done {
    answer: Option<Answer>,
    object: Option<Bytes>,
}

fn perform(objects: &ObjectMap, loan: &mut Loan<'_>, request: Request) -> Done {
    let key = Key::named(request.id);
    let object = match request.operation {
        Operation::Get => objects.get(&key),
        Operation::Take => objects.take(&key),
        Operation::Lend => objects.get(&key).inspect(|_| loan.lend(key.id)),
        Operation::Exists => return Done::told(objects.contains(&key)),
        Operation::Evict => return Done::told(objects.take(&key).is_some()),
        Operation::Confirm => {
            objects.take(&key);
            loan.confirm(key.id);
            return Done { answer: None, object: None };
        }
    };
    let size = object.as_ref().map_or(0, |object| object.len() as u64);
    Done { answer: Some(Answer { found: object.is_some(), size }), object }
}

impl Done {
    fn told(found: bool) -> Self {
        Self { answer: Some(Answer { found, size: 0 }), object: None }
    }
}
