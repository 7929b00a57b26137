//! `report.html`, for people: one file that needs nothing else, loads nothing and runs nothing but its own
//! search.
//!
//! Each part of the page is a function from the report to a section; a section without anything in it is left out.

mod charts;
mod parts;
mod samples;
mod scores;

use super::backend_line::BackendLine;
use super::figures::{self, figure, range};
use super::remarks::Hint;
use super::report::{Report, Spent};
use super::sentences::{bought, notes, savings, spendings};
use crate::words::{Status, Usd};
use parts::{Cell, list, page, paragraph, section, table};

/// The file's name.
pub(super) const NAME: &str = "report.html";

/// So many lines of a table are shown: a page stays one that can be read, and sent.
const SHOWN: usize = 50;

/// The whole file.
pub(super) fn render(report: &Report) -> String {
    let sections = [
        ("gate", "Gate", scores::gate(report.gate.as_ref())),
        ("scores", "Scores", scores::scores(report.scores.as_ref())),
        ("rows", "Rows", rows(report)),
        ("cost", "Cost", cost(report)),
        ("latency", "Latency", latency(report)),
        ("failures", "What went wrong", failures(report)),
        ("limits", "Limits", limits(report)),
        ("sample", "Sample of rows", samples::samples(report)),
    ];
    let contents = sections.iter().filter(|(_, _, inside)| !inside.is_empty());
    let contents = contents.map(|(id, title, _)| format!("<a href=\"#{id}\">{title}</a>\n"));
    let contents = format!("<nav>\n{}</nav>\n", contents.collect::<String>());
    let sections = sections.map(|(id, title, inside)| section(id, title, &inside));
    page(
        &format!("{} - report", report.job),
        &[head(report), contents, sections.concat()].concat(),
    )
}

/// The name of the job and the figures that are looked for first.
fn head(report: &Report) -> String {
    let total = report.total();
    let answered = report.rows_with(Status::Answered);
    let mut shown: Vec<_> = main_scores(report).collect();
    shown.extend([
        (
            "answered".to_owned(),
            format!("{answered} of {}", report.asked()),
        ),
        ("paid, USD".to_owned(), amount(total.spent)),
    ]);
    if total.spent.paid != Usd::ZERO {
        shown.push((
            "wasted, USD".to_owned(),
            report.spending.wasted().to_string(),
        ));
    }
    let per_row = report
        .per_answered_row()
        .filter(|amount| *amount != Usd::ZERO);
    shown.extend(per_row.map(|amount| ("per answered row, USD".to_owned(), amount.about())));
    let times = [50, 90, 99].map(|percent| report.latency_ms(percent));
    if let [Some(p50), Some(p90), Some(p99)] = times {
        shown.push((
            "latency p50 / p90 / p99, ms".to_owned(),
            format!("{p50} / {p90} / {p99}"),
        ));
    }
    let gate = report.gate.as_ref().map(|gate| {
        let (said, colour) = scores::met(gate.is_met);
        format!("<p><span class=\"badge {colour}\">gate {said}</span></p>\n")
    });
    format!(
        "<header>\n<h1>{}</h1>\n{}{}</header>\n",
        parts::escape(&report.job),
        gate.unwrap_or_default(),
        parts::figures(&shown)
    )
}

/// The first figures of how good the answers are.
fn main_scores(report: &Report) -> impl Iterator<Item = (String, String)> {
    let scores = report.scores.iter();
    let metrics = scores.flat_map(|scores| scores.overall.metrics.iter());
    let metrics = metrics.filter(|(name, _)| *name != "answered").take(2);
    metrics.map(|(name, metric)| {
        let value = match metric.interval {
            Some(found) => format!("{} ({})", figure(metric.value), range(found)),
            None => figure(metric.value),
        };
        (parts::escape_name(&figures::name(name)), value)
    })
}

/// How long the replies took.
fn latency(report: &Report) -> String {
    let marks = [("p50", 50), ("p90", 90)];
    let marks = marks.map(|(name, percent)| (name, report.latency_ms(percent).unwrap_or(0)));
    charts::histogram(report.histogram(), &marks)
}

fn rows(report: &Report) -> String {
    let all = i128::from(report.rows());
    let statuses = report.by_status.iter().filter(|(_, rows)| **rows > 0);
    let lines: Vec<_> = statuses
        .map(|(status, rows)| {
            vec![
                Cell::Name(status.as_str().to_owned()),
                Cell::count(*rows),
                Cell::Share((*rows).into(), all),
            ]
        })
        .collect();
    let budget = report.budget_in_words().into_iter();
    let mut said: Vec<_> = budget.chain(savings(report)).collect();
    if report.fell_back > 0 {
        said.push(format!(
            "{} of the answers came from a fallback",
            report.fell_back
        ));
    }
    [
        table("", &["status", "rows", "share"], &lines),
        list(&said),
        entries(report),
    ]
    .concat()
}

/// What each entry of the matrix came to, where there are several.
fn entries(report: &Report) -> String {
    let time = |time: Option<u64>| time.map_or("-".to_owned(), |time| time.to_string());
    let lines = report.entries().map(|(name, line)| {
        let cells = vec![
            Cell::Number(line.rows_with(Status::Answered).to_string()),
            Cell::Number(line.rows().to_string()),
            Cell::Number(time(line.latency_ms(50))),
            Cell::Number(time(line.latency_ms(90))),
        ];
        (name, cells, line.spent)
    });
    let header = [
        "entry", "answered", "rows", "p50 ms", "p90 ms", "USD", "share",
    ];
    spent(
        "Entries of the matrix",
        &header,
        lines.collect(),
        report.total().spent,
    )
}

/// Where the money went, and what it was good for.
fn cost(report: &Report) -> String {
    let total = report.total();
    let tokens = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    let backend = |line: &BackendLine| {
        vec![
            Cell::count(line.answered),
            Cell::count(line.attempts),
            Cell::count(line.failed),
            Cell::Number(tokens(line.usage.input_tokens)),
            Cell::Number(tokens(line.usage.output_tokens)),
        ]
    };
    let backends = report.by_backend.iter();
    let backends = backends.map(|(name, line)| (name.clone(), backend(line), line.spent));
    let models = report.by_model.iter();
    let models = models.map(|(name, spent)| (name.clone(), Vec::new(), *spent));
    let counted = |name: &str, attempts: u64, spent: Spent| {
        (name.to_owned(), vec![Cell::count(attempts)], spent)
    };
    let kinds = report.by_kind.iter();
    let kinds = kinds.map(|(kind, (attempts, spent))| counted(kind.as_str(), *attempts, *spent));
    let uses = report
        .spending
        .uses()
        .filter(|(_, (attempts, _))| *attempts > 0);
    let uses = uses.map(|(benefit, (attempts, spent))| counted(benefit.as_str(), attempts, spent));
    let bought = bought(report)
        .into_iter()
        .map(|(name, paid)| (name, Vec::new(), Spent { paid, unpriced: 0 }));
    let notes: String = notes(&total).iter().map(|note| paragraph(note)).collect();
    let header = [
        "backend",
        "answered",
        "attempts",
        "failed",
        "tokens in",
        "tokens out",
        "USD",
        "share",
    ];
    let total = total.spent;
    let drawn = [
        charts::stacked(
            "By backend",
            parts_of(
                report
                    .by_backend
                    .iter()
                    .map(|(name, line)| (&**name, line.spent)),
            ),
        ),
        charts::stacked(
            "By what it was good for",
            parts_of(
                report
                    .spending
                    .uses()
                    .map(|(benefit, (_, spent))| (benefit.as_str(), spent)),
            ),
        ),
    ];
    [
        list(&spendings(report)),
        notes,
        drawn.concat(),
        spent("By backend", &header, backends.collect(), total),
        spent(
            "By model",
            &["model", "USD", "share"],
            models.collect(),
            total,
        ),
        spent(
            "By kind of attempt",
            &["kind", "attempts", "USD", "share"],
            kinds.collect(),
            total,
        ),
        spent(
            "By what was paid for",
            &["paid for", "USD", "share"],
            bought.collect(),
            total,
        ),
        spent(
            "By what it was good for",
            &["good for", "attempts", "USD", "share"],
            uses.collect(),
            total,
        ),
    ]
    .concat()
}

/// Names, and what was paid.
fn parts_of<'a>(lines: impl Iterator<Item = (&'a str, Spent)>) -> Vec<(String, i128)> {
    lines
        .map(|(name, spent)| (name.to_owned(), spent.paid.units()))
        .collect()
}

/// A table of what was spent: a name, what else is to be said, the amount and its share of the total. Lines
/// beyond those that are shown are summed up.
fn spent(
    title: &str,
    header: &[&str],
    mut lines: Vec<(String, Vec<Cell>, Spent)>,
    total: Spent,
) -> String {
    let rest = lines.split_off(lines.len().min(SHOWN));
    let line = |(name, cells, spent): (String, Vec<Cell>, Spent)| {
        let mut row = vec![Cell::Name(name)];
        row.extend(cells);
        row.push(Cell::Number(amount(spent)));
        row.push(Cell::Share(spent.paid.units(), total.paid.units()));
        row
    };
    let more = (!rest.is_empty()).then(|| {
        let name = format!("and {} more", rest.len());
        let others = header.len().saturating_sub(3);
        let cells = (0..others).map(|_| Cell::Number(String::new()));
        (
            name,
            cells.collect(),
            rest.iter().map(|(_, _, spent)| *spent).sum(),
        )
    });
    let rows: Vec<_> = lines.into_iter().chain(more).map(line).collect();
    table(title, header, &rows)
}

/// Each class of failure, and the first row of it.
fn failures(report: &Report) -> String {
    let all: u64 = report.by_class.values().sum();
    let classes = report.by_class.iter().map(|(class, attempts)| {
        vec![
            Cell::Name(class.as_str().to_owned()),
            Cell::count(*attempts),
            Cell::Share((*attempts).into(), all.into()),
        ]
    });
    let examples = report.examples.iter().map(|(class, (row, error))| {
        vec![
            Cell::Name((*class).to_owned()),
            Cell::Text(row.clone()),
            Cell::Text(error.clone()),
        ]
    });
    let (classes, examples): (Vec<_>, Vec<_>) = (classes.collect(), examples.collect());
    [
        table("Failed attempts", &["class", "attempts", "share"], &classes),
        table(
            "The first row that ended in each",
            &["class", "row", "what went wrong"],
            &examples,
        ),
    ]
    .concat()
}

/// What happened to the backends, the limits that were learned, and what to put into the job.
fn limits(report: &Report) -> String {
    let all = report.remarks();
    let line = |remarks: &super::remarks::Remarks| {
        let texts = [&remarks.happened, &remarks.limits, &remarks.details];
        let texts: Vec<&str> = texts.into_iter().flatten().map(|text| &**text).collect();
        vec![
            Cell::Name(remarks.backend.clone()),
            Cell::Text(texts.join("; ")),
        ]
    };
    let shown = &all[..all.len().min(SHOWN)];
    let lines: Vec<_> = shown.iter().map(line).collect();
    let hints = shown.iter().filter_map(|remarks| remarks.hint.as_ref());
    let hints = hints.map(|Hint { yaml, place }| {
        format!("to start the next run at this pace, put {yaml} into {place}")
    });
    let more = match all.len() - shown.len() {
        0 => String::new(),
        more => paragraph(&format!("and {more} more backends")),
    };
    [
        table("", &["backend", "what was seen"], &lines),
        more,
        list(&hints.collect::<Vec<_>>()),
    ]
    .concat()
}

fn amount(spent: Spent) -> String {
    spent
        .amount()
        .map_or("unknown".to_owned(), |amount| amount.to_string())
}

#[cfg(test)]
mod tests;
