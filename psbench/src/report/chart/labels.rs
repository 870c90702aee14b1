//! Names at the ends of curves.

use std::ops::Range;

/// Lines of text don't touch.
const GAP: i32 = 14;

/// Moves names that would overlap apart, within the plot as far as they fit: where each of `wanted` is to be, in the same order.
pub(super) fn apart(wanted: &[i32], within: Range<i32>) -> Vec<i32> {
    let mut placed: Vec<(usize, i32)> = wanted.iter().copied().enumerate().collect();
    placed.sort_by_key(|(_, at)| *at);
    let (mut free_from, mut free_to) = (within.start, within.end);
    for (_, at) in &mut placed {
        *at = (*at).max(free_from);
        free_from = *at + GAP;
    }
    for (_, at) in placed.iter_mut().rev() {
        *at = (*at).min(free_to);
        free_to = *at - GAP;
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_keep_apart_and_in_order(wanted in proptest::collection::vec(0..300, 0..15)) {
            let placed = apart(&wanted, 0..300);
            prop_assert_eq!(placed.len(), wanted.len());
            for (one, at) in placed.iter().enumerate() {
                prop_assert!((0..=300).contains(at));
                for (other, there) in placed.iter().enumerate().filter(|(other, _)| *other != one) {
                    prop_assert!((at - there).abs() >= GAP);
                    prop_assert!(wanted[one] >= wanted[other] || at < there);
                }
            }
        }
    }

    #[test]
    fn those_with_room_stay() {
        assert_eq!(apart(&[200, 100], 0..300), [200, 100]);
    }
}
