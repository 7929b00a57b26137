//! `report.html`, for people: one file that needs nothing else, runs nothing and loads nothing.
//!
//! Each part of the page is a function from the report to a section; a section without anything in it is left out.

mod parts;

use super::remarks::Hint;
use super::report::{BackendLine, Report, Spent};
use super::sentences::{bought, notes, savings, spendings};
use crate::words::{Status, Usd};
use parts::{Cell, figures, list, page, paragraph, section, table};

/// The file's name.
pub(super) const NAME: &str = "report.html";

/// So many lines of a table are shown: a page stays one that can be read, and sent.
const SHOWN: usize = 50;

/// The whole file.
pub(super) fn render(report: &Report) -> String {
    let sections = [
        head(report),
        section("rows", "Rows", &rows(report)),
        section("cost", "Cost", &cost(report)),
        section("failures", "What went wrong", &failures(report)),
        section("limits", "Limits", &limits(report)),
    ];
    page(&format!("{} - report", report.job), &sections.concat())
}

/// The name of the job and the figures that are looked for first.
fn head(report: &Report) -> String {
    let total = report.total();
    let answered = report.rows_with(Status::Answered);
    let mut shown = vec![
        ("answered", format!("{answered} of {}", report.asked())),
        ("paid, USD", amount(total.spent)),
    ];
    if total.spent.paid != Usd::ZERO {
        shown.push(("wasted, USD", report.spending.wasted().to_string()));
    }
    let per_row = report
        .per_answered_row()
        .filter(|amount| *amount != Usd::ZERO);
    shown.extend(per_row.map(|amount| ("per answered row, USD", amount.about())));
    let times = [50, 90, 99].map(|percent| report.latency_ms(percent));
    if let [Some(p50), Some(p90), Some(p99)] = times {
        shown.push((
            "latency p50 / p90 / p99, ms",
            format!("{p50} / {p90} / {p99}"),
        ));
    }
    format!(
        "<header>\n<h1>{}</h1>\n{}</header>\n",
        parts::escape(&report.job),
        figures(&shown)
    )
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
    [
        list(&spendings(report)),
        notes,
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
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::words::{
        Attempt, AttemptKind, BackendSeen, Columns, Cost, Digest, ErrorClass, Item, Marks, Outcome,
        ResultLine, Row,
    };

    /// A report in which every name and every error is as long and as rude as this.
    fn rude(text: &str, names: u32) -> Report {
        let columns: Arc<Columns> = Columns::new(Vec::new()).into();
        let entries = (0..names).map(|number| Arc::from(format!("{number}{text}")));
        let mut report = Report::new(text, []).with_entries(entries);
        let mut all_seen = Vec::new();
        for number in 0..names {
            let name = format!("{number}{text}");
            let class = ErrorClass::ALL[number as usize % ErrorClass::ALL.len()];
            let row = Row {
                index: number.into(),
                id: name.clone(),
                columns: Arc::clone(&columns),
                cells: Vec::new(),
                key: Digest::default(),
            };
            let attempt = Attempt {
                model: Some(name.clone()),
                class: Some(class),
                error: Some(name.clone()),
                cost: Cost::Known(Usd::from_units(1)),
                ..Attempt::new(1, (&*name).into(), AttemptKind::First, Digest::default())
            };
            let mut outcome = Outcome {
                status: Status::Failed,
                attempts: vec![attempt],
                ..Outcome::not_run(Item::of(row.into()))
            };
            outcome.item.entry = number;
            report.add(&ResultLine {
                outcome: &outcome,
                marks: &Marks::default(),
            });
            all_seen.push(BackendSeen {
                backend: name.clone(),
                stopped: Some(name),
                ..BackendSeen::default()
            });
        }
        report.with_seen(all_seen, &[])
    }

    #[test]
    fn no_run_makes_a_page_that_is_too_large_to_send() {
        for text in ["\"", "é", "😀", "\u{202e}"] {
            let page = render(&rude(&text.repeat(5_000), 400));
            assert!(page.len() < 200_000, "{text}: {}", page.len());
        }
    }

    #[test]
    fn lines_that_are_not_shown_are_counted_and_summed_up() {
        let page = render(&rude("", 53));
        let line = "<th scope=\"row\">and 3 more</th>";
        assert_eq!(
            page.matches(line).count(),
            3,
            "backends, models and entries"
        );
        assert!(page.contains("<td class=\"number\">0.000000000000003</td>"));
        assert!(page.contains("and 3 more backends"));
        assert!(!render(&rude("", 50)).contains("more"));
    }
}
