//! Answers requests for objects.

use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read};

use bytes::Bytes;

use super::PROTOCOL;
use super::wire::{ANSWER_LEN, Answer, Operation, REQUEST_LEN, Request};
use crate::Key;
use crate::net::{Protocol, Service, Socket};
use crate::object_map::ObjectMap;

/// Bytes of requests read at once: pipelined ones are answered together.
const REQUEST_BUFFER: usize = 256 * REQUEST_LEN;

impl Service for ObjectMap {
    const PROTOCOL: Protocol = PROTOCOL;

    fn serve(&self, socket: &Socket) -> io::Result<()> {
        let mut requests = BufReader::with_capacity(REQUEST_BUFFER, socket);
        let mut heads = Vec::with_capacity(REQUEST_BUFFER / REQUEST_LEN * ANSWER_LEN);
        while !requests.fill_buf()?.is_empty() {
            let mut request = [0; REQUEST_LEN];
            requests.read_exact(&mut request)?;
            let request = Request::decode(&request).ok_or(ErrorKind::InvalidData)?;
            let (answer, object) = perform(self, request);
            heads.extend_from_slice(&answer.encode());
            // Answers without an object wait for each other while the next request is here.
            if object.is_some() || requests.buffer().len() < REQUEST_LEN {
                let object = object.unwrap_or_default();
                socket.send(&mut [IoSlice::new(&heads), IoSlice::new(&object)])?;
                heads.clear();
            }
        }
        Ok(())
    }
}

fn perform(objects: &ObjectMap, request: Request) -> (Answer, Option<Bytes>) {
    let key = Key::named(request.id);
    let object = match request.operation {
        Operation::Get => objects.get(&key),
        Operation::Take => objects.take(&key),
        Operation::Exists => {
            return (Answer { found: objects.contains(&key), size: 0 }, None);
        }
        Operation::Evict => {
            return (Answer { found: objects.take(&key).is_some(), size: 0 }, None);
        }
    };
    (Answer { found: object.is_some(), size: object.as_ref().map_or(0, |object| object.len() as u64) }, object)
}
