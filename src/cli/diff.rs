//! `runner diff BEFORE AFTER`: two runs side by side.

use serde_json::{Map, Value, json};
use tokio_prompt_orchestrator::output::escape_markdown;
use tokio_prompt_orchestrator::words::{Comparison, Interval, Metric};
use tokio_prompt_orchestrator::{Difference, ExitCode, Flip, FlipKind, RowSeen, RunSide};

use super::args::{DiffArgs, ReportFormat};
use super::summary::table_of;
use super::terminal::{self, escape, out};

/// What is shown of an answer, in characters.
const SHOWN: usize = 60;
/// Names the form of the JSON.
const SCHEMA: &str = "runner.diff/1";

/// Prints how two runs differ.
pub fn diff(args: &DiffArgs) -> ExitCode {
    match tokio_prompt_orchestrator::diff(&args.before, &args.after, args.limit) {
        Ok(difference) => {
            match args.format {
                ReportFormat::Text => text(&difference),
                ReportFormat::Md => out(markdown(&difference).trim_end()),
                ReportFormat::Json => terminal::json(&in_json(&difference)),
            }
            ExitCode::Success
        }
        Err(error) => {
            args.format.reader().error(&error);
            error.exit_code()
        }
    }
}

fn text(difference: &Difference) {
    let Difference { before, after, .. } = difference;
    out(&escape(&format!(
        "{} → {}",
        before.dir.display(),
        after.dir.display()
    )));
    for line in sentences(difference) {
        out(&escape(&line));
    }
    if difference.flips.is_empty() {
        return;
    }
    out("");
    let rows: Vec<Vec<String>> = difference
        .flips
        .iter()
        .map(|flip| cells(flip).map(|cell| escape(&cell)).to_vec())
        .collect();
    table_of(4, HEADER, rows);
    if let Some(line) = not_listed(difference) {
        out(&line);
    }
}

const HEADER: [&str; 4] = ["flip", "row", "before", "after"];

fn markdown(difference: &Difference) -> String {
    let Difference { before, after, .. } = difference;
    let name = |side: &RunSide| escape_markdown(&side.dir.display().to_string());
    let mut text = format!("## {} → {}\n\n", name(before), name(after));
    for line in sentences(difference) {
        text.push_str(&format!("- {}\n", escape_markdown(&line)));
    }
    if difference.flips.is_empty() {
        return text;
    }
    text.push_str(&format!(
        "\n| {} |\n|---|---|---|---|\n",
        HEADER.join(" | ")
    ));
    for flip in &difference.flips {
        let cells = cells(flip).map(|cell| escape_markdown(&cell));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    if let Some(line) = not_listed(difference) {
        text.push_str(&format!("\n{line}\n"));
    }
    text
}

/// What the difference comes to.
fn sentences(difference: &Difference) -> Vec<String> {
    let Difference { before, after, .. } = difference;
    let mut lines = vec![match difference.both {
        1 => "1 row in both".to_owned(),
        both => format!("{both} rows in both"),
    }];
    for (count, side) in [
        (difference.only_before, before),
        (difference.only_after, after),
    ] {
        if count > 0 {
            lines.push(format!("{count} only in {}", side.dir.display()));
        }
    }
    if difference.asked_differently > 0 {
        lines.push(format!(
            "{} of them were asked something else: another prompt, model or parameter",
            difference.asked_differently
        ));
    }
    for (name, comparison) in &difference.scorers {
        lines.push(scores(name, comparison));
    }
    lines.push(format!(
        "answers that differ: {}",
        share(&difference.changed)
    ));
    lines.push(format!("cost: {}", change(before, after, cost)));
    let times = ["p50", "p90", "p99"].iter().enumerate().map(|(at, name)| {
        let time = |side: &RunSide| side.latency_ms[at].map_or("-".to_owned(), |ms| ms.to_string());
        format!("{name} {}", change(before, after, time))
    });
    lines.push(format!(
        "latency in ms: {}",
        times.collect::<Vec<_>>().join(", ")
    ));
    for side in [before, after] {
        if side.reused > 0 {
            lines.push(format!(
                "{} answers of {} were not asked for there: they are from the cache or from other rows",
                side.reused,
                side.dir.display()
            ));
        }
    }
    lines
}

fn change(before: &RunSide, after: &RunSide, show: impl Fn(&RunSide) -> String) -> String {
    format!("{} → {}", show(before), show(after))
}

fn cost(side: &RunSide) -> String {
    side.cost
        .map_or("not known".to_owned(), |cost| format!("${cost}"))
}

/// What became of the scores: `equals: 0.920 → 0.913, -0.007 (95 %: -0.020 to +0.006), 3 better, 5 worse`.
pub fn scores(name: &str, comparison: &Comparison) -> String {
    let Comparison {
        before,
        after,
        difference,
        better,
        worse,
        p,
        ..
    } = comparison;
    let sure = difference
        .interval
        .map_or(String::new(), |Interval { low, high, .. }| {
            format!(" (95 %: {low:+.3} to {high:+.3})")
        });
    let chance = match p {
        Some(p) if *p < 0.001 => ", p < 0.001".to_owned(),
        Some(p) => format!(", p {p:.3}"),
        None => String::new(),
    };
    format!(
        "{name}: {before:.3} → {after:.3}, {:+.3}{sure}, {better} better, {worse} worse of {}{chance}",
        difference.value, difference.n
    )
}

/// A share of rows: `2.0 % of 300 (95 %: 0.9 % to 4.3 %)`.
pub fn share(metric: &Metric) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let sure = metric
        .interval
        .map_or(String::new(), |Interval { low, high, .. }| {
            format!(" (95 %: {} to {})", percent(low), percent(high))
        });
    format!("{} of {}{sure}", percent(metric.value), metric.n)
}

fn cells(flip: &Flip) -> [String; 4] {
    let row = match &flip.entry {
        Some(entry) => format!("{} [{entry}]", flip.id),
        None => flip.id.clone(),
    };
    [
        flip.kind.as_str().to_owned(),
        row,
        seen(&flip.before),
        seen(&flip.after),
    ]
}

/// A row in one run: its score, how it ended if it has no answer, and what it answered.
fn seen(seen: &RowSeen) -> String {
    let score = seen.score.map(|score| format!("{score:.2}"));
    let status = seen
        .status
        .map(|status| status.as_str())
        .filter(|status| *status != "answered");
    let mut answer: String = seen.answer.chars().take(SHOWN).collect();
    if seen.answer.chars().nth(SHOWN).is_some() {
        answer.push('…');
    }
    let parts = [score, status.map(str::to_owned), Some(answer)];
    let parts: Vec<String> = parts
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" ")
}

fn not_listed(difference: &Difference) -> Option<String> {
    let [worse, better, changed] = difference.not_listed;
    (worse + better + changed > 0).then(|| {
        format!("and {worse} more that are worse, {better} that are better, {changed} with another answer (--limit)")
    })
}

fn in_json(difference: &Difference) -> Value {
    let Difference { before, after, .. } = difference;
    let scores: Map<String, Value> = difference
        .scorers
        .iter()
        .map(|(name, comparison)| (name.clone(), comparison_json(comparison)))
        .collect();
    let [worse, better, changed] = difference.not_listed;
    json!({
        "schema": SCHEMA,
        "before": side(before),
        "after": side(after),
        "rows": {
            "both": difference.both,
            "only_before": difference.only_before,
            "only_after": difference.only_after,
            "asked_differently": difference.asked_differently,
        },
        "scores": scores,
        "answers_changed": metric(&difference.changed),
        "flips": difference.flips.iter().map(flip).collect::<Vec<_>>(),
        "not_listed": {
            FlipKind::Worse.as_str(): worse,
            FlipKind::Better.as_str(): better,
            FlipKind::Changed.as_str(): changed,
        },
    })
}

fn side(side: &RunSide) -> Value {
    let [p50, p90, p99] = side.latency_ms;
    json!({
        "dir": side.dir.display().to_string(),
        "job": side.job,
        "rows": side.rows,
        "cost_usd": side.cost,
        "latency_ms": { "p50": p50, "p90": p90, "p99": p99 },
        "reused": side.reused,
    })
}

fn flip(flip: &Flip) -> Value {
    let seen = |seen: &RowSeen| {
        json!({
            "score": seen.score,
            "status": seen.status.map(|status| status.as_str()),
            "answer": seen.answer,
        })
    };
    json!({
        "id": flip.id,
        "entry": flip.entry,
        "kind": flip.kind.as_str(),
        "before": seen(&flip.before),
        "after": seen(&flip.after),
    })
}

/// How scores differ, for programs.
pub fn comparison_json(comparison: &Comparison) -> Value {
    json!({
        "before": comparison.before,
        "after": comparison.after,
        "difference": metric(&comparison.difference),
        "better": comparison.better,
        "worse": comparison.worse,
        "p": comparison.p,
    })
}

/// A figure, for programs.
pub fn metric(metric: &Metric) -> Value {
    json!({
        "value": metric.value,
        "n": metric.n,
        "interval": metric.interval.map(|interval| [interval.low, interval.high]),
        "method": metric.interval.map(|interval| interval.method.as_str()),
    })
}
