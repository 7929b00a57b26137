//! How good the answers are, on the terminal: the figures that are looked for first. The others are in the reports.

use tokio_prompt_orchestrator::words::{Group, Metric, Scores};

use super::terminal::escape;

/// The figures that are shown beside those of the scorers.
const SHOWN: [&str; 6] = [
    "accuracy",
    "accuracy_answered",
    "abstained",
    "f1_macro",
    "majority_accuracy",
    "self_agreement",
];
/// Figures that every scored run has, and that are in the reports.
const LEFT_OUT: [&str; 3] = ["answered", "precision_macro", "recall_macro"];
/// So many pairs of entries are shown.
const PAIRS: usize = 3;

/// The lines; none where nothing was scored.
pub fn lines(scores: &Scores) -> Vec<String> {
    let mut figures: Vec<(String, Metric)> = Vec::new();
    let is_shown = |name: &str| SHOWN.contains(&name) || !LEFT_OUT.contains(&name);
    let mut seen: Vec<Metric> = Vec::new();
    for (name, metric) in &scores.overall.metrics {
        // The only scorer's mean is the accuracy, and where all was answered there is nothing to leave out.
        if is_shown(name) && !seen.contains(metric) {
            figures.push((name.clone(), *metric));
            seen.push(*metric);
        }
    }
    let accuracy = |group: &Group| group.metrics.get("accuracy").copied();
    for (entry, group) in &scores.by_entry {
        figures.extend(accuracy(group).map(|metric| (format!("accuracy of {entry}"), metric)));
    }
    figures.extend(scores.alpha.map(|metric| ("alpha".to_owned(), metric)));
    for (one, other, metric) in scores.kappas.iter().take(PAIRS) {
        figures.push((format!("kappa of {one} and {other}"), *metric));
    }
    if figures.is_empty() && scores.notes.is_empty() {
        return Vec::new();
    }
    let names = figures.iter().map(|(name, _)| escape(name));
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    let line = |(name, metric): &(String, Metric)| {
        let interval = metric.interval.map_or(String::new(), |interval| {
            format!("{:.3} to {:.3}, ", interval.low, interval.high)
        });
        format!(
            "  {:width$}  {:.3}  ({interval}of {})",
            escape(name),
            metric.value,
            metric.n
        )
    };
    let head = "scores, with 95 % intervals:".to_owned();
    let notes = scores
        .notes
        .iter()
        .map(|note| format!("  {}", escape(note)));
    [head]
        .into_iter()
        .chain(figures.iter().map(line))
        .chain(notes)
        .collect()
}
