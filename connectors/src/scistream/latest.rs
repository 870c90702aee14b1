//! What is replaced while others read it.

use std::sync::OnceLock;

/// A value, and those that replaced it: whoever borrowed one keeps it. For few replacements, as none is forgotten.
#[derive(Debug)]
pub(super) struct Latest<T> {
    value: T,
    next: OnceLock<Box<Self>>,
}

impl<T> Latest<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value, next: OnceLock::new() }
    }

    pub(super) fn get(&self) -> &T {
        &self.last().value
    }

    pub(super) fn replace(&self, value: T) {
        let mut next = Box::new(Self::new(value));
        // Where another was faster, it goes behind that one.
        while let Err(late) = self.last().next.set(next) {
            next = late;
        }
    }

    fn last(&self) -> &Self {
        let mut last = self;
        while let Some(next) = last.next.get() {
            last = next;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_was_borrowed_stays_and_the_last_one_counts() {
        let latest = Latest::new("first".to_owned());
        let first = latest.get();
        latest.replace("second".into());
        latest.replace("third".into());
        assert_eq!((first.as_str(), latest.get().as_str()), ("first", "third"));
    }

    #[test]
    fn none_is_lost_of_those_that_come_at_once() {
        let latest = Latest::new(0);
        thread::scope(|scope| {
            for number in 1..9 {
                let latest = &latest;
                scope.spawn(move || latest.replace(number));
            }
        });
        let mut all = Vec::new();
        let mut at = Some(&latest);
        while let Some(one) = at {
            all.push(one.value);
            at = one.next.get().map(|next| &**next);
        }
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
    }
}
