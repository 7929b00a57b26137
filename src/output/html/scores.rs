//! Whether the run is good enough, and how good its answers are.

use super::charts::interval;
use super::parts::{Cell, list, paragraph, table};
use crate::output::figures::{figure, name, range, range_of};
use crate::output::score_markdown::confusions;
use crate::words::{Confusion, GateCheck, GateReport, Group, LabelScores, Metric, Scores, Verdict};

/// So many labels fit into a table of which was taken for which.
const LABELS: usize = 20;
/// So many confusions are named where there are more labels.
const CONFUSIONS: usize = 20;
/// So many lines of any other table are shown.
const LINES: usize = 100;
/// So many figures are shown of each entry of the matrix.
const FIGURES: usize = 8;

/// What became of the gate.
pub(super) fn gate(gate: Option<&GateReport>) -> String {
    let Some(gate) = gate else {
        return String::new();
    };
    let mut lines: Vec<_> = gate.checks.iter().map(check).collect();
    let more = cut(&mut lines);
    let texts = gate.checks.iter().map(|check| check.text.clone());
    let texts: Vec<_> = texts.filter(|text| !text.is_empty()).take(LINES).collect();
    let header = ["check", "wanted", "found", "verdict", "gate"];
    [table("", &header, &lines), more, list(&texts)].concat()
}

fn check(check: &GateCheck) -> Vec<Cell> {
    let found = match (&check.difference, &check.found) {
        (Some(difference), _) => range(*difference),
        (None, Some(found)) => figure(found.value),
        (None, None) => "-".to_owned(),
    };
    let (gate, class) = met(check.is_met);
    vec![
        Cell::Name(check.name.clone()),
        Cell::Text(check.wanted.clone()),
        Cell::Number(found),
        Cell::Mark(check.verdict.as_str(), colour(check.verdict)),
        Cell::Mark(gate, class),
    ]
}

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "good",
        Verdict::Inconclusive => "open",
        Verdict::Fail => "bad",
    }
}

/// What a gate comes to, and its colour.
pub(super) fn met(is_met: bool) -> (&'static str, &'static str) {
    match is_met {
        true => ("passed", "good"),
        false => ("not passed", "bad"),
    }
}

/// How good the answers are.
pub(super) fn scores(scores: Option<&Scores>) -> String {
    let Some(scores) = scores else {
        return String::new();
    };
    let metrics = scores.overall.metrics.iter();
    let metrics = metrics.map(|(key, metric)| (name(key), *metric));
    [
        figures("", "figure", metrics, 0.0),
        by_entry(scores),
        agreement(scores),
        notes(scores),
        labels(&scores.overall),
        scores
            .overall
            .confusion
            .as_ref()
            .map(confusion)
            .unwrap_or_default(),
    ]
    .concat()
}

/// A table of figures, each drawn with where its true value may lie.
fn figures(
    title: &str,
    what: &str,
    lines: impl Iterator<Item = (String, Metric)>,
    lowest: f64,
) -> String {
    let line = |(name, metric): (String, Metric)| {
        let cells = drawn(&metric, lowest);
        std::iter::once(Cell::Name(name)).chain(cells).collect()
    };
    let scale = match lowest < 0.0 {
        true => "-1 to 1",
        false => "0 to 1",
    };
    let mut lines: Vec<_> = lines.map(line).collect();
    let more = cut(&mut lines);
    table(title, &[what, "value", scale, "95 %", "of"], &lines) + &more
}

/// A figure, drawn, in numbers, and of how many it is.
fn drawn(metric: &Metric, lowest: f64) -> [Cell; 4] {
    [
        Cell::Number(figure(metric.value)),
        Cell::Drawn(interval(metric, lowest)),
        Cell::Number(range_of(metric)),
        Cell::count(metric.n),
    ]
}

/// Leaves as many lines as are shown, and says how many more there are.
fn cut(lines: &mut Vec<Vec<Cell>>) -> String {
    match lines.len().checked_sub(LINES) {
        None | Some(0) => String::new(),
        Some(more) => {
            lines.truncate(LINES);
            paragraph(&format!("and {more} more in report.json"))
        }
    }
}

/// The figures of each entry of the matrix, beside each other.
fn by_entry(scores: &Scores) -> String {
    let several = scores.by_entry.len() > 1;
    let names = scores.overall.metrics.keys().filter(|_| several);
    let lines = names.take(FIGURES).flat_map(|key| {
        let entries = scores.by_entry.iter();
        let found =
            entries.filter_map(move |(entry, group)| Some((entry, group.metrics.get(key)?)));
        found.enumerate().map(move |(at, (entry, metric))| {
            let shown = if at == 0 { name(key) } else { String::new() };
            let mut line = vec![Cell::Name(shown), Cell::Text(entry.clone())];
            line.extend(drawn(metric, 0.0));
            line
        })
    });
    let mut lines: Vec<_> = lines.collect();
    let more = cut(&mut lines);
    let header = ["figure", "entry", "value", "0 to 1", "95 %", "of"];
    table("By entry", &header, &lines) + &more
}

/// How far the entries of the matrix agree.
fn agreement(scores: &Scores) -> String {
    let alpha = scores.alpha.iter();
    let alpha = alpha.map(|alpha| ("all, Krippendorff's alpha".to_owned(), *alpha));
    let kappas = scores.kappas.iter();
    let kappas = kappas.map(|(a, b, kappa)| (format!("{a} and {b}, Cohen's kappa"), *kappa));
    figures(
        "Agreement of the entries",
        "entries",
        alpha.chain(kappas),
        -1.0,
    )
}

fn notes(scores: &Scores) -> String {
    scores
        .notes
        .iter()
        .take(LINES)
        .map(|note| paragraph(note))
        .collect()
}

/// How well each label was found.
fn labels(group: &Group) -> String {
    let line = |(label, scores): (&String, &LabelScores)| {
        let mut cells = vec![Cell::Name(label.clone())];
        for metric in [scores.precision, scores.recall, scores.f1] {
            cells.push(Cell::Number(
                metric.map_or("-".to_owned(), |metric| figure(metric.value)),
            ));
            cells.push(Cell::Drawn(
                metric
                    .map(|metric| interval(&metric, 0.0))
                    .unwrap_or_default(),
            ));
        }
        let lines = scores.recall.map_or(0, |recall| recall.n);
        cells.push(Cell::count(lines));
        cells
    };
    let mut lines: Vec<_> = group.labels.iter().map(line).collect();
    let more = cut(&mut lines);
    let header = ["label", "precision", "", "recall", "", "F1", "", "lines"];
    table("Labels", &header, &lines) + &more
}

/// Which label was given for which: all of it, or the most frequent confusions where there are too many labels.
fn confusion(confusion: &Confusion) -> String {
    if confusion.labels.len() > LABELS {
        let pairs = confusions(confusion);
        let line = |(should, is, lines): &(&str, &str, u64)| {
            vec![
                Cell::Name((*should).to_owned()),
                Cell::Text((*is).to_owned()),
                Cell::count(*lines),
            ]
        };
        let lines: Vec<_> = pairs.iter().take(CONFUSIONS).map(line).collect();
        return table(
            "Most frequent confusions",
            &["should be", "is", "lines"],
            &lines,
        );
    }
    let heads = confusion
        .labels
        .iter()
        .map(String::as_str)
        .chain(["no label"]);
    let heads: Vec<String> = heads.map(super::parts::escape_name).collect();
    let mut header = vec!["should be ↓ is →"];
    header.extend(heads.iter().map(String::as_str));
    let rows = confusion.labels.iter().zip(&confusion.counts).enumerate();
    let rows = rows.map(|(at, (label, counts))| {
        let all: u64 = counts.iter().sum();
        let cells = counts.iter().enumerate();
        let cells = cells.map(|(is, count)| Cell::Heat(*count, heat(*count, all, is == at)));
        std::iter::once(Cell::Name(label.clone()))
            .chain(cells)
            .collect()
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    table("Which label was given for which", &header, &rows)
}

/// The class of a count: the larger a part of its row, the stronger. Of what is wrong a little is much.
fn heat(count: u64, all: u64, is_right: bool) -> &'static str {
    const RIGHT: [&str; 4] = ["right1", "right2", "right3", "right4"];
    const WRONG: [&str; 4] = ["wrong1", "wrong2", "wrong3", "wrong4"];
    let (classes, percents) = match is_right {
        true => (RIGHT, [25, 50, 75]),
        false => (WRONG, [5, 15, 40]),
    };
    let above = |percent: &&u64| u128::from(count) * 100 > u128::from(**percent) * u128::from(all);
    match count {
        0 => "",
        _ => classes[percents.iter().filter(above).count()],
    }
}
