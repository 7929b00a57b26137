//! Lines of the results to look at: the telling ones, and a fair sample of the rest. In bounded memory, and the same
//! of the same run: which lines are taken follows from what the rows are, not from chance.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::words::{Digest, Item, ResultLine, Status};

/// So many lines are shown.
const SHOWN: usize = 200;
/// So many of each kind of failure.
const OF_A_FAILURE: usize = 8;
/// So many answers that are not wholly right, the worst first.
const WRONG: usize = 60;
/// So many answers to rows of which there are others.
const DISAGREEING: usize = 40;
/// So many answers to one of these rows.
const OF_A_ROW: usize = 6;
/// The longest text that is kept, in bytes: more than is shown.
const LONGEST: usize = 700;
/// So many cells of a row are kept.
const CELLS: usize = 12;

/// A line of the results, as much of it as is shown.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) id: String,
    pub(super) entry: u32,
    pub(super) repeat: u32,
    /// The columns of the input and what they hold.
    pub(super) cells: Vec<(String, String)>,
    /// How many more of them there are.
    pub(super) more_cells: usize,
    pub(super) answer: Option<String>,
    pub(super) gold: Option<String>,
    pub(super) score: Option<f64>,
    /// What the scorers say of it.
    pub(super) remarks: Vec<String>,
    pub(super) status: Status,
    pub(super) error: Option<String>,
    /// Whether another answer to the same row says something else.
    pub(super) disagrees: bool,
}

/// A line by its place in the results, and before that what chooses it: how bad it is, and a number that is as good as random.
type Place = (u64, u64, u64);

/// Lines to look at, while the results pass by.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    /// Whether there are several answers to a row.
    several: bool,
    lines: u64,
    failures: BTreeMap<&'static str, Few>,
    wrong: Few,
    disagreeing: Few,
    all: Few,
    row: Answers,
}

/// The first few of many, by their place.
#[derive(Debug, Clone, Default)]
struct Few(BTreeMap<Place, Sample>);

/// The answers to the row that passes by.
#[derive(Debug, Clone, Default)]
struct Answers {
    row: u64,
    said: Option<u64>,
    differ: bool,
    lines: Vec<(Place, Sample)>,
}

impl Samples {
    /// Of a run that has one answer to each row, or several.
    pub(super) fn new(several: bool) -> Self {
        Self {
            several,
            ..Self::default()
        }
    }

    /// Looks at a line. They come row by row.
    pub(super) fn add(&mut self, line: &ResultLine<'_>) {
        let item = &line.outcome.item;
        let place = (0, rank(item, true), self.lines);
        self.lines += 1;
        self.all.offer(SHOWN, place, || Sample::of(line));
        let score = line.marks.score();
        if let Some((kind, _)) = line.outcome.failure() {
            let few = self.failures.entry(kind).or_default();
            few.offer(OF_A_FAILURE, place, || Sample::of(line));
        } else if let Some(score) = score.filter(|score| *score < 1.0) {
            let badness = (score.clamp(0.0, 1.0) * 1e6) as u64;
            let place = (badness, place.1, place.2);
            self.wrong.offer(WRONG, place, || Sample::of(line));
        }
        if !self.several {
            return;
        }
        if item.row.index != self.row.row {
            self.end_row();
            self.row.row = item.row.index;
        }
        self.row.add(line, place.2);
    }

    fn end_row(&mut self) {
        for (place, sample) in std::mem::take(&mut self.row).disagreeing() {
            self.disagreeing.offer(DISAGREEING, place, || sample);
        }
    }

    /// The chosen lines, in the order of the results.
    pub(super) fn chosen(&self) -> Vec<Sample> {
        let mut ended = self.clone();
        ended.end_row();
        let failures = ended.failures.values().flat_map(|few| &few.0);
        let telling = failures.chain(&ended.wrong.0).chain(&ended.disagreeing.0);
        let disagreeing: BTreeSet<u64> = ended.disagreeing.0.keys().map(|place| place.2).collect();
        let mut chosen = BTreeMap::new();
        for ((_, _, line), sample) in telling.chain(&ended.all.0) {
            if chosen.len() < SHOWN {
                chosen.entry(*line).or_insert(sample);
            }
        }
        let chosen = chosen.into_iter().map(|(line, sample)| Sample {
            disagrees: disagreeing.contains(&line),
            ..sample.clone()
        });
        chosen.collect()
    }

    /// How many lines there were to choose from.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }
}

impl Few {
    /// Keeps the line if it is among the first so many.
    fn offer(&mut self, most: usize, place: Place, sample: impl FnOnce() -> Sample) {
        if self.0.len() >= most {
            match self.0.last_entry() {
                Some(last) if *last.key() > place => drop(last.remove()),
                _ => return,
            }
        }
        self.0.insert(place, sample());
    }
}

impl Answers {
    fn add(&mut self, line: &ResultLine<'_>, number: u64) {
        let item = &line.outcome.item;
        if line.outcome.status == Status::Answered {
            let mut hasher = DefaultHasher::new();
            line.answer().hash(&mut hasher);
            let said = hasher.finish();
            self.differ |= *self.said.get_or_insert(said) != said;
        }
        if self.lines.len() < OF_A_ROW {
            self.lines
                .push(((0, rank(item, false), number), Sample::of(line)));
        }
    }

    /// The answers, if they differ.
    fn disagreeing(self) -> Vec<(Place, Sample)> {
        if self.differ { self.lines } else { Vec::new() }
    }
}

impl Sample {
    fn of(line: &ResultLine<'_>) -> Self {
        let (outcome, marks) = (line.outcome, line.marks);
        let row = &outcome.item.row;
        let cells = row.columns.names().iter().zip(&row.cells);
        let remarks = marks.remarks.iter().flatten();
        Self {
            id: cut(&row.id),
            entry: outcome.item.entry,
            repeat: outcome.item.repeat,
            cells: cells
                .take(CELLS)
                .map(|(name, cell)| (cut(name), cut(cell)))
                .collect(),
            more_cells: row.cells.len().saturating_sub(CELLS),
            answer: line.answer().map(cut),
            gold: marks.gold.as_deref().map(cut),
            score: marks.score(),
            remarks: remarks.take(CELLS).map(|text| cut(text)).collect(),
            status: outcome.status,
            error: outcome
                .failure()
                .map(|(kind, text)| format!("{kind}: {}", cut(text))),
            disagrees: false,
        }
    }

    /// Whether it is answered, but not wholly right.
    pub(super) fn is_wrong(&self) -> bool {
        self.status == Status::Answered && self.score.is_some_and(|score| score < 1.0)
    }
}

/// As good as random, but the same whenever it is asked: of the row, or of this answer to it.
fn rank(item: &Item, of_the_answer: bool) -> u64 {
    let which = match of_the_answer {
        true => [item.entry, item.repeat],
        false => [u32::MAX; 2],
    };
    let [entry, repeat] = which.map(u32::to_le_bytes);
    let digest = Digest::of([item.row.key.as_ref(), &entry, &repeat]);
    let bytes = digest.as_ref().iter().take(8);
    bytes.fold(0, |rank, byte| rank << 8 | u64::from(*byte))
}

fn cut(text: &str) -> String {
    match text.len() {
        0..=LONGEST => text.to_owned(),
        _ => text[..text.floor_char_boundary(LONGEST)].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::words::{Answer, Columns, Marks, Outcome, Row};

    /// A thousand rows to two entries: one in a hundred is not asked, one in ten is wrong, and one row is answered in two ways.
    fn samples() -> Samples {
        let columns = Arc::new(Columns::new(Vec::new()));
        let mut samples = Samples::new(true);
        for index in 0..1000_u64 {
            let row = Arc::new(Row {
                index,
                id: index.to_string(),
                columns: Arc::clone(&columns),
                cells: Vec::new(),
                key: Digest::of([index.to_le_bytes()]),
            });
            for entry in 0..2 {
                let text = if index == 321 {
                    format!("{entry}")
                } else {
                    "same".to_owned()
                };
                let mut outcome = Outcome {
                    status: Status::Answered,
                    answer: Some(Answer {
                        text,
                        finish_reason: None,
                    }),
                    ..Outcome::not_run(Item::of(Arc::clone(&row)))
                };
                if index % 100 == 50 {
                    outcome.status = Status::SkippedBudget;
                    outcome.answer = None;
                    outcome.error = Some("no money".to_owned());
                }
                outcome.item.entry = entry;
                let score = match index {
                    777 => 0.0,
                    _ if index % 10 == 0 => 0.5,
                    _ => 1.0,
                };
                let marks = Marks {
                    scores: vec![Some(score)],
                    ..Marks::default()
                };
                samples.add(&ResultLine {
                    outcome: &outcome,
                    marks: &marks,
                });
            }
        }
        samples
    }

    #[test]
    fn what_is_telling_is_shown_and_of_the_rest_always_the_same() {
        let (chosen, again) = (samples().chosen(), samples().chosen());
        let ids = |chosen: &[Sample]| -> Vec<u64> {
            chosen
                .iter()
                .map(|sample| sample.id.parse().unwrap())
                .collect()
        };
        assert_eq!(ids(&chosen), ids(&again));
        assert_eq!((chosen.len(), samples().lines()), (SHOWN, 2000));
        assert!(ids(&chosen).is_sorted(), "in the order of the results");
        let count = |is_so: &dyn Fn(&&Sample) -> bool| chosen.iter().filter(is_so).count();
        assert!(count(&|sample| sample.status == Status::SkippedBudget) >= OF_A_FAILURE);
        assert!(count(&|sample| sample.is_wrong()) >= WRONG);
        assert_eq!(count(&|sample| sample.id == "777"), 2, "the worst");
        let differing: Vec<_> = chosen.iter().filter(|sample| sample.disagrees).collect();
        let [one, other] = differing[..] else {
            panic!("{differing:?}");
        };
        assert_eq!((&*one.id, &*other.id), ("321", "321"));
        // The rest is from everywhere.
        let plain: Vec<u64> = chosen
            .iter()
            .filter(|sample| sample.score == Some(1.0))
            .map(|sample| sample.id.parse().unwrap())
            .collect();
        let mean = plain.iter().sum::<u64>() / plain.len() as u64;
        assert!((400..600).contains(&mean), "{mean}");
    }
}
