//! Rows without a declared id: how many rows before each have the same content.

use std::collections::HashMap;

use crate::words::Digest;

/// The contents that a scan has seen, as 4 bytes each; freed when it ends. That finds what may be repeated: of a million
/// contents some hundred pairs agree in them by chance, of ten million some ten thousand.
#[derive(Debug, Default)]
pub(super) struct Contents {
    hashes: Vec<u32>,
}

impl Contents {
    /// Takes note of a content.
    pub(super) fn add(&mut self, content: Digest) {
        self.hashes.push(split(content).0);
    }

    /// What occurs more than once.
    pub(super) fn repeated(self) -> Repeated {
        let mut hashes = self.hashes;
        hashes.sort_unstable();
        let (mut before, mut kept) = (None, None);
        // In place: at ten million rows a second list would cost as much as the first.
        hashes.retain(|hash| {
            let again = before.replace(*hash) == Some(*hash) && kept != Some(*hash);
            if again {
                kept = Some(*hash);
            }
            again
        });
        hashes.shrink_to_fit();
        Repeated(hashes)
    }
}

/// The contents that occur more than once, as the 4 bytes that were noted of them, in order; and those whose 4 bytes
/// another content has too.
#[derive(Debug)]
pub(super) struct Repeated(Vec<u32>);

impl Repeated {
    /// Counts the rows from the first on.
    pub(super) fn count(&self) -> Occurrences<'_> {
        Occurrences {
            repeated: &self.0,
            first: vec![[0; 12]; self.0.len()],
            seen: vec![0; self.0.len()],
            others: HashMap::new(),
        }
    }
}

/// How often each repeated content was seen. Lists instead of one map of all: five million contents take
/// 100 MB in them, and four times that in a map while it grows.
#[derive(Debug)]
pub(super) struct Occurrences<'a> {
    repeated: &'a [u32],
    /// For each, the other 12 bytes of the first content that was seen.
    first: Vec<[u8; 12]>,
    /// For each, how often that one was seen.
    seen: Vec<u64>,
    /// The contents that have 4 bytes in common with another.
    others: HashMap<Digest, u64>,
}

impl Occurrences<'_> {
    /// How many rows before this one have the same content.
    pub(super) fn before(&mut self, content: Digest) -> u64 {
        let (hash, rest) = split(content);
        let Ok(place) = self.repeated.binary_search(&hash) else {
            return 0;
        };
        let seen = match self.seen[place] {
            0 => {
                self.first[place] = rest;
                &mut self.seen[place]
            }
            _ if self.first[place] == rest => &mut self.seen[place],
            _ => self.others.entry(content).or_default(),
        };
        *seen += 1;
        *seen - 1
    }
}

/// What is noted of a content, and what is left of it.
fn split(content: Digest) -> (u32, [u8; 12]) {
    let [a, b, c, d, rest @ ..] = *content.as_bytes();
    (u32::from_le_bytes([a, b, c, d]), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(contents: &[Digest]) -> Repeated {
        let mut seen = Contents::default();
        contents.iter().for_each(|content| seen.add(*content));
        seen.repeated()
    }

    /// For each content in turn, how many before it are the same.
    fn counted(contents: &[Digest]) -> Vec<u64> {
        let repeated = repeated(contents);
        let mut occurrences = repeated.count();
        contents
            .iter()
            .map(|content| occurrences.before(*content))
            .collect()
    }

    fn content(of: u64) -> Digest {
        Digest::of([of.to_le_bytes()])
    }

    #[test]
    fn only_what_occurs_more_than_once_is_kept_and_that_once() {
        let contents = [1, 2, 3, 2, 4, 4, 4, 4, 5].map(content);
        let mut expected = [2, 4].map(|of| split(content(of)).0);
        expected.sort_unstable();
        assert_eq!(repeated(&contents).0, expected);
        let distinct: Vec<Digest> = (0..1000).map(content).collect();
        assert_eq!(repeated(&distinct).0.capacity(), 0);
    }

    #[test]
    fn equal_contents_are_counted_from_0() {
        let contents = [1, 2, 1, 3, 1, 2].map(content);
        assert_eq!(counted(&contents), [0, 0, 1, 0, 2, 1]);
    }

    #[test]
    fn contents_with_4_bytes_in_common_are_counted_apart() {
        // In the first byte that differs, and in the last.
        for place in [4, 15] {
            let like = |other: u8| {
                let mut bytes = [7; 16];
                bytes[place] = other;
                Digest::from_bytes(&bytes).unwrap()
            };
            let contents = [1, 2, 3, 2, 1, 2].map(like);
            assert_eq!(counted(&contents), [0, 0, 0, 1, 1, 2]);
        }
    }
}
