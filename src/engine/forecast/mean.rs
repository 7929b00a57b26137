//! Means and shares of whole numbers, without a float.

/// So many of one thing for so many of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mean {
    sum: u128,
    over: u128,
}

impl Mean {
    /// So many more for so many more.
    pub(super) fn add(&mut self, sum: u64, over: u64) {
        self.sum += u128::from(sum);
        self.over += u128::from(over);
    }

    /// Over how many it is.
    pub(super) fn over(&self) -> u64 {
        u64::try_from(self.over).unwrap_or(u64::MAX)
    }

    /// How many come to this many, rounded half up; `None` where nothing is known.
    pub(super) fn of(&self, many: u64) -> Option<u64> {
        let whole = (self.sum * u128::from(many) + self.over / 2).checked_div(self.over)?;
        Some(u64::try_from(whole).unwrap_or(u64::MAX))
    }

    /// The share of the one at this place, counted from 0: whole numbers whose sum over many is the mean's.
    pub(super) fn at(&self, place: u64) -> Option<u64> {
        Some(self.of(place.saturating_add(1))? - self.of(place)?)
    }
}

/// What a sum over a sample comes to over all of which it was drawn, rounded half up. Exact where all were drawn.
pub(super) fn scaled(sum: i128, all: u64, sampled: u64) -> i128 {
    match (i128::from(all), i128::from(sampled)) {
        (_, 0) => 0,
        (all, sampled) if all == sampled => sum,
        (all, sampled) => sum.saturating_mul(all).saturating_add(sampled / 2) / sampled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_shares_add_up_to_the_mean() {
        let mut mean = Mean::default();
        assert_eq!((mean.of(3), mean.at(3)), (None, None));
        mean.add(14, 10);
        let shares: Vec<u64> = (0..10).filter_map(|place| mean.at(place)).collect();
        assert_eq!(shares.iter().sum::<u64>(), 14);
        assert!(
            shares.iter().all(|share| (1..=2).contains(share)),
            "{shares:?}"
        );
        mean.add(21, 0);
        assert_eq!(mean.of(5), Some(18));
    }

    #[test]
    fn a_sample_stands_for_all() {
        assert_eq!(scaled(7, 3, 3), 7);
        assert_eq!(scaled(7, 10, 4), 18);
        assert_eq!(scaled(7, 10, 0), 0);
        assert_eq!(scaled(i128::MAX / 2, 5, 5), i128::MAX / 2);
    }
}
