//! How many items one generator may have made by now.

use crate::plan::Share;

/// Keeps a generator no further ahead of what is done than a number of items.
///
/// It is told of more by the half of that at a time: to tell it of each would wake it for each.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Items of its own that may be under way.
    ahead: u64,
    /// Items of its own that are done with, or taken for lost.
    done: u64,
    /// How many it knows that it may make.
    told: u64,
    /// How many it is to make.
    count: u64,
}

impl Allowance {
    /// For each generator of a stream of so many items, of which so many may be under way.
    pub(super) fn each(ahead: u64, items: u64, generators: u32) -> Vec<Self> {
        let of = |share: Share| {
            let ahead = share.of(ahead);
            Self { ahead, done: 0, told: ahead, count: share.of(items) }
        };
        Share::each(generators).map(of).collect()
    }

    /// One of its items is done with.
    pub(super) fn note_done(&mut self) {
        self.done += 1;
    }

    /// Items that it was told of and that are not done with.
    pub(super) fn missing(&self) -> u64 {
        self.told.min(self.count).saturating_sub(self.done)
    }

    /// Takes what it was told of and has not come for lost, as nothing else would let it go on.
    pub(super) fn double(&mut self) {
        self.done += self.told;
    }

    /// How many it may make, where it is to be told of that.
    pub(super) fn news(&mut self) -> Option<u64> {
        let allowed = (self.ahead + self.done).min(self.count);
        let enough = self.ahead.div_ceil(2).min(self.count.saturating_sub(self.told)).max(1);
        (allowed >= self.told + enough).then(|| {
            self.told = allowed;
            allowed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_by_halves_and_never_too_late() {
        let mut allowances = Allowance::each(10, 1000, 2);
        let allowance = &mut allowances[1];
        let mut made = 5;
        for done in 1..=500 {
            allowance.note_done();
            let news = allowance.news();
            assert_eq!(news.is_some(), done % 3 == 0 && done + 5 <= 500 || done == 495, "{done}");
            made = news.unwrap_or(made);
            assert!(made - done <= 5 && (made > done || made == 500), "{made} made, {done} done");
        }
    }

    #[test]
    fn one_item_at_a_time_is_told_of_each() {
        let [allowance] = &mut Allowance::each(1, 3, 1)[..] else { panic!() };
        let news = [(); 3].map(|()| {
            allowance.note_done();
            allowance.news()
        });
        assert_eq!(news, [Some(2), Some(3), None]);
    }

    #[test]
    fn what_does_not_come_holds_it_up_once() {
        let [allowance] = &mut Allowance::each(4, 100, 1)[..] else { panic!() };
        let news = [(); 3].map(|()| {
            allowance.double();
            allowance.news()
        });
        assert_eq!(news, [8, 16, 32].map(Some));
    }
}
