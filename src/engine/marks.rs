//! What the job makes of the lines of the results, a row at a time: the answers as it wants them, and what they are worth.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::boards::Boards;
use super::shape::{Part, Shape};
use crate::answer::{Form, Reader};
use crate::job::{AnswerPlan, Plan, ScorerKind, ScorerPlan};
use crate::score::{BoardPlan, Judge, Matcher, Score, Tag, consensus};
use crate::store::Stored;
use crate::words::{Decided, DecidedBy, Marks, Outcome, Row, Status};

/// What the job says of answers and their worth. Stored with the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Marking {
    /// What an answer must be.
    pub(super) answer: Option<AnswerPlan>,
    /// What it is worth.
    pub(super) score: Vec<ScorerPlan>,
    /// Whether somebody is asked last where the entries of the matrix disagree.
    pub(super) escalates: bool,
}

impl Marking {
    /// That of a job.
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            answer: plan.answer.clone(),
            score: plan.score.clone(),
            escalates: plan.escalate.is_some(),
        }
    }
}

/// Marks the lines of a row.
pub(super) struct Marker {
    pub(super) shape: Shape,
    reader: Option<Reader>,
    /// The columns that a JSON answer is spread over: JSON pointers.
    parts: Vec<String>,
    scorers: Vec<Scorer>,
    /// What tells the tags of the store's judges.
    mark: i64,
}

/// Whether somebody was asked, whatever came of it.
fn has_ended(line: &Outcome) -> bool {
    line.status.is_final() || line.status == Status::Failed
}

enum Scorer {
    Matcher(Matcher),
    Judge(Arc<Judge>),
    Command,
}

/// What a program says of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    /// From 0 to 1, or whether it is right.
    score: Value,
    /// In words.
    #[serde(default)]
    remark: Option<String>,
}

impl Said {
    /// Reads a line of a program.
    pub(super) fn read(line: &str) -> Result<(f64, Option<String>), String> {
        let said: Said = serde_json::from_str(line).map_err(|error| format!("{error}"))?;
        let score = match &said.score {
            Value::Bool(is_right) => Some(f64::from(u8::from(*is_right))),
            score => score.as_f64(),
        };
        match score.filter(|score| (0.0..=1.0).contains(score)) {
            Some(score) => Ok((score, said.remark)),
            None => Err(format!("`score` is {} and not from 0 to 1", said.score)),
        }
    }
}

impl Marker {
    /// Marks what was asked as this says, of the entries with these names.
    pub(super) fn new(marking: &Marking, entries: &[String], mark: Option<i64>) -> Self {
        let scorer = |plan: &ScorerPlan| match &plan.kind {
            ScorerKind::Judge(judge) => Scorer::Judge(Arc::new(Judge::of(judge))),
            kind => Matcher::of(kind).map_or(Scorer::Command, Scorer::Matcher),
        };
        let answer = marking.answer.as_ref();
        let columns = answer.iter().flat_map(|answer| &answer.columns);
        Self {
            shape: Shape::new(entries.to_vec(), marking.escalates, &marking.score),
            reader: answer.map(AnswerPlan::reader),
            parts: columns.map(|(_, pointer)| pointer.clone()).collect(),
            scorers: marking.score.iter().map(scorer).collect(),
            mark: mark.unwrap_or_default(),
        }
    }

    /// Whether there is anything to be made of answers.
    pub(super) fn is_idle(&self) -> bool {
        self.reader.is_none() && self.scorers.is_empty()
    }

    /// Which outcomes of a row have lines in the results: what those said who decide has none where the others agree by now.
    pub(super) fn lines<'a>(&self, all: &'a [Stored]) -> impl Iterator<Item = &'a Outcome> {
        let outcomes = all.iter().map(|stored| &stored.outcome);
        let agree = self.shape.escalated().is_some() && self.agree(outcomes.clone());
        outcomes.filter(move |outcome| self.is_line(outcome) && (!agree || self.is_main(outcome)))
    }

    /// Whether an item may have a line in the results.
    pub(super) fn is_line(&self, outcome: &Outcome) -> bool {
        self.shape.part(outcome.item.entry) == Part::Line
    }

    /// The valid answer of an outcome, as the job wants it.
    pub(super) fn valid(&self, outcome: &Outcome) -> Option<String> {
        let answer = outcome.answer.as_ref();
        let text = answer.filter(|_| outcome.status == Status::Answered);
        let text = &text?.text;
        match &self.reader {
            Some(reader) => reader.read(text).ok(),
            None => Some(text.clone()),
        }
    }

    /// The valid answer, if it decides anything: not one by which a model says that it cannot tell.
    pub(super) fn decision(&self, outcome: &Outcome) -> Option<String> {
        let abstain = self.reader.as_ref().and_then(Reader::abstain);
        let valid = self.valid(outcome);
        valid.filter(|valid| Some(valid.as_str()) != abstain)
    }

    /// The judge at this place among the scorers, if there is one.
    pub(super) fn judge(&self, scorer: usize) -> Option<&Arc<Judge>> {
        match self.scorers.get(scorer) {
            Some(Scorer::Judge(judge)) => Some(judge),
            _ => None,
        }
    }

    /// What marks an answer off where it is judged.
    pub(super) fn tag(&self, row: &Row, answer: &str) -> Tag {
        Tag::of(self.mark, row, answer)
    }

    /// What is made of a line. `all`: everything that is stored of its row.
    pub(super) fn marks(&self, line: &Outcome, all: &[Stored]) -> Marks {
        if self.is_idle() {
            return Marks::default();
        }
        let valid = self.valid(line);
        let mut marks = Marks {
            parts: self.parts_of(valid.as_deref()),
            ..Marks::default()
        };
        if !has_ended(line) {
            // What was never asked is not known to be bad.
            marks.scores = vec![None; self.scorers.len()];
            marks.remarks = vec![None; self.scorers.len()];
            return marks;
        }
        for (position, scorer) in self.scorers.iter().enumerate() {
            let (score, expected, remark) = match scorer {
                Scorer::Matcher(matcher) => {
                    let answer = self.reader.as_ref();
                    let found = matcher.score(&line.item.row, valid.as_deref(), answer);
                    (found.score, found.expected, found.remark)
                }
                _ => {
                    let (score, remark) = self.asked(position, line, valid.as_deref(), all);
                    (score, None, remark)
                }
            };
            marks.gold = marks.gold.or(expected);
            marks.scores.push(score);
            marks.remarks.push(remark);
        }
        marks.value = valid.filter(|_| self.reader.is_some());
        marks
    }

    /// What somebody said of a line who was asked.
    fn asked(
        &self,
        scorer: usize,
        line: &Outcome,
        valid: Option<&str>,
        all: &[Stored],
    ) -> (Option<f64>, Option<String>) {
        let Some(valid) = valid else {
            return (Some(0.0), None);
        };
        let side = self.shape.side(scorer, line.item.entry as usize);
        let mut all = all.iter().map(|stored| &stored.outcome);
        let said = all.find(|outcome| {
            Some(outcome.item.entry as usize) == side && outcome.item.repeat == line.item.repeat
        });
        let Some(said) = said else {
            return (None, None);
        };
        let text = match (&said.answer, said.status) {
            (Some(answer), Status::Answered) => &answer.text,
            _ => return (None, said.failure().map(|(_, error)| error.to_owned())),
        };
        let found = match &self.scorers[scorer] {
            Scorer::Judge(judge) => {
                let ruling = judge.ruling(text, &self.tag(&line.item.row, valid));
                ruling.map(|ruling| (ruling.worth, Some(ruling.text)))
            }
            _ => Said::read(text),
        };
        match found {
            Ok((score, remark)) => (Some(score), remark),
            Err(error) => (None, Some(error)),
        }
    }

    /// Whether somebody was to say what an answer is worth who did not.
    pub(super) fn lacks_score(&self, marks: &Marks) -> bool {
        let scores = self.scorers.iter().zip(&marks.scores);
        let mut asked = scores.filter(|(scorer, _)| !matches!(scorer, Scorer::Matcher(_)));
        asked.any(|(_, score)| score.is_none())
    }

    /// Whether every row is asked of the item's entry.
    fn is_main(&self, outcome: &Outcome) -> bool {
        (outcome.item.entry as usize) < self.shape.escalated().unwrap_or(self.shape.lines())
    }

    /// Whether those who were asked first agree on an answer that decides something.
    pub(super) fn agree<'a>(&self, lines: impl Iterator<Item = &'a Outcome>) -> bool {
        let mut main = lines.filter(|line| self.is_main(line));
        let first = main.next().and_then(|line| self.decision(line));
        first.is_some() && main.all(|line| self.decision(line) == first)
    }

    /// What the lines of a row come to together.
    pub(super) fn decided(&self, lines: &[(&Outcome, &Marks)]) -> Option<(Decided, Marks)> {
        let outcomes = lines.iter().map(|line| line.0);
        let (main, others): (Vec<_>, Vec<_>) = outcomes.partition(|line| self.is_main(line));
        let answers: Vec<_> = main.iter().map(|line| self.decision(line)).collect();
        let escalated = others.first().and_then(|line| self.decision(line));
        let is_left = escalated.is_none();
        let (mut label, mut by, mut agreement) = consensus(&answers, escalated);
        let abstain = self.reader.as_ref().and_then(Reader::abstain);
        if is_left
            && abstain.is_some()
            && main
                .iter()
                .all(|line| self.valid(line).as_deref() == abstain)
        {
            // That nobody can tell is what they agree on.
            (label, by, agreement) = (abstain.map(str::to_owned), DecidedBy::Unanimous, 1.0);
        }
        let row = Arc::clone(&lines.first()?.0.item.row);
        let mut marks = Marks::default();
        let is_known = lines.iter().any(|line| has_ended(line.0));
        for scorer in &self.scorers {
            let found = match scorer {
                _ if !is_known => Score::default(),
                // What somebody said of one answer is not said of what they all come to.
                Scorer::Judge(_) | Scorer::Command => Score::default(),
                Scorer::Matcher(matcher) => {
                    matcher.score(&row, label.as_deref(), self.reader.as_ref())
                }
            };
            marks.gold = marks.gold.or(found.expected);
            marks.scores.push(found.score);
        }
        let decided = Decided {
            row,
            label,
            by,
            agreement,
        };
        Some((decided, marks))
    }

    /// What the lines of a run are shown to, until they are figures. `scorers`: their names.
    pub(super) fn boards(&self, repeat: u32, scorers: &[String]) -> Option<Boards> {
        if self.is_idle() {
            return None;
        }
        let names = self.shape.entry_names();
        let main = self.shape.escalated().unwrap_or(names.len());
        let labels = match self.reader.as_ref().map(Reader::form) {
            Some(Form::Labels { labels, .. }) => Some(labels.clone()),
            _ => None,
        };
        let golden = self.scorers.iter().position(|scorer| match scorer {
            Scorer::Matcher(matcher) => matcher.expects(),
            _ => false,
        });
        let is_of_labels = golden.is_some_and(|at| match &self.scorers[at] {
            Scorer::Matcher(matcher) => matcher.is_of_labels(),
            _ => false,
        });
        let plan = BoardPlan {
            entries: names[..main].to_vec(),
            repeat,
            scorers: scorers.to_vec(),
            labels,
            abstain: self
                .reader
                .as_ref()
                .and_then(Reader::abstain)
                .map(str::to_owned),
            has_gold: is_of_labels,
        };
        let last = (main > 1 || repeat > 1) && self.reader.is_some();
        let golden = golden.filter(|_| is_of_labels);
        Some(Boards::new(plan, names.get(main), last, golden))
    }

    fn parts_of(&self, valid: Option<&str>) -> Vec<Option<String>> {
        if self.parts.is_empty() {
            return Vec::new();
        }
        let json: Value = valid
            .and_then(|valid| serde_json::from_str(valid).ok())
            .unwrap_or_default();
        let part = |pointer: &String| match json.pointer(pointer)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        self.parts.iter().map(part).collect()
    }
}
