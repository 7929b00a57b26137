//! Lines of the results to look at, and to search.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::parts::{escape, escape_lines, escape_name, paragraph};
use crate::output::figures::figure;
use crate::output::report::Report;
use crate::output::samples::Sample;
use crate::words::Status;

/// So many bytes of lines are shown at most: a page stays one that can be sent.
const MOST_BYTES: usize = 3_000_000;

/// The table and what searches it; nothing of a run without lines.
pub(super) fn samples(report: &Report) -> String {
    let samples = report.samples.chosen();
    let Some(columns) = Columns::of(&samples) else {
        return String::new();
    };
    let (mut lines, mut shown) = (String::new(), 0_u64);
    for sample in &samples {
        let line = line(sample, &columns, report);
        if lines.len() + line.len() > MOST_BYTES {
            break;
        }
        lines.push_str(&line);
        shown += 1;
    }
    let all = report.samples.lines();
    let said = match shown == all {
        true => format!(
            "All {all} lines of the results. Long texts are cut; they are whole in the results."
        ),
        false => format!(
            "{shown} of the {all} lines of the results: of each kind of failure, of answers that are wrong or contradict each \
             other, and of the rest by chance. Long texts are cut; they are whole in the results."
        ),
    };
    let heads: String = columns
        .names()
        .map(|name| format!("<th scope=\"col\">{name}</th>"))
        .collect();
    format!(
        "{}{}<div class=\"wide\"><table class=\"samples\" id=\"samples\">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table></div>\n",
        paragraph(&said),
        tools(&samples),
    )
}

/// Which columns have anything in them.
struct Columns {
    expected: bool,
    score: bool,
}

impl Columns {
    fn of(samples: &[Sample]) -> Option<Self> {
        (!samples.is_empty()).then(|| Self {
            expected: samples.iter().any(|sample| sample.gold.is_some()),
            score: samples.iter().any(|sample| sample.score.is_some()),
        })
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("row", true),
            ("input", true),
            ("answer", true),
            ("expected", self.expected),
            ("score", self.score),
            ("status", true),
        ];
        all.into_iter()
            .filter_map(|(name, there)| there.then_some(name))
    }
}

/// What searches the table: it shows itself where scripts run.
fn tools(samples: &[Sample]) -> String {
    let statuses: BTreeSet<Status> = samples.iter().map(|sample| sample.status).collect();
    let mut kinds: Vec<&str> = statuses.into_iter().map(Status::as_str).collect();
    kinds.extend(samples.iter().any(Sample::is_wrong).then_some("wrong"));
    kinds.extend(
        samples
            .iter()
            .any(|sample| sample.disagrees)
            .then_some("disagreeing"),
    );
    let option = |kind: &&str| {
        format!(
            "<option value=\"{kind}\">{}</option>",
            kind.replace('_', " ")
        )
    };
    let options: String = kinds.iter().map(option).collect();
    format!(
        "<div class=\"tools\" id=\"tools\" hidden>\n<label>Search <input id=\"search\" type=\"search\" autocomplete=\"off\"></label>\n\
         <label>Show <select id=\"kind\"><option value=\"\">all</option>{options}</select></label>\n\
         <output id=\"found\"></output>\n</div>\n"
    )
}

fn line(sample: &Sample, columns: &Columns, report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_line(&mut out, sample, columns, report);
    out
}

fn write_line(
    out: &mut String,
    sample: &Sample,
    columns: &Columns,
    report: &Report,
) -> std::fmt::Result {
    let mut kinds = sample.status.as_str().to_owned();
    for (kind, is_so) in [
        ("wrong", sample.is_wrong()),
        ("disagreeing", sample.disagrees),
    ] {
        if is_so {
            kinds = format!("{kinds} {kind}");
        }
    }
    write!(
        out,
        "<tr data-kinds=\"{kinds}\"><th scope=\"row\">{}",
        escape_name(&sample.id)
    )?;
    if report.entries().next().is_some() {
        write!(
            out,
            "<div class=\"soft\">{}</div>",
            escape_name(&report.entry_name(sample.entry))
        )?;
    }
    if sample.repeat > 0 {
        write!(
            out,
            "<div class=\"soft\">answer {}</div>",
            u64::from(sample.repeat) + 1
        )?;
    }
    write!(out, "</th><td data-label=\"input\">")?;
    for (name, cell) in &sample.cells {
        let (name, cell) = (escape_name(name), escape_lines(cell));
        write!(
            out,
            "<div class=\"said\"><span class=\"soft\">{name}</span> {cell}</div>"
        )?;
    }
    if sample.more_cells > 0 {
        write!(
            out,
            "<div class=\"soft\">and {} more columns</div>",
            sample.more_cells
        )?;
    }
    let said = |text: Option<&String>| text.map(|text| escape_lines(text)).unwrap_or_default();
    write!(
        out,
        "</td><td data-label=\"answer\"><div class=\"said\">{}</div>",
        said(sample.answer.as_ref())
    )?;
    for remark in &sample.remarks {
        write!(out, "<div class=\"soft\">{}</div>", escape(remark))?;
    }
    if columns.expected {
        write!(
            out,
            "</td><td data-label=\"expected\"><div class=\"said\">{}</div>",
            said(sample.gold.as_ref())
        )?;
    }
    if columns.score {
        let score = sample.score.map(figure).unwrap_or_default();
        write!(
            out,
            "</td><td data-label=\"score\" class=\"number\">{score}"
        )?;
    }
    let colour = match sample.status {
        Status::Answered if sample.is_wrong() => "open",
        Status::Answered => "good",
        Status::NotRun | Status::SkippedBudget => "open",
        _ => "bad",
    };
    let status = sample.status.as_str().replace('_', " ");
    write!(
        out,
        "</td><td data-label=\"status\"><span class=\"badge {colour}\">{status}</span>"
    )?;
    if let Some(error) = &sample.error {
        write!(out, "<div class=\"said\">{}</div>", escape(error))?;
    }
    writeln!(out, "</td></tr>")
}
