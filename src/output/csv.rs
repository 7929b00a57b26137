//! `results.csv`: the input's columns unchanged, then what the run adds, so that no spreadsheet runs what a model wrote.

use std::borrow::Cow;

use super::formula::inert;
use crate::job::{CsvSafe, OutputPlan};
use crate::words::{Attempt, Columns, Item, Marks, Outcome, ResultLine};

/// The file's name.
pub(super) const NAME: &str = "results.csv";

/// The lines of `results.csv`.
pub(super) struct Csv {
    /// What is added to each row, and what each line says.
    plan: OutputPlan,
}

impl Csv {
    /// As the job wants them.
    pub(super) fn new(plan: &OutputPlan) -> Self {
        Self { plan: plan.clone() }
    }

    /// The first line.
    pub(super) fn header(&self, columns: &Columns, out: &mut Vec<u8>) {
        let added = self.plan.result_columns();
        let header = columns.names().iter().chain(&added);
        record(header.map(String::as_str), out);
    }

    /// A row's line.
    pub(super) fn line(&self, line: &ResultLine<'_>, out: &mut Vec<u8>) {
        let mut added = vec![Cow::from(line.answer().unwrap_or_default())];
        added.extend(self.parts(line.marks));
        added.extend(about(line.outcome));
        added.extend(self.scores(line.marks));
        added.extend(self.place(&line.outcome.item));
        if self.plan.csv_safe == CsvSafe::Prefix {
            added = added.into_iter().map(inert).collect();
        }
        let cells = line.outcome.item.row.cells.iter().map(String::as_str);
        record(cells.chain(added.iter().map(|cell| &**cell)), out);
    }

    fn parts<'a>(&self, marks: &'a Marks) -> impl Iterator<Item = Cow<'a, str>> {
        let parts = (0..self.plan.parts.len()).map(|at| marks.parts.get(at)?.as_deref());
        parts.map(|part| part.unwrap_or_default().into())
    }

    /// The mean of the scores, and each of them where there are several.
    fn scores(&self, marks: &Marks) -> Vec<Cow<'static, str>> {
        let mut scores = Vec::new();
        if self.plan.has_scores() {
            scores.push(marks.score());
        }
        if self.plan.has_several_scores() {
            let each = (0..self.plan.scorers.len()).map(|at| marks.scores.get(at));
            scores.extend(each.map(|score| score.copied().flatten()));
        }
        let shown = |score: Option<f64>| score.map(decimal).unwrap_or_default();
        let scores = scores.into_iter().map(shown);
        scores.map(Cow::from).collect()
    }

    /// Which answer to the row it is, where there are several.
    fn place(&self, item: &Item) -> impl Iterator<Item = Cow<'_, str>> {
        let entry = self.plan.has_entries().then(|| {
            let name = self.plan.entries.get(item.entry as usize);
            name.map(|name| &**name).unwrap_or_default().into()
        });
        let repeat = self.plan.has_repeats();
        let repeat = repeat.then(|| (u64::from(item.repeat) + 1).to_string().into());
        entry.into_iter().chain(repeat)
    }
}

/// How it came to the answer: what every job's results say.
fn about(outcome: &Outcome) -> [Cow<'_, str>; 9] {
    let usage = outcome.usage().unwrap_or_default();
    let last = outcome.deciding();
    let text = |text: fn(&Attempt) -> Option<&str>| last.and_then(text).unwrap_or_default();
    let paid = outcome.paid();
    let failure = outcome.failure();
    [
        outcome.status.as_str().into(),
        text(|attempt| Some(&attempt.backend)).into(),
        text(|attempt| attempt.model.as_deref()).into(),
        outcome.requests().to_string().into(),
        number(usage.input_tokens),
        number(usage.output_tokens),
        number(paid),
        number(last.map(|attempt| attempt.latency.as_millis())),
        failure.map_or(Cow::from(""), |(kind, text)| {
            format!("{kind}: {text}").into()
        }),
    ]
}

fn number(number: Option<impl ToString>) -> Cow<'static, str> {
    number
        .map(|number| number.to_string())
        .unwrap_or_default()
        .into()
}

/// A score for people: at most six decimals, and none that say nothing.
fn decimal(score: f64) -> String {
    let text = format!("{score:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn quoted(cell: &str) -> String {
    format!("\"{}\"", cell.replace('"', "\"\""))
}

/// Adds a line with these cells, of which there are several.
pub(super) fn record<'a>(cells: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let is_special = |byte| matches!(byte, b',' | b'"' | b'\r' | b'\n');
        match cell.bytes().any(is_special) {
            true => out.extend_from_slice(quoted(cell).as_bytes()),
            false => out.extend_from_slice(cell.as_bytes()),
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::output::Frame;
    use crate::output::jsonl::Jsonl;
    use crate::words::{Answer, Columns, Digest, Row};

    fn said(text: &str) -> Outcome {
        let row = Row {
            index: 0,
            id: "1".to_owned(),
            columns: Columns::new(vec!["x".to_owned()]).into(),
            cells: vec!["=1".to_owned()],
            key: Digest::default(),
        };
        Outcome {
            answer: Some(Answer {
                text: text.to_owned(),
                finish_reason: None,
            }),
            ..Outcome::not_run(Item::of(Arc::new(row)))
        }
    }

    #[test]
    fn a_cell_is_quoted_where_a_reader_would_take_it_for_more_than_one() {
        let cells = [
            "a b",
            "",
            "1,5",
            "say \"x\"",
            "\"",
            "two\nlines",
            "\r",
            " é;'\t",
        ];
        let (mut line, mut expected) = (Vec::new(), csv::Writer::from_writer(Vec::new()));
        record(cells.into_iter(), &mut line);
        expected.write_record(cells).unwrap();
        assert_eq!(line, expected.into_inner().unwrap());
    }

    #[test]
    fn what_the_job_makes_of_an_answer_stands_in_columns_of_its_own() {
        let outcome = said("{\"a\": \"=A1\"}");
        let marks = Marks {
            value: Some("yes".to_owned()),
            parts: vec![Some("=A1".to_owned()), None],
            scores: vec![Some(1.0), Some(0.5), None],
            ..Marks::default()
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let frame = Frame {
            prefix: "p_".to_owned(),
            parts: names(&["a", "b"]),
            scorers: names(&["first", "second", "third"]),
            csv_safe: CsvSafe::Prefix,
            ..Frame::default()
        };
        let plan = frame.output("out".as_ref());
        let result = ResultLine {
            outcome: &outcome,
            marks: &marks,
        };
        let (mut csv, mut json) = (Vec::new(), Vec::new());
        Csv::new(&plan).header(&outcome.item.row.columns, &mut csv);
        Csv::new(&plan).line(&result, &mut csv);
        assert_eq!(
            String::from_utf8(csv).unwrap(),
            "x,p_answer,a,b,p_run_status,p_run_backend,p_run_model,p_run_attempts,p_run_input_tokens,p_run_output_tokens,\
             p_run_cost_usd,p_run_latency_ms,p_run_error,p_run_score,p_run_score_first,p_run_score_second,p_run_score_third\n\
             =1,yes,'=A1,,not_run,,,0,,,0.00,,,0.75,1,0.5,\n"
        );
        Jsonl::new(&plan).line(&result, &mut json);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["answer"], "yes");
        assert_eq!(json["answer_text"], "{\"a\": \"=A1\"}");
        assert_eq!(json["parts"], serde_json::json!({ "a": "=A1", "b": null }));
        let scores = serde_json::json!({ "first": 1.0, "second": 0.5, "third": null });
        assert_eq!(json["scores"], scores);
    }
}
