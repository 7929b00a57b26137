//! What is asked of a row, and what is asked about its answers: the numbers of the entries that items have.

use crate::job::{Plan, ScorerPlan};

/// The entries of a job's items, in order: those of the matrix; those who are asked where these disagree; then, for each
/// scorer that has to ask somebody, one for each entry before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// How many entries every row is asked of.
    main: usize,
    escalates: bool,
    /// The scorers that have to ask somebody, as positions in the job.
    asking: Vec<usize>,
    /// The names of the entries with lines in the results.
    names: Vec<String>,
    scorers: Vec<String>,
}

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It has a line in the results.
    Line,
    /// It says what this scorer makes of the line of this entry.
    Side {
        /// The scorer, as a position in the job.
        scorer: usize,
        /// The entry.
        of: usize,
    },
}

impl Shape {
    /// That of a job.
    pub(super) fn of(plan: &Plan) -> Self {
        let names = plan.output.entries.iter().map(ToString::to_string);
        Self::new(names.collect(), plan.escalate.is_some(), &plan.score)
    }

    /// That of a job with these entries. `escalates`: the last one is that of those who are asked last.
    pub(super) fn new(names: Vec<String>, escalates: bool, score: &[ScorerPlan]) -> Self {
        let asking = (0..)
            .zip(score)
            .filter(|(_, scorer)| scorer.kind.is_asked());
        Self {
            main: names.len() - usize::from(escalates),
            escalates,
            asking: asking.map(|(at, _)| at).collect(),
            names,
            scorers: score.iter().map(|scorer| scorer.name.clone()).collect(),
        }
    }

    /// The names of the entries after those of the matrix, as the store knows them.
    pub(super) fn follow_ups(&self) -> Vec<String> {
        let escalated = self.names[self.main..].iter().cloned();
        let sides = self.asking.iter().flat_map(|scorer| {
            let names = self.names.iter();
            names.map(|name| format!("{} of {name}", self.scorers[*scorer]))
        });
        escalated.chain(sides).collect()
    }

    /// The names of the entries with lines in the results.
    pub(super) fn entry_names(&self) -> &[String] {
        &self.names
    }

    /// How many entries have lines in the results.
    pub(super) fn lines(&self) -> usize {
        self.names.len()
    }

    /// The entry of those who are asked where the others disagree.
    pub(super) fn escalated(&self) -> Option<usize> {
        self.escalates.then_some(self.main)
    }

    /// The scorers that have to ask somebody, as positions in the job.
    pub(super) fn asking(&self) -> &[usize] {
        &self.asking
    }

    /// The entry that says what a scorer makes of the line of another entry.
    pub(super) fn side(&self, scorer: usize, of: usize) -> Option<usize> {
        let place = self.asking.iter().position(|asking| *asking == scorer)?;
        Some(self.lines() + place * self.lines() + of)
    }

    /// What an entry is for.
    pub(super) fn part(&self, entry: u32) -> Part {
        let entry = entry as usize;
        let Some(side) = entry.checked_sub(self.lines()) else {
            return Part::Line;
        };
        let scorer = self.asking.get(side / self.lines());
        Part::Side {
            scorer: scorer.copied().unwrap_or_default(),
            of: side % self.lines(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ScorerKind;
    use crate::job::Wanted;

    #[test]
    fn every_follow_up_has_a_number_of_its_own_and_knows_what_it_is_about() {
        let scorer = |name: &str, kind| ScorerPlan {
            name: name.to_owned(),
            kind,
        };
        let command = || ScorerKind::Command {
            program: vec!["x".to_owned()],
            timeout: std::time::Duration::ZERO,
        };
        let matching = ScorerKind::Match {
            json_path: None,
            wanted: Wanted::Something,
        };
        let score = [
            scorer("c", command()),
            scorer("m", matching),
            scorer("d", command()),
        ];
        let names = ["a", "b", "escalated"].map(str::to_owned).to_vec();
        let shape = Shape::new(names, true, &score);
        assert_eq!(shape.escalated(), Some(2));
        assert_eq!(shape.follow_ups().len(), 1 + 2 * 3);
        assert_eq!(shape.part(2), Part::Line);
        for scorer in [0, 2] {
            for of in 0..3 {
                let side = shape.side(scorer, of).unwrap();
                assert_eq!(shape.part(side as u32), Part::Side { scorer, of });
            }
        }
        assert_eq!(shape.side(1, 0), None);
        let plain = Shape::new(vec!["a".to_owned()], false, &score[1..2]);
        assert!(plain.follow_ups().is_empty());
    }
}
