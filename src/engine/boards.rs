//! What the lines of a run are shown to, a row at a time, until they are figures.

use crate::job::FINAL;
use crate::score::{Board, BoardPlan, Judged};
use crate::words::{Decided, Marks, Outcome, Scores, Status};

/// What the lines of a run are shown to, until they are figures.
pub(super) struct Boards {
    /// Those of the entries that every row is asked of; from this number on there are others.
    main: Board,
    first: usize,
    /// Those of who is asked where the others disagree.
    escalated: Option<(String, Board)>,
    /// What the answers to each row come to together.
    last: Option<Board>,
    /// The scorer that says what an answer should be.
    golden: Option<usize>,
}

impl Boards {
    /// Empty ones. `escalated`: what the entry is called of those who are asked where the others disagree; `last`: whether
    /// the answers to a row come to something together.
    pub(super) fn new(
        plan: BoardPlan,
        escalated: Option<&String>,
        last: bool,
        golden: Option<usize>,
    ) -> Self {
        let alone = |name: &str| {
            Board::new(BoardPlan {
                entries: vec![name.to_owned()],
                repeat: 1,
                ..plan.clone()
            })
        };
        Self {
            escalated: escalated.map(|name| (name.clone(), alone(name))),
            last: last.then(|| alone(FINAL)),
            golden,
            first: plan.entries.len(),
            main: Board::new(plan),
        }
    }

    /// All lines of a row, and what they come to together.
    pub(super) fn add_row(
        &mut self,
        lines: &[(&Outcome, &Marks)],
        decided: Option<&(Decided, Marks)>,
    ) {
        let golden = self.golden;
        let judged: Vec<Judged<'_>> = lines
            .iter()
            .map(|(outcome, marks)| Judged {
                entry: outcome.item.entry as usize,
                answered: outcome.status == Status::Answered,
                label: label(outcome, marks, golden),
                gold: marks.gold.as_deref(),
                scores: &marks.scores,
            })
            .collect();
        let (main, others): (Vec<_>, Vec<_>) = judged
            .into_iter()
            .partition(|judged| judged.entry < self.first);
        self.main.add_row(&main);
        if let Some((_, board)) = &mut self.escalated {
            for judged in others {
                board.add_row(&[Judged { entry: 0, ..judged }]);
            }
        }
        if let (Some(board), Some((decided, marks))) = (&mut self.last, decided) {
            board.add_row(&[Judged {
                entry: 0,
                answered: decided.label.is_some(),
                label: decided.label.as_deref(),
                gold: marks.gold.as_deref(),
                scores: &marks.scores,
            }]);
        }
    }

    /// The figures.
    pub(super) fn finish(self) -> Scores {
        let mut scores = self.main.finish();
        let last = self.last.map(|board| (FINAL.to_owned(), board));
        for (name, board) in self.escalated.into_iter().chain(last) {
            let alone = board.finish();
            scores.by_entry.insert(name, alone.overall);
        }
        scores
    }
}

/// The label of a valid answer: the one that is wanted, if it is right, in whatever spelling.
fn label<'a>(outcome: &'a Outcome, marks: &'a Marks, golden: Option<usize>) -> Option<&'a str> {
    let said = outcome
        .answer
        .as_ref()
        .filter(|_| outcome.status == Status::Answered);
    let score = golden.and_then(|golden| marks.scores.get(golden));
    let is_right = score == Some(&Some(1.0));
    match (&marks.gold, &marks.value) {
        (Some(gold), _) if is_right => Some(gold),
        (_, Some(value)) => Some(value),
        _ => said.map(|answer| answer.text.trim()),
    }
}
