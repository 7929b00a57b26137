//! The figures are those of scikit-learn, statsmodels and krippendorff: `fixtures/metrics/make.py` asked them.

use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::words::{Group, Interval, LabelScores, Metric, Scores};

use super::binomial;
use super::board::{Board, BoardPlan, Judged};
use super::interval;

/// Random rows with a gold label, three models' answers, and what is to be said of them.
#[derive(Deserialize)]
struct Labelled {
    labels: Vec<String>,
    gold: Vec<usize>,
    raters: [Vec<Option<usize>>; 3],
    accuracy: f64,
    accuracy_wilson: [f64; 2],
    confusion: Vec<Vec<u64>>,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    precision_macro: f64,
    recall_macro: f64,
    f1_macro: f64,
    kappas: [(u64, Option<f64>); 3],
    alpha: Option<f64>,
}

/// The cases of one kind.
fn cases<T: DeserializeOwned>(kind: &str) -> Vec<T> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/metrics/golden.json");
    let text = std::fs::read_to_string(path).expect("the golden figures are there");
    let mut kinds: serde_json::Value = serde_json::from_str(&text).expect("they are JSON");
    let cases: Vec<T> =
        serde_json::from_value(kinds[kind].take()).expect("they are as they should be");
    assert!(cases.len() >= 20, "too few of {kind}");
    cases
}

#[track_caller]
fn same(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
}

#[track_caller]
fn same_ends(found: Option<Interval>, [low, high]: [f64; 2]) {
    let found = found.expect("there is an interval");
    same(found.low, low);
    same(found.high, high);
}

/// What the board makes of a case: its models are the entries of a matrix.
fn scores(case: &Labelled) -> Scores {
    let mut board = Board::new(BoardPlan {
        entries: ["first", "second", "third"].map(str::to_owned).to_vec(),
        repeat: 1,
        labels: Some(case.labels.clone()),
        has_gold: true,
        ..BoardPlan::default()
    });
    let name = |label: usize| case.labels[label].as_str();
    for (row, gold) in case.gold.iter().enumerate() {
        let line = |entry: usize| {
            let label = case.raters[entry][row].map(name);
            Judged {
                entry,
                answered: label.is_some(),
                label,
                gold: Some(name(*gold)),
                scores: &[],
            }
        };
        board.add_row(&[0, 1, 2].map(line));
    }
    board.finish()
}

/// The cases of labels, and what the board makes of each.
fn labelled() -> &'static [(Labelled, Scores)] {
    static CASES: LazyLock<Vec<(Labelled, Scores)>> = LazyLock::new(|| {
        let cases = cases::<Labelled>("labelled").into_iter();
        let with_scores = |case| {
            let scores = scores(&case);
            (case, scores)
        };
        cases.map(with_scores).collect()
    });
    &CASES
}

#[test]
fn accuracy_and_the_confusion_matrix_are_scikit_learns() {
    for (case, scores) in labelled() {
        let first = &scores.by_entry["first"];
        let accuracy = first.metrics["accuracy"];
        assert_eq!(accuracy.n, case.gold.len() as u64);
        same(accuracy.value, case.accuracy);
        same_ends(accuracy.interval, case.accuracy_wilson);
        let confusion = first.confusion.as_ref().expect("there are labels");
        assert_eq!(confusion.labels, case.labels);
        assert_eq!(confusion.counts, case.confusion);
    }
}

#[test]
fn precision_recall_and_f1_are_scikit_learns() {
    type Part = fn(&LabelScores) -> Option<Metric>;
    for (case, scores) in labelled() {
        let first: &Group = &scores.by_entry["first"];
        let parts: [(Part, &[f64]); 3] = [
            (|scores| scores.precision, &case.precision),
            (|scores| scores.recall, &case.recall),
            (|scores| scores.f1, &case.f1),
        ];
        for (part, wanted) in parts {
            assert_eq!(first.labels.len(), wanted.len());
            for (found, wanted) in first.labels.values().zip(wanted) {
                // What is not known is nothing to scikit-learn.
                same(part(found).map_or(0.0, |metric| metric.value), *wanted);
            }
        }
        same(first.metrics["precision_macro"].value, case.precision_macro);
        same(first.metrics["recall_macro"].value, case.recall_macro);
        same(first.metrics["f1_macro"].value, case.f1_macro);
    }
}

#[test]
fn kappa_is_scikit_learns_and_alpha_is_that_of_krippendorff() {
    for (case, scores) in labelled() {
        let wanted: Vec<_> = case
            .kappas
            .iter()
            .filter(|(_, value)| value.is_some())
            .collect();
        assert_eq!(scores.kappas.len(), wanted.len());
        for ((_, _, found), (n, wanted)) in scores.kappas.iter().zip(wanted) {
            assert_eq!(found.n, *n);
            same(found.value, wanted.unwrap_or(f64::NAN));
        }
        assert_eq!(scores.alpha.is_some(), case.alpha.is_some());
        same(
            scores.alpha.map_or(0.0, |alpha| alpha.value),
            case.alpha.unwrap_or(0.0),
        );
    }
}

#[derive(Deserialize)]
struct Share {
    successes: u64,
    n: u64,
    confidence: f64,
    interval: [f64; 2],
}

#[test]
fn wilsons_interval_is_that_of_statsmodels() {
    for case in cases::<Share>("wilson") {
        let found = interval::wilson(case.successes as f64, case.n, case.confidence);
        same_ends(Some(found), case.interval);
    }
}

#[derive(Deserialize)]
struct Flips {
    better: u64,
    worse: u64,
    p: f64,
}

#[test]
fn mcnemars_exact_test_is_that_of_statsmodels() {
    for case in cases::<Flips>("mcnemar") {
        let found = binomial::evenness(case.better, case.worse);
        same(found, case.p);
        if case.p < 1e-300 {
            continue;
        }
        assert!(
            (found / case.p - 1.0).abs() < 1e-9,
            "{found} is not {}",
            case.p
        );
    }
}

#[derive(Deserialize)]
struct Independent {
    before: (u64, u64),
    after: (u64, u64),
    interval: [f64; 2],
}

#[test]
fn newcombes_interval_is_that_of_statsmodels() {
    for case in cases::<Independent>("newcombe") {
        let found = interval::newcombe(case.before, case.after, 0.95);
        same_ends(Some(found), case.interval);
    }
}
