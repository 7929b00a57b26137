//! Runs that should be alike: how much they differ all the same, and what that means for a gate.

use std::path::{Path, PathBuf};

use super::diff::{asked_differently, changed, paired};
use super::graded::Graded;
use super::summary::RunError;
use crate::words::{Comparison, Metric};

const CONFIDENCE: f64 = 0.95;
/// How far a difference must lie from what it is compared with to be seen with 95 % confidence, in standard errors;
/// and how much farther to be seen so in 80 % of the cases.
const SURE: f64 = 1.96;
const POWER_80: f64 = 0.8416;
/// The same for 95 % of the cases, and some more: the error itself is reckoned from few rows.
const POWER_95: f64 = 2.0;

/// The noise between runs.
#[derive(Debug, Clone)]
pub struct Noise {
    /// The scorer, where all runs have one.
    pub scorer: Option<String>,
    /// Each pair of runs.
    pub pairs: Vec<NoiseOf>,
    /// The spread of the difference that a row's score makes between two runs: its standard deviation.
    pub deviation: Option<f64>,
    /// A `not_worse_than` at which equal runs pass in 95 % of the cases.
    pub margin: Option<f64>,
    /// The drop that a gate with this margin finds in 80 % of the cases.
    pub drop: Option<f64>,
    /// How many rows a run has, where these two are reckoned.
    pub rows: u64,
    /// Runs whose answers are not their own, and how many of them.
    pub reused: Vec<(PathBuf, u64)>,
}

/// How two runs differ that should not.
#[derive(Debug, Clone)]
pub struct NoiseOf {
    /// One run.
    pub one: PathBuf,
    /// The other run.
    pub other: PathBuf,
    /// The share of rows with another answer.
    pub changed: Metric,
    /// How the scores differ.
    pub comparison: Option<Comparison>,
    /// How many rows were asked something else: then they should differ.
    pub asked_differently: u64,
    /// How many rows only one of the two has.
    pub missing: u64,
}

/// Compares each of these runs with each other.
pub fn noise(dirs: &[PathBuf]) -> Result<Noise, RunError> {
    let runs = dirs.iter().map(|dir| Graded::of_run(dir));
    let runs: Vec<Graded> = runs.collect::<Result<_, _>>()?;
    let scorers = runs.first().map(|run| &run.scorers[..]).unwrap_or_default();
    let everywhere = |name: &&String| runs.iter().all(|run| run.scorer(name).is_some());
    let scorer = scorers.iter().find(everywhere).cloned();
    let mut pairs = Vec::new();
    let (mut squares, mut count) = (0.0, 0_u64);
    for (at, one) in runs.iter().enumerate() {
        for (behind, other) in runs[at + 1..].iter().enumerate() {
            let positions = scorer
                .as_ref()
                .and_then(|name| one.scorer(name).zip(other.scorer(name)));
            if let Some((first, second)) = positions {
                for pair in one.pairs(other).filter(|pair| other.is_of_all(pair.after)) {
                    let scores = one
                        .score(pair.before, first)
                        .zip(other.score(pair.after, second));
                    if let Some((before, after)) = scores {
                        squares += (after - before).powi(2);
                        count += 1;
                    }
                }
            }
            pairs.push(of_two(
                (&dirs[at], one),
                (&dirs[at + 1 + behind], other),
                positions,
            ));
        }
    }
    let reused = dirs.iter().zip(&runs).filter(|(_, run)| run.reused > 0);
    let noise = Noise {
        scorer,
        pairs,
        deviation: (count > 0).then(|| (squares / count.max(1) as f64).sqrt()),
        margin: None,
        drop: None,
        rows: 0,
        reused: reused.map(|(dir, run)| (dir.clone(), run.reused)).collect(),
    };
    Ok(noise.with_margin())
}

fn of_two(
    (one, run): (&Path, &Graded),
    (other, second): (&Path, &Graded),
    scorer: Option<(usize, usize)>,
) -> NoiseOf {
    let both = run
        .pairs(second)
        .filter(|pair| second.is_of_all(pair.after));
    let units = run.of_all().count() + second.of_all().count();
    NoiseOf {
        one: one.to_owned(),
        other: other.to_owned(),
        changed: changed(run, second),
        comparison: scorer
            .and_then(|(first, last)| paired(run, second, first, last).0.comparison(CONFIDENCE)),
        asked_differently: asked_differently(run, second),
        missing: (units - 2 * both.count()) as u64,
    }
}

impl Noise {
    /// With a margin at which these runs, and most runs like them, pass.
    fn with_margin(mut self) -> Self {
        let compared = || {
            self.pairs
                .iter()
                .filter_map(|pair| pair.comparison.as_ref())
        };
        let rows = compared().map(|comparison| comparison.n).min();
        if let (Some(deviation), Some(rows @ 1..)) = (self.deviation, rows) {
            let error = deviation / (rows as f64).sqrt();
            let widths = compared().filter_map(|comparison| {
                let interval = comparison.difference.interval?;
                Some((interval.high - interval.low) / 2.0)
            });
            // Where nothing differed, its interval still says what may.
            let widest = widths.fold(SURE * error, f64::max);
            let margin = ((widest + POWER_95 * error) * 1000.0).ceil() / 1000.0;
            self.margin = Some(margin);
            self.drop = Some(margin + widest + POWER_80 * error);
            self.rows = rows;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::verdict;
    use crate::words::{Digest, Verdict};

    /// A run of rows that are right with a chance of their own each, and another one by so much less.
    fn run(rng: &mut fastrand::Rng, drop: f64) -> Graded {
        let mut graded = Graded::new("job", &["equals".to_owned()], &["a".to_owned()]);
        for row in 0..300_u64 {
            // Most rows are always right, some never, a few now and then.
            let chance = [1.0, 1.0, 1.0, 0.9, 1.0, 0.0, 1.0, 0.6, 1.0, 1.0][(row % 10) as usize];
            let right = rng.f64() < chance - drop;
            graded.add_scores(
                Digest::of([row.to_le_bytes()]),
                [Some(f64::from(u8::from(right)))],
            );
        }
        graded
    }

    /// How many of 200 later runs end in each verdict, by the margin that two equal runs suggest.
    fn trial(drop: f64) -> [u32; 3] {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut counts = [0; 3];
        for _ in 0..200 {
            let (one, other) = (run(&mut rng, 0.0), run(&mut rng, 0.0));
            let noise = noise_of(&one, &other).expect("both have scores");
            let later = run(&mut rng, drop);
            let comparison = paired(&one, &later, 0, 0).0.comparison(CONFIDENCE);
            let comparison = comparison.expect("they have rows in common");
            counts[verdict(&comparison.difference, noise.margin.expect("a margin")) as usize] += 1;
        }
        counts
    }

    fn noise_of(one: &Graded, other: &Graded) -> Option<Noise> {
        let (one, other) = ((Path::new("one"), one), (Path::new("other"), other));
        let pairs = vec![of_two(one, other, Some((0, 0)))];
        let comparison = pairs[0].comparison?;
        let changed = (comparison.better + comparison.worse) as f64;
        let noise = Noise {
            scorer: Some("equals".to_owned()),
            pairs,
            deviation: Some((changed / comparison.n as f64).sqrt()),
            margin: None,
            drop: None,
            rows: 0,
            reused: Vec::new(),
        };
        Some(noise.with_margin())
    }

    #[test]
    fn equal_runs_pass_by_the_margin_that_is_suggested_and_worse_ones_do_not() {
        let [pass, _, fail] = trial(0.0);
        assert!(pass >= 186 && fail == 0, "{pass} pass, {fail} fail");
        let [pass, _, fail] = trial(0.15);
        assert!(pass == 0 && fail >= 160, "{pass} pass, {fail} fail");
        assert_eq!(Verdict::Fail as usize, 2);
    }
}
