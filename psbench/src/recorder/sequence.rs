//! Which items have come.

/// Tells new items from those that came before.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    /// A bit for each sequence number.
    seen: Vec<u64>,
    /// How many have come, each counted once.
    pub(super) distinct: u64,
    /// Further arrivals of an item that had come.
    pub(super) duplicated: u64,
    /// Items that came after one with a higher number.
    pub(super) reordered: u64,
    /// One past the highest number that came.
    pub(super) end: u64,
}

impl Sequence {
    /// Takes note of an arrival; `false` for a duplicate. `number` must be within what is planned: memory grows with it.
    pub(super) fn arrive(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicated += 1;
            return false;
        }
        self.seen[word] |= bit;
        self.distinct += 1;
        self.reordered += u64::from(number < self.end);
        self.end = self.end.max(number + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_set(numbers in prop::collection::vec(0u64..500, 0..600)) {
            let mut sequence = Sequence::default();
            let mut set = HashSet::new();
            let mut reordered = 0;
            for number in &numbers {
                let highest = set.iter().max().copied();
                let new = set.insert(*number);
                reordered += u64::from(new && highest.is_some_and(|highest| number < &highest));
                prop_assert_eq!(sequence.arrive(*number), new);
            }
            prop_assert_eq!(sequence.distinct, set.len() as u64);
            prop_assert_eq!(sequence.duplicated, (numbers.len() - set.len()) as u64);
            prop_assert_eq!(sequence.reordered, reordered);
            prop_assert_eq!(sequence.end, set.iter().max().map_or(0, |highest| highest + 1));
        }
    }
}
