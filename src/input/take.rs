//! Which records of an entry are used: all, the first so many, or a seeded sample.

use crate::job::Take;

/// A choice among a known number of records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selection {
    records: u64,
    rows: u64,
    seed: Option<u64>,
}

impl Selection {
    /// The choice that `take` makes among this many records.
    pub(super) fn of(take: Take, records: u64) -> Self {
        let (rows, seed) = match take {
            Take::All => (records, None),
            Take::First(rows) => (rows, None),
            Take::Sample { rows, seed } => (rows, Some(seed)),
        };
        Self {
            records,
            rows: rows.min(records),
            seed,
        }
    }

    /// How many more records have to be looked at after this many.
    pub(super) fn left(take: Take, seen: u64) -> u64 {
        match take {
            Take::First(rows) => rows.saturating_sub(seen),
            Take::All | Take::Sample { .. } => u64::MAX,
        }
    }

    /// How many records it chooses from.
    pub(super) fn records(&self) -> usize {
        usize::try_from(self.records).unwrap_or(usize::MAX)
    }

    /// How many rows it chooses.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// For each record in turn, whether it is chosen.
    ///
    /// A sample is Knuth's algorithm S: one pass, no memory, each subset equally likely, in order.
    pub(super) fn choose(self) -> impl Iterator<Item = bool> + Send {
        let mut random = SplitMix(self.seed.unwrap_or(0));
        let mut wanted = self.rows;
        (0..self.records).map(move |record| {
            let chosen = match self.seed {
                Some(_) => random.below(self.records - record) < wanted,
                None => wanted > 0,
            };
            wanted -= u64::from(chosen);
            chosen
        })
    }
}

/// SplitMix64: the same seed gives the same sample in every version of this program.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(records: u64, rows: u64, seed: u64) -> Vec<u64> {
        let chosen = Selection::of(Take::Sample { rows, seed }, records).choose();
        (0..records)
            .zip(chosen)
            .filter(|(_, chosen)| *chosen)
            .map(|(record, _)| record)
            .collect()
    }

    #[test]
    fn a_sample_has_exactly_the_wanted_size_and_repeats_with_its_seed() {
        for rows in [0, 1, 7, 50, 99, 100, 1000] {
            assert_eq!(sample(100, rows, 3).len() as u64, rows.min(100));
        }
        assert_eq!(sample(1000, 20, 7), sample(1000, 20, 7));
        assert_ne!(sample(1000, 20, 7), sample(1000, 20, 8));
    }

    #[test]
    fn every_record_is_about_equally_likely_to_be_sampled() {
        let mut drawn = [0_u32; 10];
        for seed in 0..10_000 {
            sample(10, 3, seed)
                .iter()
                .for_each(|record| drawn[*record as usize] += 1);
        }
        assert!(
            drawn.iter().all(|count| (2_800..3_200).contains(count)),
            "{drawn:?}"
        );
    }
}
