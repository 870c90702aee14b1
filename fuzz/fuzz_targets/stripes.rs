//! Any bytes on any stripes are the same stream, however they are cut, or an error; what is held is bounded.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scistream::dataserver::stripes::order::{Order, Stripe};
use scistream::dataserver::stripes::preamble::{self, Preamble};
use scistream::dataserver::{SECRET_LEN, Secret};

const STRIPES: usize = 4;
const MOST: usize = 4096;
const LARGEST: usize = 256 << 10;

static KEY: LazyLock<ring::hmac::Key> = LazyLock::new(|| preamble::key(&Secret::random([7; SECRET_LEN])));

fuzz_target!(|input: &[u8]| {
    if let Some(bytes) = input.first_chunk() {
        assert!(Preamble::decode(bytes, &KEY).is_err(), "nobody guesses a tag");
    }
    let mut order = Order::new(MOST);
    let mut stripes: [Stripe; STRIPES] = Default::default();
    let mut input = input;
    // A byte says which stripe and how much of the rest comes over it.
    while let Some((&step, rest)) = input.split_first() {
        let stripe = &mut stripes[usize::from(step) % STRIPES];
        let wanted = stripe.wants(&order).min(usize::from(step) / STRIPES).min(rest.len());
        let (now, later) = rest.split_at(wanted);
        stripe.buffer.extend_from_slice(now);
        if stripe.take(&mut order).is_err() {
            return;
        }
        assert!(order.held() <= MOST + LARGEST + 128 * 1024, "{}", order.held());
        let ready: usize = order.ready().iter().map(|piece| piece.len()).sum();
        assert!(order.ready().iter().all(|piece| !piece.is_empty()));
        if step & 1 == 0 {
            order.consume(ready / 2 + 1);
        }
        input = later;
    }
});
