//! Any text is a word of SciStream's or an error, and what is one stays one.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use scistream::control::PortMap;
use scistream::dataserver::{DataServerType, Target};
use scistream::{Listener, Role};

fn word<W: FromStr + Display>(text: &str) -> Option<W> {
    let word: W = text.parse().ok()?;
    let again = word.to_string();
    let same: Option<W> = again.parse().ok();
    assert_eq!(same.map(|same| same.to_string()).as_deref(), Some(&*again), "{text:?}");
    Some(word)
}

fuzz_target!(|text: &str| {
    word::<Role>(text);
    word::<Listener>(text);
    word::<DataServerType>(text);
    if let Some(target) = word::<Target>(text) {
        assert!(target.port() > 0 && !target.host().contains(['\n', ' ', '/']));
    }
    if let Some(map) = word::<PortMap>(text) {
        assert!(map.count() > 0 && map.bound().count() == map.count());
    }
});
