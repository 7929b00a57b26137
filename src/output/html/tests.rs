//! The page as a browser would read it, with everything that a report can hold.

use std::sync::Arc;

use super::*;
use crate::words::{
    Answer, Attempt, AttemptKind, BackendSeen, Columns, Confusion, Cost, Digest, ErrorClass,
    GateCheck, GateReport, Group, Interval, Item, LabelScores, Marks, Method, Metric, Outcome,
    ResultLine, Row, Scores, Verdict,
};

/// A report in which every name and every error is as long and as rude as this.
fn rude(text: &str, names: u32) -> Report {
    let cells: Vec<String> = (0..12).map(|number| format!("{number}{text}")).collect();
    let columns: Arc<Columns> = Columns::new(cells.clone()).into();
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
            cells: cells.clone(),
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
        assert!(page.len() < 4_000_000, "{text}: {}", page.len());
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

fn metric(value: f64, n: u64) -> Metric {
    let half = 1.0 / (n as f64).sqrt();
    let interval = Interval {
        low: (value - half).max(0.0),
        high: (value + half).min(1.0),
        method: Method::Wilson,
    };
    Metric {
        value,
        n,
        interval: Some(interval),
    }
}

fn group(labels: &[&str], quality: f64) -> Group {
    let names = [
        "answered",
        "accuracy",
        "f1_macro",
        "similarity",
        "self_agreement",
    ];
    let metrics = names.iter().zip([0.97, quality, quality - 0.05, 0.6, 0.9]);
    let label = LabelScores {
        precision: Some(metric(quality, 80)),
        recall: Some(metric(quality - 0.1, 75)),
        f1: Some(metric(quality - 0.06, 75)),
    };
    let size = labels.len();
    let count = |row: usize, column: usize| match (row, column) {
        _ if row == column => 60,
        _ if column == size => 1,
        _ => (row * 7 + column * 3) as u64 % 11,
    };
    let counts = (0..size).map(|row| (0..=size).map(|column| count(row, column)).collect());
    Group {
        metrics: metrics
            .map(|(name, value)| ((*name).to_owned(), metric(value, 300)))
            .collect(),
        labels: labels
            .iter()
            .map(|name| ((*name).to_owned(), label))
            .collect(),
        confusion: Some(Confusion {
            labels: labels.iter().map(|name| (*name).to_owned()).collect(),
            counts: counts.collect(),
        }),
    }
}

/// A report with something in every section.
fn full(labels: &[&str]) -> Report {
    let columns: Arc<Columns> =
        Columns::new(["text", "language", "label"].map(str::to_owned).to_vec()).into();
    let mut report = Report::new(
        "tickets <b>by</b> two models",
        ["small", "large"].map(str::to_owned),
    )
    .with_entries(["small", "large"].map(Arc::from));
    report.samples = crate::output::samples::Samples::new(true);
    let mut random = fastrand::Rng::with_seed(7);
    for index in 0..300_u64 {
        let text = format!(
            "My parcel {index} has not come, and nobody answers the telephone. What am I to do?"
        );
        let row: Arc<Row> = Row {
            index,
            id: format!("tickets.csv:{}", index + 1),
            columns: Arc::clone(&columns),
            cells: vec![
                text,
                "en".to_owned(),
                labels[index as usize % labels.len()].to_owned(),
            ],
            key: Digest::of([index.to_le_bytes()]),
        }
        .into();
        for entry in 0..2_u32 {
            let backend = ["small", "large"][entry as usize];
            let failed = random.u32(0..40) == 0;
            let said = labels[(index as usize + usize::from(random.u32(0..5) == 0)) % labels.len()];
            let attempt = Attempt {
                model: Some(format!("{backend}-2026")),
                class: failed.then_some(ErrorClass::Server),
                error: failed.then(|| "the server answered 500: overloaded".to_owned()),
                cost: Cost::Known(Usd::from_units(1_000_000_000 * i128::from(entry * 9 + 1))),
                latency: std::time::Duration::from_millis(
                    random.u64(200..900) + random.u64(0..900),
                ),
                ..Attempt::new(1, backend.into(), AttemptKind::First, Digest::default())
            };
            let mut outcome = Outcome {
                status: if failed {
                    Status::Failed
                } else {
                    Status::Answered
                },
                answer: (!failed).then(|| Answer {
                    text: format!("{said}\n\nbecause the customer waits"),
                    finish_reason: None,
                }),
                attempts: vec![attempt],
                ..Outcome::not_run(Item::of(Arc::clone(&row)))
            };
            outcome.item.entry = entry;
            let gold = labels[index as usize % labels.len()];
            let marks = Marks {
                gold: Some(gold.to_owned()),
                scores: vec![(!failed).then_some(if said == gold { 1.0 } else { 0.0 })],
                ..Marks::default()
            };
            report.add(&ResultLine {
                outcome: &outcome,
                marks: &marks,
            });
        }
    }
    let entries = [("small", 0.81), ("large", 0.92)];
    let kappa = metric(0.64, 300);
    report.scores = Some(Scores {
        overall: group(labels, 0.86),
        by_entry: entries
            .map(|(name, quality)| (name.to_owned(), group(labels, quality)))
            .into(),
        kappas: vec![("small".to_owned(), "large".to_owned(), kappa)],
        alpha: Some(metric(0.61, 300)),
        notes: vec!["7 lines have no valid label and count as wrong".to_owned()],
    });
    let check = |name: &str, wanted: &str, verdict| GateCheck {
        name: name.to_owned(),
        wanted: wanted.to_owned(),
        found: Some(metric(0.86, 300)),
        difference: None,
        verdict,
        is_met: verdict == Verdict::Pass,
        text: format!("{name} is 0.860 (0.817 to 0.895); {wanted} is wanted"),
    };
    report.gate = Some(GateReport {
        is_met: false,
        checks: vec![
            check("accuracy", ">= 0.8", Verdict::Pass),
            check("f1_macro", ">= 0.9", Verdict::Fail),
            check(
                "baseline",
                "not worse than runs/main by more than 0.02",
                Verdict::Inconclusive,
            ),
        ],
    });
    report
}

#[test]
fn gate_scores_and_sample_are_on_the_page_and_in_the_markdown() {
    let report = full(&["billing", "shipping", "returns", "<i>other</i>"]);
    let page = render(&report);
    for part in [
        "gate not passed",
        "id=\"scores\"",
        "Which label was given for which",
        "Cohen&#39;s kappa",
        "&lt;i&gt;other&lt;/i&gt;",
        "<option value=\"wrong\">",
        "<option value=\"disagreeing\">",
        "the server answered 500",
        "200 of the 600 lines",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<tr data-kinds").count(), 200);
    // For those who want to look at it.
    if let Some(dir) = std::env::var_os("SHOW_REPORT") {
        std::fs::write(std::path::Path::new(&dir).join("report.html"), &page).unwrap();
        std::fs::write(
            std::path::Path::new(&dir).join("report.md"),
            crate::output::markdown::render(&report),
        )
        .unwrap();
    }
}

#[test]
fn of_many_labels_only_the_largest_confusions_are_shown() {
    let labels: Vec<String> = (0..150).map(|label| format!("label {label}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let page = render(&full(&labels));
    assert!(page.contains("Most frequent confusions"));
    assert!(page.contains("and 50 more in report.json"));
    assert!(page.len() < 1_500_000, "{}", page.len());
}
