//! `report.md`, for people.

use std::fmt::Write;

use super::prices;
use super::remarks::Hint;
use super::report::{BackendLine, Report, Spent};
use crate::words::{AttemptKind, Status, Usd};

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
    writeln!(out, "## Rows\n\n| status | rows |\n|---|---:|")?;
    for (status, rows) in report.by_status.iter().filter(|(_, rows)| **rows > 0) {
        writeln!(out, "| {} | {rows} |", status.as_str())?;
    }
    writeln!(
        out,
        "\n{} of the answers came from a fallback.\n",
        report.fell_back
    )?;
    entries(out, report)?;
    writeln!(out, "## Cost by backend\n")?;
    writeln!(
        out,
        "| backend | answered | attempts | failed | input tokens | output tokens | USD |"
    )?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|---:|")?;
    for (name, line) in &report.by_backend {
        backend(out, &escape(name), line)?;
    }
    backend(out, "**total**", &total)?;
    writeln!(out, "\n## Cost by model\n\n| model | USD |\n|---|---:|")?;
    for (model, spent) in &report.by_model {
        writeln!(out, "| {} | {} |", escape(model), amount(*spent))?;
    }
    writeln!(
        out,
        "\n## Attempts\n\n| kind | attempts | USD |\n|---|---:|---:|"
    )?;
    for (kind, (attempts, spent)) in &report.by_kind {
        writeln!(
            out,
            "| {} | {attempts} | {} |",
            kind.as_str(),
            amount(*spent)
        )?;
    }
    if !report.by_class.is_empty() {
        writeln!(out, "\n| what went wrong | attempts |\n|---|---:|")?;
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
    for note in notes(&total) {
        writeln!(out, "\n> {note}")?;
    }
    prices::markdown(out, report)?;
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

/// What did not have to be asked and paid.
pub fn savings(report: &Report) -> Vec<String> {
    let saved = |kind: AttemptKind| {
        let saved = report.saved.get(&kind).copied().unwrap_or_default();
        match (saved.amount, saved.unknown) {
            (amount, 0) => format!("saved ${amount}"),
            (Usd::ZERO, _) => "saved an unknown amount".to_owned(),
            (amount, _) => format!("saved at least ${amount}"),
        }
    };
    let answers = match report.from_cache {
        1 => "1 answer".to_owned(),
        count => format!("{count} answers"),
    };
    let duplicates = match report.duplicates {
        1 => "1 duplicate".to_owned(),
        count => format!("{count} duplicates"),
    };
    let cached = (report.from_cache > 0)
        .then(|| format!("{answers} from the cache {}", saved(AttemptKind::Cache)));
    let shared = (report.duplicates > 0).then(|| {
        format!(
            "{duplicates} of other rows {}",
            saved(AttemptKind::Duplicate)
        )
    });
    cached.into_iter().chain(shared).collect()
}

/// What the totals do not say: costs that nobody knows.
pub fn notes(total: &BackendLine) -> Vec<String> {
    let mut notes = Vec::new();
    if total.possibly_billed.units() > 0 {
        notes.push(format!(
            "Up to ${} more may have been billed for attempts whose outcome is unknown.",
            total.possibly_billed
        ));
    }
    if total.unbounded > 0 {
        notes.push(format!(
            "{} may have been billed for an unknown amount.",
            attempts(total.unbounded)
        ));
    }
    if total.spent.unpriced > 0 {
        notes.push(format!(
            "No price is known for {}: set `price` of the backend. Their cost is not in the total.",
            attempts(total.spent.unpriced)
        ));
    }
    notes
}

fn attempts(count: u64) -> String {
    match count {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    }
}

/// Names come from the job file and from servers: they must not become markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '#' | '\\' => {
                escaped.push('\\');
                escaped.push(character);
            }
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}
