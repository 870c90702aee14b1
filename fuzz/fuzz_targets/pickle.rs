//! Any bytes are a batch of events or an error, and reading all there is in a batch ends.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use psbench_connectors::proxystore::event::{Batch, Event};
use psbench_connectors::proxystore::pickle::{Document, Value};

fuzz_target!(|pickle: &[u8]| {
    let _ = Document::read(Bytes::copy_from_slice(pickle));
    let message = Bytes::from([b"PK\n", pickle].concat());
    let Ok(batch) = Batch::read(&message) else { return };
    for event in batch.events().flatten() {
        if let Event::Object { metadata: Some(metadata), .. } = event {
            let _ = metadata.get("psbench.sequence").and_then(Value::as_int);
        }
    }
});
