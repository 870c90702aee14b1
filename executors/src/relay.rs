//! What workers print, in this process's log.

use tracing::Level;

/// Logs a line of a worker's output. One that the worker logged itself begins with its level, which is not said twice.
pub(crate) fn relay(worker: &str, line: &str) {
    match leveled(line) {
        (Level::ERROR, text) => tracing::error!(worker, "{text}"),
        (_, text) => tracing::warn!(worker, "{text}"),
    }
}

/// The level of a line, and the rest of it: a warning where it names none.
fn leveled(line: &str) -> (Level, &str) {
    for (name, level) in [("ERROR", Level::ERROR), ("WARNING", Level::WARN)] {
        if let Some(text) = line.strip_prefix(name).filter(|text| text.starts_with(' ')) {
            return (level, text.trim_start());
        }
    }
    (Level::WARN, line)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    #[test]
    fn a_level_is_told_from_what_merely_begins_like_one() {
        for (line, level, text) in [
            ("WARNING it may go wrong", Level::WARN, "it may go wrong"),
            ("ERROR   it went wrong", Level::ERROR, "it went wrong"),
            ("something is printed", Level::WARN, "something is printed"),
            ("WARNINGS are many", Level::WARN, "WARNINGS are many"),
            ("ERROR", Level::WARN, "ERROR"),
            ("", Level::WARN, ""),
        ] {
            assert_eq!(leveled(line), (level, text), "{line:?}");
        }
    }

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    pub(crate) struct Log(pub(crate) Arc<Mutex<Vec<(Level, String)>>>);

    struct Message(String);

    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0 = format!("{}{}={value:?} ", self.0, field.name());
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().unwrap().push((*event.metadata().level(), message.0));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_workers_warning_is_one_here_and_says_so_once() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            relay("w1", "WARNING the store is nearly full");
            relay("w1", "ERROR   the store is full");
        });
        let logged = log.0.lock().unwrap();
        let levels: Vec<Level> = logged.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::WARN, Level::ERROR]);
        assert!(logged.iter().all(|(_, text)| !text.contains("WARNING") && !text.contains("ERROR")), "{logged:?}");
        assert!(logged[0].1.contains("the store is nearly full") && logged[0].1.contains("w1"), "{logged:?}");
    }
}
