//! Whether the intervals and verdicts keep their word: on runs whose truth is known, a thousand times.

use crate::words::Verdict;

use super::labels::Labels;
use super::matrix::{Matrix, NONE};
use super::paired::{Pairs, verdict};

const TRIALS: u32 = 1_000;
const ROWS: usize = 300;

/// How often each verdict came.
#[derive(Debug, Default)]
struct Verdicts {
    passed: u32,
    inconclusive: u32,
    failed: u32,
}

/// The verdicts on runs of as many rows; `chances` draws how likely the same row is right before and after.
fn verdicts(not_worse_than: f64, chances: impl Fn(&mut fastrand::Rng) -> (f64, f64)) -> Verdicts {
    let mut random = fastrand::Rng::with_seed(300);
    let mut found = Verdicts::default();
    for _ in 0..TRIALS {
        let mut pairs = Pairs::default();
        for _ in 0..ROWS {
            let (before, after) = chances(&mut random);
            let mut score = |chance| f64::from(u8::from(random.f64() < chance));
            pairs.add(score(before), score(after));
        }
        let comparison = pairs.comparison(0.95).expect("there are rows");
        match verdict(&comparison.difference, not_worse_than) {
            Verdict::Pass => found.passed += 1,
            Verdict::Inconclusive => found.inconclusive += 1,
            Verdict::Fail => found.failed += 1,
        }
    }
    found
}

/// How likely a row is right where 85 of 100 are: most rows are easy, some are hard, few are in between. A draw from
/// Beta(0.85, 0.15), by Jöhnk.
fn ease(random: &mut fastrand::Rng) -> f64 {
    loop {
        let (one, other) = (random.f64().powf(1.0 / 0.85), random.f64().powf(1.0 / 0.15));
        if one + other <= 1.0 {
            return one / (one + other);
        }
    }
}

#[test]
fn two_noisy_runs_of_the_same_seldom_look_worse() {
    for margin in [0.0, 0.02] {
        let found = verdicts(margin, |random| {
            let ease = ease(random);
            (ease, ease)
        });
        assert!(found.failed <= TRIALS / 20, "{margin}: {found:?}");
        let independent = verdicts(margin, |_| (0.85, 0.85));
        assert!(
            independent.failed <= TRIALS / 20,
            "{margin}: {independent:?}"
        );
    }
}

#[test]
fn a_drop_of_ten_points_is_caught() {
    let found = verdicts(0.02, |random| {
        let ease = ease(random);
        (ease, ease * 0.75 / 0.85)
    });
    assert!(found.failed >= TRIALS * 4 / 5, "noisy: {found:?}");
    let independent = verdicts(0.0, |_| (0.85, 0.75));
    assert!(
        independent.failed >= TRIALS * 4 / 5,
        "independent: {independent:?}"
    );
    let sure = verdicts(0.02, |random| match random.f64() {
        draw if draw < 0.75 => (1.0, 1.0),
        draw if draw < 0.85 => (1.0, 0.0),
        _ => (0.0, 0.0),
    });
    assert!(sure.failed >= TRIALS * 4 / 5, "without noise: {sure:?}");
}

#[test]
fn scores_between_nothing_and_one_are_judged_as_well() {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut false_alarms, mut caught) = (0, 0);
    let trials = 100;
    for _ in 0..trials {
        let (mut same, mut worse) = (Pairs::default(), Pairs::default());
        for _ in 0..ROWS {
            let ease = ease(&mut random);
            let mut score = |chance: f64| {
                let right = (0..3).filter(|_| random.f64() < chance).count();
                right as f64 / 3.0
            };
            let before = score(ease);
            same.add(before, score(ease));
            worse.add(before, score(ease * 0.75 / 0.85));
        }
        let fails = |pairs: &Pairs| {
            let comparison = pairs.comparison(0.95).expect("there are rows");
            u32::from(verdict(&comparison.difference, 0.02) == Verdict::Fail)
        };
        false_alarms += fails(&same);
        caught += fails(&worse);
    }
    assert!(false_alarms <= trials / 20, "{false_alarms} of {trials}");
    assert!(caught >= trials * 4 / 5, "{caught} of {trials}");
}

/// How likely a line has the label of the row and is given the label of the column; the last is none.
const JOINT: [[f64; 4]; 3] = [
    [0.40, 0.05, 0.03, 0.02],
    [0.04, 0.20, 0.05, 0.01],
    [0.03, 0.04, 0.12, 0.01],
];

/// The mean F1 of all lines there could be.
fn true_f1() -> f64 {
    let f1 = |label: usize| {
        let has: f64 = JOINT[label].iter().sum();
        let given: f64 = JOINT.iter().map(|row| row[label]).sum();
        2.0 * JOINT[label][label] / (has + given)
    };
    (f1(0) + f1(1) + f1(2)) / 3.0
}

/// A cell of [`JOINT`].
fn cell(random: &mut fastrand::Rng) -> (u32, u32) {
    let mut left = random.f64();
    let cells = (0..3).flat_map(|has| (0..4).map(move |given| (has, given)));
    let found = cells.into_iter().find(|(has, given)| {
        left -= JOINT[*has as usize][*given as usize];
        left < 0.0
    });
    match found {
        Some((has, 3)) => (has, NONE),
        found => found.unwrap_or((2, NONE)),
    }
}

#[test]
fn the_true_macro_f1_is_in_its_interval_as_often_as_is_said() {
    let labels = Labels::new(Some(["a", "b", "c"].map(str::to_owned).to_vec()));
    let mut random = fastrand::Rng::with_seed(11);
    let (trials, truth) = (200, true_f1());
    let covered = (0..trials).filter(|_| {
        let mut matrix = Matrix::new();
        (0..ROWS).for_each(|_| matrix.add(vec![cell(&mut random)]));
        let found = matrix.found(&labels).expect("there are lines");
        let interval = found.macros[2].and_then(|f1| f1.interval);
        let interval = interval.expect("the rows differ");
        interval.low <= truth && truth <= interval.high
    });
    let share = covered.count() as f64 / f64::from(trials);
    assert!((0.92..=0.98).contains(&share), "{share}");
}
