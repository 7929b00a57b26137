//! `report.md`, for people.

use std::fmt::Write;

use super::backend_line::BackendLine;
use super::remarks::Hint;
use super::report::{Report, Spent};
use super::sentences::{bought, notes, savings, spendings};
use super::{prices, score_markdown};
use crate::words::{Status, Usd, steers};

/// The file's name.
pub(super) const NAME: &str = "report.md";

/// The whole file.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report);
    text
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    let total = report.total();
    writeln!(out, "# {}\n", escape(&report.job))?;
    writeln!(
        out,
        "{} of {} answered, {} paid.\n",
        report.rows_with(Status::Answered),
        report.asked(),
        match total.spent.amount() {
            Some(amount) => format!("${amount}"),
            None => "an unknown amount".to_owned(),
        }
    )?;
    for line in report.budget_in_words().into_iter().chain(savings(report)) {
        writeln!(out, "{line}.\n")?;
    }
    score_markdown::write(out, report)?;
    writeln!(out, "## Rows\n\n| status | rows |\n|---|---:|")?;
    for (status, rows) in report.by_status.iter().filter(|(_, rows)| **rows > 0) {
        writeln!(out, "| {} | {rows} |", status.as_str())?;
    }
    writeln!(out)?;
    if report.fell_back > 0 {
        let fell_back = report.fell_back;
        writeln!(out, "{fell_back} of the answers came from a fallback.\n")?;
    }
    entries(out, report)?;
    cost(out, report, &total)?;
    failures(out, report)?;
    for note in notes(&total) {
        writeln!(out, "\n> {note}")?;
    }
    limits(out, report)?;
    if let (Some(p50), Some(p90), Some(p99)) = (
        report.latency_ms(50),
        report.latency_ms(90),
        report.latency_ms(99),
    ) {
        writeln!(out, "\n## Latency\n\n| p50 | p90 | p99 |\n|---:|---:|---:|")?;
        writeln!(out, "| {p50} ms | {p90} ms | {p99} ms |")?;
    }
    Ok(())
}

/// Where the money went, and what it was good for.
fn cost(out: &mut String, report: &Report, total: &BackendLine) -> std::fmt::Result {
    writeln!(out, "## Cost\n")?;
    for line in spendings(report) {
        writeln!(out, "- {line}")?;
    }
    writeln!(
        out,
        "\n| backend | answered | attempts | failed | input tokens | output tokens | USD |"
    )?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|---:|")?;
    for (name, line) in &report.by_backend {
        backend(out, &escape(name), line)?;
    }
    backend(out, "**total**", total)?;
    writeln!(out)?;
    fold(out, "Cost in detail", |out| details(out, report, total))
}

/// By model, by kind of attempt, by use, by what was paid for, by price.
fn details(out: &mut String, report: &Report, total: &BackendLine) -> std::fmt::Result {
    writeln!(out, "| model | USD |\n|---|---:|")?;
    for (model, spent) in &report.by_model {
        writeln!(out, "| {} | {} |", escape(model), amount(*spent))?;
    }
    let kinds = report.by_kind.iter();
    let kinds = kinds.map(|(kind, (attempts, spent))| (kind.as_str(), *attempts, *spent));
    counted(out, "kind of attempt", kinds)?;
    let uses = report.spending.uses();
    let uses = uses.map(|(benefit, (attempts, spent))| (benefit.as_str(), attempts, spent));
    counted(out, "what it was good for", uses)?;
    if total.spent.paid != Usd::ZERO {
        writeln!(out, "\n| paid for | USD |\n|---|---:|")?;
        for (name, paid) in bought(report) {
            writeln!(out, "| {name} | {paid} |")?;
        }
    }
    prices::markdown(out, report)
}

/// A part that is shown when somebody wants to see it.
pub(super) fn fold(
    out: &mut String,
    title: &str,
    inside: impl FnOnce(&mut String) -> std::fmt::Result,
) -> std::fmt::Result {
    writeln!(out, "<details>\n<summary>{title}</summary>\n")?;
    inside(out)?;
    writeln!(out, "\n</details>\n")
}

/// A table of attempts, counted and summed up; without lines that count none.
fn counted<'a>(
    out: &mut String,
    what: &str,
    lines: impl Iterator<Item = (&'a str, u64, Spent)>,
) -> std::fmt::Result {
    writeln!(out, "\n| {what} | attempts | USD |\n|---|---:|---:|")?;
    for (name, attempts, spent) in lines.filter(|(_, attempts, _)| *attempts > 0) {
        writeln!(out, "| {name} | {attempts} | {} |", amount(spent))?;
    }
    Ok(())
}

/// What went wrong, and the first row of each kind.
fn failures(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.by_class.is_empty() && report.examples.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## What went wrong")?;
    if !report.by_class.is_empty() {
        writeln!(out, "\n| class | attempts |\n|---|---:|")?;
        for (class, attempts) in &report.by_class {
            writeln!(out, "| {} | {attempts} |", class.as_str())?;
        }
    }
    if !report.examples.is_empty() {
        writeln!(
            out,
            "\n| the first row that ended in | row | what went wrong |\n|---|---|---|"
        )?;
        for (class, (row, error)) in &report.examples {
            writeln!(out, "| {class} | {} | {} |", escape(row), escape(error))?;
        }
    }
    Ok(())
}

/// A table of the matrix's entries, where there are several.
fn entries(out: &mut String, report: &Report) -> std::fmt::Result {
    let mut entries = report.entries().peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "## Entries of the matrix\n")?;
    writeln!(out, "| entry | answered | rows | p50 | p90 | USD |")?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|")?;
    let time = |milliseconds: Option<u64>| milliseconds.map_or("-".into(), |ms| format!("{ms} ms"));
    for (name, line) in entries {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            escape(&name),
            line.rows_with(Status::Answered),
            line.rows(),
            time(line.latency_ms(50)),
            time(line.latency_ms(90)),
            amount(line.spent)
        )?;
    }
    writeln!(out)
}

/// A table of what happened to the backends and of the limits that were learned, where there is any.
fn limits(out: &mut String, report: &Report) -> std::fmt::Result {
    let all = report.remarks();
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Limits\n\n| backend | what was seen |\n|---|---|")?;
    for remarks in &all {
        let texts = [&remarks.happened, &remarks.limits, &remarks.details];
        let texts: Vec<_> = texts.into_iter().flatten().map(|t| escape(t)).collect();
        let name = escape(&remarks.backend);
        writeln!(out, "| {name} | {} |", texts.join("; "))?;
    }
    for remarks in &all {
        if let Some(Hint { yaml, place }) = &remarks.hint {
            let place = escape(place);
            writeln!(
                out,
                "\n> To start the next run at this pace, put `{yaml}` into {place}."
            )?;
        }
    }
    Ok(())
}

fn backend(out: &mut String, name: &str, line: &BackendLine) -> std::fmt::Result {
    let tokens = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    writeln!(
        out,
        "| {name} | {} | {} | {} | {} | {} | {} |",
        line.answered,
        line.attempts,
        line.failed,
        tokens(line.usage.input_tokens),
        tokens(line.usage.output_tokens),
        amount(line.spent)
    )
}

fn amount(spent: Spent) -> String {
    spent
        .amount()
        .map_or("unknown".to_owned(), |amount| amount.to_string())
}

/// What breaks up a word without being seen.
const GAP: &str = "&#8203;";

/// Names come from the job file and from servers: they must not become markup, nor what forges make links of on their own:
/// addresses, names of people, numbers of issues.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '@' => escaped.extend(["@", GAP]),
            ':' if rest.as_str().starts_with('/') => escaped.extend([":", GAP]),
            '.' if ends_in_www(&escaped) => escaped.extend([GAP, "."]),
            '#' => escaped.extend(["\\#", GAP]),
            '&' => escaped.push_str("&amp;"),
            '$' => escaped.push_str("&#36;"),
            '|' | '~' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '\\' => {
                escaped.push('\\');
                escaped.push(character);
            }
            character if steers(character) => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

fn ends_in_www(text: &str) -> bool {
    let last = text.len().checked_sub(3).and_then(|at| text.get(at..));
    last.is_some_and(|last| last.eq_ignore_ascii_case("www"))
}
