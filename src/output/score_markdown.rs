//! The gate and the scores in `report.md`: what a pull request is judged by first, the rest folded away.

use std::fmt::{Result, Write};

use super::figures::{figure, name, range, range_of};
use super::markdown::{escape, fold};
use super::report::Report;
use crate::words::{Confusion, GateCheck, Group, Metric, Scores, Verdict};

/// So many pairs of labels that were taken for each other are named.
const CONFUSIONS: usize = 10;
/// A table of more labels is left to `report.html` and `report.json`.
const LABELS: usize = 50;

/// The sections of a report that has them.
pub(super) fn write(out: &mut String, report: &Report) -> Result {
    if let Some(gate) = &report.gate {
        let verdict = if gate.is_met { "passed" } else { "not passed" };
        writeln!(out, "## Gate: {verdict}\n")?;
        writeln!(out, "| | check | wanted | found | verdict |")?;
        writeln!(out, "|---|---|---|---:|---|")?;
        gate.checks.iter().try_for_each(|line| check(out, line))?;
        writeln!(out)?;
        let said = gate.checks.iter().filter(|check| !check.text.is_empty());
        said.map(|check| escape(&check.text))
            .try_for_each(|text| writeln!(out, "- {text}"))?;
        writeln!(out)?;
    }
    match &report.scores {
        Some(all) => scores(out, all),
        None => Ok(()),
    }
}

fn check(out: &mut String, check: &GateCheck) -> Result {
    let sign = match (check.is_met, check.verdict) {
        (false, _) => "❌",
        // The job puts up with it, and that is all.
        (true, Verdict::Inconclusive) => "❔",
        (true, _) => "✅",
    };
    let found = match (&check.difference, &check.found) {
        (Some(difference), _) => range(*difference),
        (None, Some(found)) => figure(found.value),
        (None, None) => "-".to_owned(),
    };
    let (name, wanted) = (escape(&check.name), escape(&check.wanted));
    let verdict = check.verdict.as_str();
    writeln!(out, "| {sign} | {name} | {wanted} | {found} | {verdict} |")
}

fn scores(out: &mut String, scores: &Scores) -> Result {
    writeln!(out, "## Scores\n")?;
    let metrics = scores.overall.metrics.iter();
    figures(
        out,
        "figure",
        metrics.map(|(key, metric)| (name(key), *metric)),
    )?;
    let main = scores.overall.metrics.keys().next();
    if let Some(main) = main.filter(|_| !scores.by_entry.is_empty()) {
        let main = match scores.overall.metrics.contains_key("accuracy") {
            true => "accuracy",
            false => main,
        };
        let entries = scores.by_entry.iter();
        let entries =
            entries.filter_map(|(entry, group)| Some((entry.clone(), *group.metrics.get(main)?)));
        figures(out, &format!("{}, by entry", name(main)), entries)?;
    }
    let kappas = scores.kappas.iter();
    let kappas = kappas.map(|(a, b, kappa)| (format!("Cohen's kappa, {a} and {b}"), *kappa));
    let alpha = scores.alpha.iter();
    let alpha = alpha.map(|alpha| ("Krippendorff's alpha".to_owned(), *alpha));
    figures(out, "agreement", alpha.chain(kappas))?;
    for note in &scores.notes {
        writeln!(out, "> {}\n", escape(note))?;
    }
    labels(out, &scores.overall)?;
    confusion(out, scores.overall.confusion.as_ref())
}

/// A table of figures; nothing without any.
fn figures(out: &mut String, what: &str, lines: impl Iterator<Item = (String, Metric)>) -> Result {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    writeln!(
        out,
        "| {} | value | 95 % | of |\n|---|---:|---:|---:|",
        escape(what)
    )?;
    for (name, metric) in lines {
        let (value, range) = (figure(metric.value), range_of(&metric));
        writeln!(
            out,
            "| {} | {value} | {range} | {} |",
            escape(&name),
            metric.n
        )?;
    }
    writeln!(out)
}

fn labels(out: &mut String, group: &Group) -> Result {
    if group.labels.is_empty() || group.labels.len() > LABELS {
        return Ok(());
    }
    fold(out, "Labels", |out| {
        writeln!(
            out,
            "| label | precision | recall | F1 |\n|---|---:|---:|---:|"
        )?;
        let shown =
            |metric: Option<Metric>| metric.map_or("-".to_owned(), |metric| figure(metric.value));
        group.labels.iter().try_for_each(|(label, scores)| {
            let [precision, recall, f1] = [scores.precision, scores.recall, scores.f1].map(shown);
            writeln!(out, "| {} | {precision} | {recall} | {f1} |", escape(label))
        })
    })
}

/// The labels that were taken for each other most often.
fn confusion(out: &mut String, confusion: Option<&Confusion>) -> Result {
    let pairs = confusion.map(confusions).unwrap_or_default();
    if pairs.is_empty() {
        return Ok(());
    }
    fold(out, "Most frequent confusions", |out| {
        writeln!(out, "| should be | is | lines |\n|---|---|---:|")?;
        let mut pairs = pairs.iter().take(CONFUSIONS);
        pairs.try_for_each(|(should, is, lines)| {
            writeln!(out, "| {} | {} | {lines} |", escape(should), escape(is))
        })
    })
}

/// Which label was given instead of which, and how often: the most frequent first.
pub(super) fn confusions(confusion: &Confusion) -> Vec<(&str, &str, u64)> {
    let name = |at: usize| confusion.labels.get(at).map_or("(no label)", |label| label);
    let mut pairs = Vec::new();
    for (should, counts) in confusion.counts.iter().enumerate() {
        for (is, lines) in counts.iter().enumerate() {
            if should != is && *lines > 0 {
                pairs.push((name(should), name(is), *lines));
            }
        }
    }
    pairs.sort_by_key(|(_, _, lines)| std::cmp::Reverse(*lines));
    pairs
}
