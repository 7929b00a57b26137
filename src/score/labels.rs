//! The labels of a run: those that the job names, or those that are seen.

use indexmap::IndexSet;

/// How many labels are kept where the job names none.
pub(super) const MOST: usize = 50;

/// Labels, each with a number.
#[derive(Debug)]
pub(super) struct Labels {
    names: IndexSet<String>,
    is_open: bool,
    is_overfull: bool,
}

impl Labels {
    /// The labels that the job names; without any, those that turn up.
    pub(super) fn new(named: Option<Vec<String>>) -> Self {
        Self {
            is_open: named.is_none(),
            names: named.into_iter().flatten().collect(),
            is_overfull: false,
        }
    }

    /// The number of a label; `None` where it is none of them, or there are too many.
    pub(super) fn number(&mut self, name: &str) -> Option<u32> {
        let known = self.names.get_index_of(name);
        let number = match known {
            Some(number) => number,
            None if !self.is_open || self.is_overfull => return None,
            None if self.names.len() == MOST => {
                self.is_overfull = true;
                return None;
            }
            None => self.names.insert_full(name.to_owned()).0,
        };
        u32::try_from(number).ok()
    }

    /// Whether more labels turned up than are kept.
    pub(super) fn are_too_many(&self) -> bool {
        self.is_overfull
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The labels and their numbers as reports list them: as the job does, else by the alphabet.
    pub(super) fn listed(&self) -> Vec<(u32, &str)> {
        let mut listed: Vec<(u32, &str)> =
            (0..).zip(self.names.iter().map(String::as_str)).collect();
        if self.is_open {
            listed.sort_by_key(|(_, name)| *name);
        }
        listed
    }
}
