//! Rows that say what is wanted, but not so that anybody could look for it: a pattern that is none, a number that is none.

use std::collections::BTreeMap;

use crate::score::NOTHING_WANTED;
use crate::words::{ResultLine, steers};

/// What is shown of a reason, in characters.
const LONGEST: usize = 200;

/// By scorer how many lines are not scored for it, and the first of them.
#[derive(Debug, Default)]
pub(super) struct Unclear(BTreeMap<usize, (u64, String)>);

impl Unclear {
    /// Looks at a line of the results. `asking`: the scorers who ask somebody, and have other reasons.
    pub(super) fn add(&mut self, line: &ResultLine<'_>, asking: &[usize]) {
        let marks = line.marks;
        let scores = marks.scores.iter().zip(&marks.remarks).enumerate();
        for (at, (score, remark)) in scores {
            let (None, Some(why)) = (score, remark) else {
                continue;
            };
            if why == NOTHING_WANTED || asking.contains(&at) {
                continue;
            }
            let first = || {
                let row = &line.outcome.item.row.id;
                let text = format!("{row}: {why}");
                let plain = |c: char| if steers(c) { ' ' } else { c };
                (0, text.chars().take(LONGEST).map(plain).collect())
            };
            self.0.entry(at).or_insert_with(first).0 += 1;
        }
    }

    /// A sentence for each scorer.
    pub(super) fn notes(self, scorers: &[String]) -> impl Iterator<Item = String> {
        self.0.into_iter().filter_map(|(at, (lines, first))| {
            let name = scorers.get(at)?;
            Some(format!(
                "Lines without a score of {name}, because what their row wants cannot be looked for: {lines}. First row {first}."
            ))
        })
    }
}
