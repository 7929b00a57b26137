//! The files that a run publishes, read back by other means than they were written, and audited: each
//! says the same as the others, and every total is the exact sum of the attempts.

#![allow(dead_code, reason = "each test binary uses another part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// The columns that the runner adds, as the contract names them.
pub const ADDED: [&str; 10] = [
    "answer",
    "run_status",
    "run_backend",
    "run_model",
    "run_attempts",
    "run_input_tokens",
    "run_output_tokens",
    "run_cost_usd",
    "run_latency_ms",
    "run_error",
];

/// The columns after those, where there are several entries or repeats.
const COUNTED: [&str; 2] = ["run_entry", "run_repeat"];

/// The entry of who is asked where the others disagree.
const ESCALATED: &str = "escalated";

const STATUSES: [&str; 9] = [
    "answered",
    "truncated",
    "refused",
    "filtered",
    "invalid",
    "empty",
    "failed",
    "skipped_budget",
    "not_run",
];

/// Everything in an output directory.
pub struct Published {
    /// The header of `results.csv`.
    pub header: Vec<String>,
    /// The records of `results.csv`.
    pub csv: Vec<Vec<String>>,
    /// The lines of `results.jsonl`.
    pub lines: Vec<Value>,
    /// `report.json`
    pub report: Value,
}

impl Published {
    /// Reads a directory that both formats were written to without a prefix, and audits it.
    #[track_caller]
    pub fn read(dir: &Path, code: i32) -> Self {
        let (header, csv) = read_csv(&dir.join("results.csv"));
        let published = Self {
            header,
            csv,
            lines: read_jsonl(&dir.join("results.jsonl")),
            report: read_report(dir),
        };
        published.audit(code);
        published
    }

    /// The value of this field in each line, as text.
    pub fn field(&self, name: &str) -> Vec<&str> {
        self.lines
            .iter()
            .map(|line| line[name].as_str().unwrap_or("(none)"))
            .collect()
    }

    pub fn statuses(&self) -> Vec<&str> {
        self.field("status")
    }

    pub fn answers(&self) -> Vec<&str> {
        self.field("answer")
    }

    /// How many rows ended in each status.
    pub fn count(&self, status: &str) -> usize {
        self.statuses().iter().filter(|s| **s == status).count()
    }

    /// The column of `results.csv`.
    #[track_caller]
    pub fn column(&self, name: &str) -> Vec<&str> {
        let position = self.header.iter().position(|column| column == name);
        let position = position.unwrap_or_else(|| panic!("no column {name}"));
        self.csv.iter().map(|record| &*record[position]).collect()
    }

    /// The attempts of a row as `backend kind class`, such as `a retry server` or `b fallback ok`.
    pub fn attempts(&self, row: usize) -> Vec<String> {
        let word = |value: &Value, none: &str| value.as_str().unwrap_or(none).to_owned();
        list(&self.lines[row]["attempts"])
            .iter()
            .map(|attempt| {
                let backend = word(&attempt["backend"], "?");
                let kind = word(&attempt["kind"], "?");
                format!("{backend} {kind} {}", word(&attempt["class"], "ok"))
            })
            .collect()
    }

    #[track_caller]
    fn audit(&self, code: i32) {
        let report = &self.report;
        let counted: Vec<&str> = COUNTED
            .into_iter()
            .filter(|column| self.header.iter().any(|name| name == column))
            .collect();
        let first = |name: &str, none: usize| {
            let found = self.header.iter().rposition(|column| column == name);
            found.unwrap_or(none)
        };
        // Between the answer and its status stand its parts, between its error and what is counted its scores.
        let inputs = first("answer", 0);
        let status = first("run_status", 0);
        let error = first("run_error", 0);
        let counts = self.header.len() - counted.len();
        let (parts, scores) = (inputs + 1..status, error + 1..counts);
        let about = [&self.header[inputs..=inputs], &self.header[status..=error]].concat();
        assert_eq!(about, ADDED);
        assert_eq!(self.header[counts..], counted);
        assert_eq!(self.csv.len(), self.lines.len());
        assert_eq!(report["rows"]["total"], self.lines.len());
        assert_eq!(report["exit_code"], code);
        for status in STATUSES {
            assert_eq!(report["rows"]["by_status"][status], self.count(status));
        }
        for (record, line) in self.csv.iter().zip(&self.lines) {
            let about = [&record[..=inputs], &record[status..=error]].concat();
            agree(&self.header[..inputs], &about, line);
            for (column, cell) in self
                .header
                .iter()
                .zip(record)
                .take(parts.end)
                .skip(parts.start)
            {
                assert!(shows(cell, &plain(&line["parts"][column])), "{column}");
            }
            agree_in_scores(&self.header[scores.clone()], &record[scores.clone()], line);
            for (column, cell) in counted.iter().zip(&record[counts..]) {
                let field = &line[column.trim_start_matches("run_")];
                assert_eq!(plain(field), *cell, "{column}");
            }
        }
        self.audit_entries();
        self.audit_money();
    }

    /// Lines come by row, then entry, then repeat, and the report counts the rows and each entry. Who is asked last
    /// has lines of only some rows.
    #[track_caller]
    fn audit_entries(&self) {
        let is_main = |line: &&Value| line["entry"] != ESCALATED;
        let main: Vec<&Value> = self.lines.iter().filter(is_main).collect();
        let mut entries: Vec<&Value> = Vec::new();
        for line in &main {
            if !entries.contains(&&line["entry"]) {
                entries.push(&line["entry"]);
            }
        }
        let repeats = main.iter().map(|line| &line["repeat"]);
        let repeats = repeats.filter_map(Value::as_u64).max().unwrap_or(1);
        let lines = entries.len() as u64 * repeats;
        let inputs = (main.len() as u64).checked_div(lines).unwrap_or(0);
        assert_eq!(self.report["rows"]["inputs"], inputs);
        for (number, line) in (0..).zip(&main) {
            let entry = number / repeats % entries.len() as u64;
            assert_eq!(&line["entry"], entries[entry as usize], "line {number}");
            assert_eq!(line["repeat"], number % repeats + 1, "line {number}");
        }
        let reported = self.report.get("entries").map(object);
        assert_eq!(reported.is_some(), entries.len() > 1, "entries");
        for (name, entry) in reported.into_iter().flatten() {
            let lines = match name == ESCALATED {
                true => self.lines.len() - main.len(),
                false => main.len() / entries.len(),
            };
            assert_eq!(entry["rows"]["total"], lines, "{name}");
        }
    }

    #[track_caller]
    fn audit_money(&self) {
        let attempts: Vec<&Value> = self
            .lines
            .iter()
            .flat_map(|line| list(&line["attempts"]))
            .collect();
        let mut by = [(); 3].map(|()| BTreeMap::<String, i128>::new());
        let mut kinds = BTreeMap::<String, u64>::new();
        let (mut total, mut possibly, mut saved) = (0, 0, 0);
        for attempt in &attempts {
            let paid = attempt["cost_usd"].as_str().map_or(0, units);
            total += paid;
            possibly += attempt["possibly_billed_usd"].as_str().map_or(0, units);
            let kind = attempt["kind"].as_str().expect("a kind");
            *kinds.entry(kind.to_owned()).or_default() += 1;
            if !is_request(attempt) {
                // Nothing was sent, so that nothing was used or paid.
                assert_eq!(attempt["cost_usd"], "0.00", "{attempt}");
                assert_eq!(attempt["latency_ms"], 0, "{attempt}");
                assert!(attempt["usage"].is_null(), "{attempt}");
                saved += attempt["saved_usd"].as_str().map_or(0, units);
                continue;
            }
            assert!(attempt.get("saved_usd").is_none(), "{attempt}");
            let keys = ["backend", "model", "kind"];
            for (sums, key) in by.iter_mut().zip(keys) {
                let key = attempt[key].as_str().unwrap_or("(not named)");
                *sums.entry(key.to_owned()).or_default() += paid;
            }
        }
        let report = &self.report;
        let cost = &report["cost"];
        let rows: i128 = self
            .lines
            .iter()
            .map(|line| line["cost_usd"].as_str().map_or(0, units))
            .sum();
        assert_eq!(rows, total, "the rows' costs");
        // What was spent on rows that are not in the job any more is in the totals and in no line.
        let removed = report["attempts"]["removed_rows"]
            .as_u64()
            .expect("a count");
        let total = total + units(text(&cost["removed_rows_usd"]));
        // Nor is what was asked about answers, or of those who decide where they are needed no more.
        let set_aside = units(text(&cost["set_aside_usd"]));
        let total = total + set_aside;
        let about = report["attempts"]["by_use"]["overhead"]
            .as_u64()
            .expect("a count");
        let total = total + units(text(&cost["by_use"]["overhead"]));
        let counts_all = removed + about == 0 && set_aside == 0;
        assert_eq!(units(text(&cost["total_usd"])), total, "total_usd");
        let names = ["by_backend", "by_model", "by_kind"];
        for (sums, name) in by.iter().zip(names) {
            let reported = object(&cost[name]);
            let all: i128 = reported.values().map(|paid| units(text(paid))).sum();
            assert_eq!(all, total, "{name}");
            for (key, sum) in sums {
                let reported = units(text(&reported[key]));
                assert!(reported >= *sum, "{name} {key}");
                assert!(reported == *sum || !counts_all, "{name} {key}");
            }
        }
        self.audit_uses(total);
        let charged = list(&report["prices"]).iter();
        let charged: i128 = charged.map(|price| units(text(&price["usd"]))).sum();
        assert_eq!(charged, total, "prices");
        // Attempts that a kill has cut are in the report, and in no line of a row that was asked again.
        let interrupted = report["attempts"]["interrupted"].as_u64().expect("a count");
        let reported = units(text(&cost["possibly_billed_usd"]));
        assert!(reported >= possibly, "possibly_billed_usd");
        assert!(
            reported == possibly || !counts_all || interrupted > 0,
            "possibly_billed_usd"
        );
        assert_eq!(units(text(&cost["saved_usd"])), saved, "saved_usd");
        // Only what was sent counts as an attempt.
        let attempts: Vec<_> = attempts.into_iter().filter(|a| is_request(a)).collect();
        let by_backend = object(&report["attempts"]["by_backend"]).values();
        let by_backend: u64 = by_backend.filter_map(|line| line["total"].as_u64()).sum();
        assert_eq!(report["attempts"]["total"], by_backend);
        let all = attempts.len() as u64 + removed + about;
        let total = report["attempts"]["total"].as_u64().expect("a count");
        assert!(total == all || (set_aside > 0 && total > all), "attempts");
        let by_kind = |kind: &str| report["attempts"]["by_kind"][kind].as_u64().unwrap_or(0);
        for (kind, count) in kinds {
            assert!(
                by_kind(&kind) == count || (!counts_all && by_kind(&kind) > count),
                "{kind}"
            );
        }
        let failed = attempts.iter().filter(|a| !a["class"].is_null()).count() as u64;
        let reported = report["attempts"]["failed"].as_u64().expect("a count");
        assert!(
            reported == failed || (!counts_all && reported > failed),
            "failed"
        );
    }
}

impl Published {
    /// What was paid for, and what it was good for, come to the total; and what follows from that.
    #[track_caller]
    fn audit_uses(&self, total: i128) {
        let cost = &self.report["cost"];
        let sum = |name: &str| -> i128 {
            let parts = object(&cost[name]).values();
            parts.map(|paid| units(text(paid))).sum()
        };
        assert_eq!(cost["unexplained_usd"], "0.00");
        assert_eq!(sum("by_token_class"), total, "by_token_class");
        assert_eq!(sum("by_use"), total, "by_use");
        let useful = units(text(&cost["by_use"]["useful"]));
        let about = units(text(&cost["by_use"]["overhead"]));
        assert_eq!(units(text(&cost["wasted_usd"])), total - useful - about);
        let uses = object(&self.report["attempts"]["by_use"]).values();
        let uses: u64 = uses.filter_map(Value::as_u64).sum();
        assert_eq!(self.report["attempts"]["total"], uses);
        let left = ["failed", "skipped_budget", "not_run"];
        let left: usize = left.iter().map(|status| self.count(status)).sum();
        assert_eq!(cost["rows_left"], left);
        if let Some(each) = cost["per_answered_row_usd"].as_str() {
            // Rounded to the nearest unit.
            let answered = self.count("answered") as i128;
            let off = units(each) * answered - total;
            assert!(off.abs() * 2 <= answered, "{each} of {answered}");
        }
    }
}

/// Both forms of a row say the same.
#[track_caller]
fn agree(inputs: &[String], record: &[String], line: &Value) {
    assert_eq!(record.len(), inputs.len() + ADDED.len(), "{line}");
    let row: Map<String, Value> = inputs
        .iter()
        .cloned()
        .zip(record.iter().cloned().map(Value::from))
        .collect();
    assert_eq!(line["row"], Value::from(row));
    let attempts = list(&line["attempts"]);
    let usage = |class: &str| -> Option<u64> {
        let counts = attempts.iter().filter_map(|a| a["usage"][class].as_u64());
        counts.fold(None, |sum, count| Some(sum.unwrap_or(0) + count))
    };
    let number = |count: Option<u64>| count.map_or(String::new(), |count| count.to_string());
    let costs: i128 = attempts
        .iter()
        .filter_map(|attempt| attempt["cost_usd"].as_str())
        .map(units)
        .sum();
    if let Some(cost) = line["cost_usd"].as_str() {
        assert_eq!(units(cost), costs, "{line}");
    }
    // An answer that is not valid is the row's also if no better one could be had.
    let invalid = |attempt: &&Value| attempt["class"] == "invalid";
    let last = match line["status"] == "invalid" {
        true => attempts.iter().rfind(invalid),
        false => None,
    };
    let last = last.or(attempts.last()).unwrap_or(&Value::Null);
    for field in ["backend", "model", "latency_ms"] {
        assert_eq!(line[field], last[field], "{field}");
    }
    let error = match &line["error"] {
        Value::Null => String::new(),
        error => format!("{}: {}", text(&error["kind"]), text(&error["message"])),
    };
    let expected = [
        plain(&line["answer"]),
        plain(&line["status"]),
        plain(&line["backend"]),
        plain(&line["model"]),
        attempts
            .iter()
            .filter(|a| is_request(a))
            .count()
            .to_string(),
        number(usage("input_tokens")),
        number(usage("output_tokens")),
        plain(&line["cost_usd"]),
        plain(&line["latency_ms"]),
        error,
    ];
    for (cell, expected) in record[inputs.len()..].iter().zip(expected) {
        assert!(shows(cell, &expected), "{cell:?} in {line}");
    }
}

/// Whether a cell says this, be it behind an apostrophe that keeps it from being a formula.
fn shows(cell: &str, said: &str) -> bool {
    let behind = cell.strip_prefix('\'') == Some(said);
    let sign = |c: char| "=+-@|%＝＋－＠｜％﹦﹢﹣﹫".contains(c);
    cell == said || behind && said.contains(sign)
}

/// The scores of a row in both forms.
#[track_caller]
fn agree_in_scores(header: &[String], cells: &[String], line: &Value) {
    let scores = object(&line["scores"]);
    let several = if scores.len() > 1 { scores.len() } else { 0 };
    assert_eq!(header.len(), several + usize::from(!scores.is_empty()));
    let shown = |score: Option<f64>| score.map_or(String::new(), |score| format!("{score:.6}"));
    let known: Vec<f64> = scores.values().filter_map(Value::as_f64).collect();
    let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
    for (column, cell) in header.iter().zip(cells) {
        let score = match column.strip_prefix("run_score_") {
            Some(name) => scores[name].as_f64(),
            None => mean,
        };
        let cell: Option<f64> = (!cell.is_empty()).then(|| cell.parse().expect("a number"));
        assert_eq!(shown(cell), shown(score), "{column}");
    }
}

/// Whether a request was made for this attempt.
fn is_request(attempt: &Value) -> bool {
    attempt["kind"] != "cache" && attempt["kind"] != "duplicate"
}

/// As a cell says it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The header and the records of a CSV file.
#[track_caller]
pub fn read_csv(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let bytes = fs::read(path).expect("results.csv is there");
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(&bytes[..]);
    let record = |record: Result<csv::StringRecord, csv::Error>| -> Vec<String> {
        let record = record.expect("results.csv is sound");
        record.iter().map(str::to_owned).collect()
    };
    let mut records: Vec<Vec<String>> = reader.records().map(record).collect();
    (records.remove(0), records)
}

/// The lines of a JSONL file.
#[track_caller]
pub fn read_jsonl(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("results.jsonl is there");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

/// `report.json` of an output directory.
#[track_caller]
pub fn read_report(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("report.json")).expect("report.json is there");
    serde_json::from_str(&text).expect("report.json is JSON")
}

/// An exact amount of dollars in units of 10⁻¹⁵.
#[track_caller]
pub fn units(usd: &str) -> i128 {
    let (whole, fraction) = usd.split_once('.').expect("a decimal point");
    assert!(fraction.len() <= 15 && !whole.starts_with('-'), "{usd}");
    format!("{whole}{fraction:0<15}").parse().expect(usd)
}

#[track_caller]
fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[track_caller]
fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}
