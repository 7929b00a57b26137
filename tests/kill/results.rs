//! The results of a run, but for what may differ from one run to the next.

use std::fs;
use std::path::Path;

/// Both results files, without latencies, which are measurements.
#[derive(Debug)]
pub struct Results {
    csv: String,
    jsonl: String,
    /// Whether the server fails now and then. A row whose first attempt failed before the kill has one more
    /// than if it had not, so that attempts are left out as well.
    pub fails: bool,
}

impl Results {
    /// Reads an output directory.
    pub fn read(out: &Path, fails: bool) -> Self {
        let read = |name| fs::read_to_string(out.join(name)).expect("the results are there");
        Self {
            csv: without_columns(&read("results.csv"), fails),
            jsonl: without_fields(&read("results.jsonl"), fails),
            fails,
        }
    }

    /// The first line that is another in these, if there is one.
    pub fn difference(&self, expected: &Self) -> Option<String> {
        let csv = difference(&self.csv, &expected.csv, "results.csv");
        csv.or_else(|| difference(&self.jsonl, &expected.jsonl, "results.jsonl"))
    }
}

fn without_columns(text: &str, fails: bool) -> String {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().expect("a header").clone();
    let left_out: &[&str] = match fails {
        true => &["run_latency_ms", "run_attempts"],
        false => &["run_latency_ms"],
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&header).expect("a header");
    for record in reader.records() {
        let record = record.expect("results.csv is sound");
        let cells = header.iter().zip(&record);
        let cells = cells.map(|(name, cell)| if left_out.contains(&name) { "" } else { cell });
        writer.write_record(cells).expect("a record");
    }
    String::from_utf8(writer.into_inner().expect("the CSV")).expect("results.csv is UTF-8")
}

/// Takes the number after each `"latency_ms":` away, and touches nothing else but the attempts.
fn without_fields(text: &str, fails: bool) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        let attempts = line.find(",\"attempts\":").filter(|_| fails);
        let mut parts = line[..attempts.unwrap_or(line.len())].split("\"latency_ms\":");
        kept.push_str(parts.next().unwrap_or_default());
        for part in parts {
            kept.push_str("\"latency_ms\":");
            kept.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        kept.push('\n');
    }
    kept
}

fn difference(found: &str, expected: &str, name: &str) -> Option<String> {
    let mut lines = found.lines().zip(expected.lines()).zip(1..);
    match lines.find(|((found, expected), _)| found != expected) {
        Some(((found, expected), line)) => Some(format!(
            "line {line} of {name} is\n{found}\nand not\n{expected}"
        )),
        None if found == expected => None,
        None => Some(format!(
            "{name} has {} bytes, not {}",
            found.len(),
            expected.len()
        )),
    }
}
