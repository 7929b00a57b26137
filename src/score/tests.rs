//! What the board makes of lines.

use std::time::Instant;

use crate::words::{Interval, Method, Metric, Scores};

use super::board::{Board, BoardPlan, Judged};
use super::interval;

/// Labels of one character: `a` and `b` are labels, `?` is to abstain, `-` is an answer that is not valid, ` ` none.
fn judged<'a>(
    entry: usize,
    label: &'a str,
    gold: &'a str,
    scores: &'a [Option<f64>],
) -> Judged<'a> {
    Judged {
        entry,
        answered: label != " ",
        label: (label != "-" && label != " ").then_some(label),
        gold: (gold != " ").then_some(gold),
        scores,
    }
}

fn plan() -> BoardPlan {
    BoardPlan {
        repeat: 1,
        labels: Some(vec!["a".to_owned(), "b".to_owned()]),
        abstain: Some("?".to_owned()),
        has_gold: true,
        ..BoardPlan::default()
    }
}

/// The figures of one entry; each row is its gold label and the labels that it was given.
fn of(plan: BoardPlan, rows: &[(&str, &str)]) -> Scores {
    let mut board = Board::new(plan);
    for (gold, labels) in rows {
        let labels = (0..labels.len()).map(|at| &labels[at..=at]);
        let lines: Vec<_> = labels.map(|label| judged(0, label, gold, &[])).collect();
        board.add_row(&lines);
    }
    board.finish()
}

/// A figure and of how many it is.
fn figure(scores: &Scores, name: &str) -> Option<(f64, u64)> {
    let metric = scores.overall.metrics.get(name)?;
    Some((metric.value, metric.n))
}

#[test]
fn what_is_not_valid_is_wrong_and_left_out_of_the_accuracy_of_answers() {
    let rows = [
        ("a", "a"),
        ("b", "a"),
        ("a", "-"),
        ("b", "?"),
        ("a", " "),
        (" ", "a"),
    ];
    let scores = of(plan(), &rows);
    assert_eq!(figure(&scores, "answered"), Some((5.0 / 6.0, 6)));
    assert_eq!(figure(&scores, "abstained"), Some((1.0 / 6.0, 6)));
    assert_eq!(figure(&scores, "accuracy"), Some((0.2, 5)));
    assert_eq!(figure(&scores, "accuracy_answered"), Some((0.5, 2)));
    let confusion = scores.overall.confusion.expect("there are labels");
    assert_eq!(confusion.counts, [[1, 0, 2], [1, 0, 1]]);
    assert_eq!(figure(&of(plan(), &rows), "majority_accuracy"), None);
    assert!(scores.notes.is_empty(), "{:?}", scores.notes);
}

#[test]
fn to_abstain_is_right_where_the_row_says_so_and_a_gold_label_that_is_no_label_is_told() {
    let twice = || BoardPlan {
        repeat: 2,
        ..plan()
    };
    let scores = of(twice(), &[("?", "?"), ("z", "a"), ("a", "a")]);
    assert_eq!(figure(&scores, "majority_accuracy"), Some((0.5, 2)));
    assert_eq!(figure(&scores, "accuracy"), Some((2.0 / 3.0, 3)));
    let a = scores.overall.labels["a"];
    assert_eq!(
        a.precision.map(|found| (found.value, found.n)),
        Some((0.5, 2))
    );
    let b = scores.overall.labels["b"];
    assert_eq!((b.precision, b.recall, b.f1), (None, None, None));
    assert_eq!(figure(&scores, "f1_macro"), Some((2.0 / 3.0, 3)));
    assert_eq!(
        scores.notes,
        [
            "The gold label of 1 line is none of the job's labels: it is in no row of the confusion matrix."
        ]
    );
}

#[test]
fn scorers_have_means_of_their_own_and_the_first_one_says_what_is_right() {
    let mut board = Board::new(BoardPlan {
        scorers: vec!["close".to_owned(), "polite".to_owned()],
        ..plan()
    });
    for scores in [
        [Some(1.0), None],
        [Some(0.5), Some(0.25)],
        [Some(0.0), Some(0.75)],
        [None, None],
    ] {
        board.add_row(&[judged(0, "a", "a", &scores)]);
    }
    let scores = board.finish();
    assert_eq!(figure(&scores, "accuracy"), Some((1.0 / 3.0, 3)));
    assert_eq!(figure(&scores, "close"), Some((0.5, 3)));
    assert_eq!(figure(&scores, "polite"), Some((0.5, 2)));
    let names: Vec<&str> = scores.overall.metrics.keys().map(String::as_str).collect();
    assert_eq!(
        names[..4],
        ["answered", "abstained", "accuracy", "accuracy_answered"]
    );
    assert_eq!(
        names[4..],
        [
            "close",
            "polite",
            "precision_macro",
            "recall_macro",
            "f1_macro"
        ]
    );
    let close = scores.overall.metrics["close"].interval;
    assert_eq!(close.map(|found| found.method), Some(Method::Bootstrap));
}

#[test]
fn repeats_vote_and_agree_and_a_tie_is_wrong() {
    let plan = BoardPlan {
        repeat: 3,
        ..plan()
    };
    let scores = of(
        plan,
        &[("a", "aab"), ("b", "ab-"), ("a", "bb?"), ("b", "b--")],
    );
    assert_eq!(figure(&scores, "accuracy"), Some((4.0 / 12.0, 12)));
    assert_eq!(figure(&scores, "majority_accuracy"), Some((0.5, 4)));
    let agreement = figure(&scores, "self_agreement").expect("there are pairs");
    assert!((agreement.0 - (1.0 / 3.0 + 0.0 + 1.0) / 3.0).abs() < 1e-12 && agreement.1 == 3);
    let alpha = scores.alpha.expect("repeats are raters");
    assert_eq!(alpha.n, 3);
    assert!(
        scores.notes[0].contains("over the repeats"),
        "{:?}",
        scores.notes
    );
    let method = |name: &str| {
        scores.overall.metrics[name]
            .interval
            .map(|found| found.method)
    };
    assert_eq!(method("majority_accuracy"), Some(Method::Wilson));
    assert_eq!(method("accuracy"), Some(Method::Bootstrap));
}

#[test]
fn entries_of_a_matrix_have_figures_of_their_own_and_are_compared_by_their_majorities() {
    let mut board = Board::new(BoardPlan {
        entries: vec!["small".to_owned(), "large".to_owned()],
        repeat: 3,
        ..plan()
    });
    let rows = [
        ("a", "aab", "aaa"),
        ("b", "aa-", "bbb"),
        ("b", "ab-", "bb-"),
        ("b", "bbb", "b?b"),
    ];
    for (gold, small, large) in rows {
        let entry = |entry: usize, labels: &'static str| {
            (0..3).map(move |at| judged(entry, &labels[at..=at], gold, &[]))
        };
        let lines: Vec<_> = entry(1, large).chain(entry(0, small)).collect();
        board.add_row(&lines);
    }
    let scores = board.finish();
    let of = |entry: &str, name: &str| scores.by_entry[entry].metrics[name].value;
    assert_eq!(of("small", "majority_accuracy"), 0.5);
    assert_eq!(of("large", "majority_accuracy"), 1.0);
    assert_eq!(figure(&scores, "majority_accuracy"), Some((0.75, 8)));
    assert_eq!(of("small", "accuracy"), 6.0 / 12.0);
    assert_eq!(scores.kappas.len(), 1);
    let (one, other, kappa) = &scores.kappas[0];
    assert_eq!(
        (one.as_str(), other.as_str(), kappa.n),
        ("small", "large", 3)
    );
    // Of three rows two agree; by chance 2/3 · 1/3 + 1/3 · 2/3 would.
    assert!((kappa.value - 0.4).abs() < 1e-12);
    assert_eq!(scores.alpha.map(|alpha| alpha.n), Some(3));
    assert!(scores.notes.is_empty(), "{:?}", scores.notes);
}

#[test]
fn labels_that_nobody_named_are_those_that_are_seen_unless_they_are_many() {
    let open = || BoardPlan {
        labels: None,
        abstain: None,
        ..plan()
    };
    let scores = of(open(), &[("z", "y"), ("a", "a")]);
    let labels: Vec<&str> = scores.overall.labels.keys().map(String::as_str).collect();
    assert_eq!(labels, ["a", "y", "z"]);
    let confusion = scores.overall.confusion.expect("there are labels");
    assert_eq!(confusion.counts, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]);

    let mut board = Board::new(open());
    for row in 0..60 {
        let label = format!("answer {row}");
        board.add_row(&[judged(0, &label, "answer 7", &[])]);
    }
    let scores = board.finish();
    assert_eq!(figure(&scores, "accuracy"), Some((1.0 / 60.0, 60)));
    assert_eq!(scores.overall.confusion, None);
    assert!(scores.overall.labels.is_empty() && scores.alpha.is_none());
    assert!(
        scores.notes[0].contains("more than 50"),
        "{:?}",
        scores.notes
    );
}

#[test]
fn answers_that_are_no_labels_to_anybody_are_no_loss() {
    let mut board = Board::new(BoardPlan {
        repeat: 1,
        ..BoardPlan::default()
    });
    for row in 0..60 {
        let answer = format!("answer {row}");
        board.add_row(&[judged(0, &answer, " ", &[])]);
    }
    let scores = board.finish();
    assert_eq!(figure(&scores, "answered"), Some((1.0, 60)));
    assert_eq!((scores.overall.metrics.len(), scores.notes.len()), (1, 0));
}

#[test]
fn figures_of_several_lines_a_row_are_as_sure_as_the_rows_are_many() {
    let plan = || BoardPlan {
        repeat: 5,
        ..plan()
    };
    let mut random = fastrand::Rng::with_seed(8);
    let rows: Vec<(&str, &str)> = (0..200)
        .map(|_| match random.u8(..10) {
            0..5 => ("a", "aaaaa"),
            5..8 => ("b", "bbbbb"),
            8 => ("b", "aaaaa"),
            _ => ("a", "-----"),
        })
        .collect();
    let alone: Vec<(&str, &str)> = rows
        .iter()
        .map(|(gold, five)| (*gold, &five[..1]))
        .collect();
    let (five, one) = (of(plan(), &rows), of(plan(), &alone));
    let width = |metric: Option<Metric>| {
        let interval: Option<Interval> = metric.and_then(|metric| metric.interval);
        interval.map_or(f64::NAN, |found| found.high - found.low)
    };
    for name in ["accuracy", "answered", "f1_macro"] {
        let of = |scores: &Scores| width(scores.overall.metrics.get(name).copied());
        let ratio = of(&five) / of(&one);
        assert!(
            name == "answered" || (ratio - 1.0).abs() < 0.15,
            "{name}: {ratio}"
        );
    }
    let recall = |scores: &Scores| width(scores.overall.labels["b"].recall);
    assert!((recall(&five) / recall(&one) - 1.0).abs() < 0.15);
}

#[test]
fn the_same_lines_have_the_same_figures_to_the_last_bit() {
    let rows = [
        ("a", "aab"),
        ("b", "ab-"),
        ("a", "bb?"),
        ("b", "b--"),
        ("a", "aaa"),
    ];
    let of = || {
        of(
            BoardPlan {
                repeat: 3,
                ..plan()
            },
            &rows,
        )
    };
    assert_eq!(format!("{:?}", of()), format!("{:?}", of()));
}

#[test]
fn nothing_at_all_is_no_figure() {
    let scores = Board::new(plan()).finish();
    assert!(scores.overall.metrics.is_empty() && scores.overall.confusion.is_none());
    let answered = of(plan(), &[("a", "a")]).overall.metrics["answered"];
    assert_eq!(answered.interval, Some(interval::wilson(1.0, 1, 0.95)));
}

/// `cargo test --release --lib -- --ignored a_million`
#[test]
#[ignore = "a measurement: run it in release"]
fn a_million_rows_take_a_second_or_two() {
    let names: Vec<String> = (0..10).map(|label| format!("label {label}")).collect();
    for entries in [1, 3] {
        let mut board = Board::new(BoardPlan {
            entries: (0..entries).map(|entry| entry.to_string()).collect(),
            scorers: vec!["score".to_owned()],
            labels: Some(names.clone()),
            ..plan()
        });
        let mut random = fastrand::Rng::with_seed(9);
        let started = Instant::now();
        for _ in 0..1_000_000 {
            let gold = names[random.usize(..10)].as_str();
            let score = [Some(random.f64())];
            let lines: Vec<_> = (0..entries)
                .map(|entry| judged(entry, &names[random.usize(..10)], gold, &score))
                .collect();
            board.add_row(&lines);
        }
        let scores = board.finish();
        assert!(scores.overall.metrics.contains_key("f1_macro"));
        let taken = started.elapsed();
        assert!(taken.as_secs() < 5, "{entries}: {taken:?}");
    }
}
