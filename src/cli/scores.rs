//! How good the answers are, on the terminal: the figures that are looked for first. The others are in the reports.

use tokio_prompt_orchestrator::words::{Group, Metric, Scores};

use super::terminal::escape;

/// Figures of every scored run that are for the reports.
const LEFT_OUT: [&str; 3] = ["answered", "precision_macro", "recall_macro"];
/// Figures that are no scorer's.
const OTHERS: [&str; 6] = [
    "accuracy",
    "accuracy_answered",
    "abstained",
    "f1_macro",
    "majority_accuracy",
    "self_agreement",
];
/// So many pairs of entries are shown.
const PAIRS: usize = 3;

/// The lines; none where nothing was scored.
pub fn lines(scores: &Scores) -> Vec<String> {
    let mut figures: Vec<(String, Metric)> = Vec::new();
    let all = &scores.overall.metrics;
    let is_of_scorer = |name: &str| !OTHERS.contains(&name) && !LEFT_OUT.contains(&name);
    let first = all.keys().find(|name| is_of_scorer(name));
    for (name, metric) in all {
        // Accuracy is by the first scorer, whose mean is the same as a rule; and where all was answered there is nothing to
        // leave out.
        let may_repeat = name == "accuracy_answered" || Some(name) == first;
        let repeats = may_repeat && all.get("accuracy") == Some(metric);
        if !repeats && !LEFT_OUT.contains(&name.as_str()) {
            figures.push((name.clone(), *metric));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scorer_is_left_out_only_if_it_is_the_accuracy_itself() {
        let metric = |value| Metric {
            value,
            n: 4,
            interval: None,
        };
        let mut scores = Scores::default();
        for (name, value) in [
            ("answered", 1.0),
            ("accuracy", 0.5),
            ("accuracy_answered", 0.5),
            ("equals", 0.5),
            // As good by chance.
            ("judge", 0.5),
            ("recall_macro", 0.25),
        ] {
            scores
                .overall
                .metrics
                .insert(name.to_owned(), metric(value));
        }
        let lines = lines(&scores);
        let shown: Vec<_> = lines[1..]
            .iter()
            .map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(shown, [Some("accuracy"), Some("judge")]);
    }
}
