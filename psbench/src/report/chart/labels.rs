//! Names at the ends of curves.

/// Lines of text don't touch.
const GAP: f64 = 14.0;

/// Moves names that would overlap apart, within the plot as far as they fit: where each of `wanted` is to be, in the same order.
pub(super) fn apart(wanted: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    let of = |place: &usize| wanted.get(*place).copied().unwrap_or(top);
    order.sort_by(|one, other| of(one).total_cmp(&of(other)));
    let mut sorted: Vec<f64> = order.iter().map(of).collect();
    let mut free_from = top;
    for place in &mut sorted {
        *place = place.max(free_from);
        free_from = *place + GAP;
    }
    let mut free_to = bottom;
    for place in sorted.iter_mut().rev() {
        *place = place.min(free_to);
        free_to = *place - GAP;
    }
    let mut placed: Vec<(usize, f64)> = order.into_iter().zip(sorted).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_keep_apart_and_in_order(wanted in proptest::collection::vec(0.0..300.0f64, 0..15)) {
            let placed = apart(&wanted, 0.0, 300.0);
            prop_assert_eq!(placed.len(), wanted.len());
            for (one, at) in placed.iter().enumerate() {
                prop_assert!((-1e-9..=300.0).contains(at));
                for (other, there) in placed.iter().enumerate().filter(|(other, _)| *other != one) {
                    prop_assert!((at - there).abs() >= GAP - 1e-9);
                    prop_assert!(wanted[one] >= wanted[other] || at < there);
                }
            }
        }
    }

    #[test]
    fn those_with_room_stay() {
        assert_eq!(apart(&[200.0, 100.0], 0.0, 300.0), [200.0, 100.0]);
    }
}
