//! `results.csv`: the input's columns unchanged, then what the run adds, so that no spreadsheet runs what a model wrote.

use std::borrow::Cow;

use super::cells::{Cell, added};
use super::formula::inert;
use crate::job::{CsvSafe, OutputPlan};
use crate::words::{Columns, ResultLine};

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
        let added = added(&self.plan, line).into_iter().map(shown);
        let added: Vec<Cow<'_, str>> = match self.plan.csv_safe {
            CsvSafe::Prefix => added.map(inert).collect(),
            CsvSafe::Off => added.collect(),
        };
        let cells = line.outcome.item.row.cells.iter().map(String::as_str);
        record(cells.chain(added.iter().map(|cell| &**cell)), out);
    }
}

fn shown(cell: Cell<'_>) -> Cow<'_, str> {
    let text = match cell {
        Cell::Text(text) => return text.unwrap_or_default(),
        Cell::Whole(number) => number.map(|number| number.to_string()),
        Cell::Money(amount) => amount.map(|amount| amount.to_string()),
        Cell::Score(score) => score.map(decimal),
    };
    text.unwrap_or_default().into()
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
    use crate::words::{Answer, Digest, Item, Marks, Outcome, Row};

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
