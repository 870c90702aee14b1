//! Which items have come.

use std::collections::VecDeque;

use crate::plan::Share;

/// Tells new items from those that came before.
///
/// Items are in lanes, item `n` in that of `n` modulo their number, and a lane's items come in the order of their numbers.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    /// How many parts have come whole, from the first number on.
    whole: u64,
    /// The parts from there on.
    parts: VecDeque<Part>,
    /// How many have come, each counted once.
    pub(super) distinct: u64,
    /// Further arrivals of an item that had come.
    pub(super) duplicated: u64,
    /// Items that came after one of their lane with a higher number.
    pub(super) reordered: u64,
    /// One past the highest number that came in each lane.
    ends: Vec<u64>,
}

/// So many numbers that follow each other.
#[derive(Clone, Debug, Default)]
enum Part {
    #[default]
    Absent,
    /// A bit for each number.
    Some(Box<Bits>),
    Whole,
}

#[derive(Clone, Debug)]
struct Bits {
    seen: [u64; WORDS],
    count: u64,
}

const WORDS: usize = 64;
/// Numbers in a part: those of a stream that is in order, or nearly so, are in one or two parts at a time.
const PART: u64 = WORDS as u64 * 64;

impl Part {
    /// Takes note of a number; `false` if it had come.
    fn arrive(&mut self, number: u64) -> bool {
        if let Self::Absent = self {
            *self = Self::Some(Box::new(Bits { seen: [0; WORDS], count: 0 }));
        }
        let Self::Some(bits) = self else { return false };
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if bits.seen[word] & bit != 0 {
            return false;
        }
        bits.seen[word] |= bit;
        bits.count += 1;
        if bits.count == PART {
            *self = Self::Whole;
        }
        true
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Sequence {
    /// Nothing has come yet in any of so many lanes, at least 1.
    pub(super) fn new(lanes: u32) -> Self {
        Self {
            whole: 0,
            parts: VecDeque::new(),
            distinct: 0,
            duplicated: 0,
            reordered: 0,
            ends: vec![0; lanes as usize],
        }
    }

    /// Takes note of an arrival; `false` for a duplicate. `number` must be within what is planned: memory grows with it where many are
    /// missing before it, a bit for each.
    pub(super) fn arrive(&mut self, number: u64) -> bool {
        if !self.is_new(number) {
            self.duplicated += 1;
            return false;
        }
        self.distinct += 1;
        let lane = (number % self.ends.len() as u64) as usize;
        let end = &mut self.ends[lane];
        self.reordered += u64::from(number < *end);
        *end = (*end).max(number + 1);
        true
    }

    fn is_new(&mut self, number: u64) -> bool {
        let Some(place) = (number / PART).checked_sub(self.whole) else { return false };
        let place = place as usize;
        if place >= self.parts.len() {
            self.parts.resize_with(place + 1, Part::default);
        }
        let new = self.parts[place].arrive(number % PART);
        while let Some(Part::Whole) = self.parts.front() {
            self.parts.pop_front();
            self.whole += 1;
        }
        new
    }

    /// The numbers that have not come of so many items that each generator made, in order.
    pub(super) fn missing(&self, generated: &[u64]) -> impl Iterator<Item = u64> {
        let generators = generated.len().max(1) as u64;
        let made = move |number: u64| {
            generated.get((number % generators) as usize).is_some_and(|made| number / generators < *made)
        };
        let end = generated.iter().max().map_or(0, |most| most.saturating_mul(generators));
        (self.whole * PART..end).filter(move |number| made(*number) && !self.has(*number))
    }

    fn has(&self, number: u64) -> bool {
        let Some(place) = (number / PART).checked_sub(self.whole) else { return true };
        match self.parts.get(place as usize) {
            None | Some(Part::Absent) => false,
            Some(Part::Some(bits)) => bits.seen[(number % PART / 64) as usize] & (1 << (number % 64)) != 0,
            Some(Part::Whole) => true,
        }
    }

    /// One past the highest number that came of a generator's share, which is of whole lanes.
    pub(super) fn end(&self, share: Share) -> u64 {
        let lanes = self.ends.iter().skip(share.generator as usize).step_by(share.generators as usize);
        lanes.max().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_set(
            numbers in prop::collection::vec(0u64..500, 0..600), generators in 1u32..5, partitions in 1u32..4,
        ) {
            let lanes = generators * partitions;
            let mut sequence = Sequence::new(lanes);
            let mut set = HashSet::new();
            let mut reordered = 0;
            for number in &numbers {
                let lane = number % u64::from(lanes);
                let highest = set.iter().filter(|other| **other % u64::from(lanes) == lane).max().copied();
                let new = set.insert(*number);
                reordered += u64::from(new && highest.is_some_and(|highest| number < &highest));
                prop_assert_eq!(sequence.arrive(*number), new);
            }
            prop_assert_eq!(sequence.distinct, set.len() as u64);
            prop_assert_eq!(sequence.duplicated, (numbers.len() - set.len()) as u64);
            let made: Vec<u64> = (0..generators).map(|generator| 40 + u64::from(generator) * 7).collect();
            let expected: Vec<u64> = (0..1000)
                .filter(|number| number / u64::from(generators) < made[(number % u64::from(generators)) as usize])
                .filter(|number| !set.contains(number))
                .collect();
            prop_assert_eq!(sequence.missing(&made).collect::<Vec<_>>(), expected);
            prop_assert_eq!(sequence.reordered, reordered);
            for share in Share::each(generators) {
                let own = set.iter().filter(|number| **number % u64::from(generators) == u64::from(share.generator));
                prop_assert_eq!(sequence.end(share), own.max().map_or(0, |highest| highest + 1));
            }
        }

        #[test]
        fn parts_agree_with_a_set(numbers in prop::collection::vec(0..5 * PART, 0..300), whole in 0..4 * PART) {
            let mut sequence = Sequence::new(1);
            let mut set = HashSet::new();
            for number in numbers.iter().copied().chain(0..whole).chain(numbers.iter().copied()) {
                prop_assert_eq!(sequence.arrive(number), set.insert(number));
            }
            prop_assert!(sequence.whole >= whole / PART);
        }

        #[test]
        fn lanes_that_are_each_in_order_are_never_reordered(
            turns in prop::collection::vec(any::<prop::sample::Index>(), 1..300),
            generators in 1u32..5, partitions in 1u32..4,
        ) {
            // What each generator sends to each partition, a lane each, in the order in which it sends it.
            let mut lanes: Vec<Vec<u64>> = Share::each(generators)
                .flat_map(|share| (0..u64::from(partitions)).map(move |partition| (share, partition)))
                .map(|(share, partition)| {
                    let sent = (0..30).filter(|n| n % u64::from(partitions) == partition);
                    sent.map(|n| share.number(n)).rev().collect()
                })
                .collect();
            let mut sequence = Sequence::new(generators * partitions);
            for turn in turns {
                if let Some(number) = turn.get_mut(&mut lanes).pop() {
                    sequence.arrive(number);
                }
            }
            prop_assert_eq!(sequence.reordered, 0);
        }
    }

    #[test]
    fn what_has_come_takes_no_memory() {
        let mut sequence = Sequence::new(3);
        for number in 0..100 * PART {
            // Neighbours come the wrong way round.
            assert!(sequence.arrive(number ^ 1));
            assert!(sequence.parts.len() <= 2);
        }
        assert_eq!((sequence.parts.len(), sequence.distinct), (0, 100 * PART));
        assert!(!sequence.arrive(7));
    }
}
