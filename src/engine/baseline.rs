//! The run that a job must not be worse than: a stored one, or its scores in a small file that one commits.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::diff::paired;
use super::graded::Graded;
use super::publish::Settings;
use super::summary::{ExitCode, RunError};
use crate::job::{BaselinePlan, Plan, Problem, Problems};
use crate::score::verdict;
use crate::store::{Lines, Reader, StoreError, has_store};
use crate::words::{Comparison, Digest, GateCheck, Usd, Verdict, with_causes};

/// Names the form of the file.
const SCHEMA: &str = "runner.baseline/1";
/// The largest file, in bytes: a million rows have room.
const MOST: u64 = 256 << 20;

/// A baseline file as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    schema: String,
    job: String,
    scorers: Vec<String>,
    entries: Vec<String>,
    cost_usd: Option<Usd>,
    latency_ms: Percentiles,
    /// By the key of the row: for each entry the mean of each scorer.
    scores: IndexMap<String, Vec<Vec<Option<f64>>>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Percentiles {
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
}

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// There is nothing at the path.
    #[error("{path} is not there")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path} is no baseline file: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The run has no scores.
    #[error("{path} has no scores: its job says nothing of how good its answers are")]
    Unscored {
        /// The directory.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The run cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl BaselineError {
    /// The exit code that says so.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            BaselineError::Run(error) => error.exit_code(),
            BaselineError::Write { .. } => ExitCode::Storage,
            _ => ExitCode::Usage,
        }
    }
}

/// What was written for others to compare with.
#[derive(Debug, Clone)]
pub struct WrittenBaseline {
    /// The text of the file.
    pub text: String,
    /// How many rows it has.
    pub rows: usize,
    /// The scorers whose scores it has.
    pub scorers: Vec<String>,
}

/// The scores of the last run in a directory, as a file to compare later runs with; with `to` it is written there.
pub fn baseline(dir: &Path, to: Option<&Path>) -> Result<WrittenBaseline, BaselineError> {
    let graded = Graded::of_run(dir)?;
    if graded.scorers.is_empty() {
        return Err(BaselineError::Unscored {
            path: dir.to_owned(),
        });
    }
    let written = WrittenBaseline {
        text: render(&graded),
        rows: graded.rows.len(),
        scorers: graded.scorers,
    };
    if let Some(path) = to {
        std::fs::write(path, &written.text).map_err(|source| BaselineError::Write {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(written)
}

/// The text of a baseline file: a line a row, by key, so that a change of it can be read.
fn render(graded: &Graded) -> String {
    let [p50, p90, p99] = graded.latency_ms;
    let stored = Stored {
        schema: SCHEMA.to_owned(),
        job: graded.job.clone(),
        scorers: graded.scorers.clone(),
        entries: graded.entries.clone(),
        cost_usd: graded.cost,
        latency_ms: Percentiles { p50, p90, p99 },
        scores: IndexMap::new(),
    };
    let head = serde_json::json!(stored);
    let fields = head.as_object().into_iter().flatten();
    let mut text = "{\n".to_owned();
    for (name, value) in fields.filter(|(name, _)| *name != "scores") {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  \"{name}\": {value},");
    }
    text.push_str("  \"scores\": {");
    let mut rows: Vec<(String, usize)> = graded
        .rows
        .iter()
        .map(ToString::to_string)
        .zip(0..)
        .collect();
    rows.sort_unstable();
    for (position, (key, row)) in rows.iter().enumerate() {
        let entries = graded.entries.len();
        let of_unit = |entry: usize| -> Vec<Option<f64>> {
            let scorers = 0..graded.scorers.len();
            scorers
                .map(|scorer| graded.score(row * entries + entry, scorer))
                .collect()
        };
        let scores: Vec<_> = (0..entries).map(of_unit).collect();
        let comma = if position == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}\n    \"{key}\": {}",
            serde_json::json!(scores)
        );
    }
    text.push_str("\n  }\n}\n");
    text
}

/// Where a baseline is.
enum Place {
    /// In the store of a directory.
    Run(PathBuf),
    /// In a file of its own.
    File(PathBuf),
}

/// Finds out what a path means: a directory with a run, a file beside its store, or a file of its own.
fn place(path: &Path) -> Result<Place, BaselineError> {
    if path.is_dir() {
        return Ok(Place::Run(path.to_owned()));
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default();
    let of_run = ["run.db", "report.json", "results.jsonl", "results.csv"];
    if path.is_file() && has_store(folder) && of_run.iter().any(|of_run| name == *of_run) {
        return Ok(Place::Run(folder.to_owned()));
    }
    match path.exists() {
        true => Ok(Place::File(path.to_owned())),
        false => Err(BaselineError::Missing {
            path: path.to_owned(),
        }),
    }
}

/// What a run is compared with.
fn load(path: &Path) -> Result<Graded, BaselineError> {
    match place(path)? {
        Place::Run(dir) => Ok(Graded::of_run(&dir)?),
        Place::File(path) => read(&path),
    }
}

/// Reads a baseline file.
fn read(path: &Path) -> Result<Graded, BaselineError> {
    let foreign = |why: String| BaselineError::Foreign {
        path: path.to_owned(),
        why,
    };
    let io = |source| BaselineError::Io {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(io)?.len() > MOST {
        return Err(foreign(format!("it is larger than {} MiB", MOST >> 20)));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let stored: Stored =
        serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))?;
    if stored.schema != SCHEMA {
        return Err(foreign(format!(
            "its schema is `{}`, not `{SCHEMA}`",
            stored.schema
        )));
    }
    if stored.scorers.is_empty() || stored.entries.is_empty() {
        return Err(foreign("it has no scores".to_owned()));
    }
    let mut graded = Graded::new(&stored.job, &stored.scorers, &stored.entries);
    let Percentiles { p50, p90, p99 } = stored.latency_ms;
    (graded.cost, graded.latency_ms) = (stored.cost_usd, [p50, p90, p99]);
    for (key, scores) in stored.scores {
        let is_whole = scores.len() == graded.entries.len()
            && scores
                .iter()
                .all(|scores| scores.len() == graded.scorers.len());
        match Digest::from_hex(&key).filter(|_| is_whole) {
            Some(row) => graded.add_scores(row, scores.into_iter().flatten()),
            None => return Err(foreign(format!("its line `{key}` is not as it should be"))),
        }
    }
    Ok(graded)
}

/// Makes sure that there is something to compare a run of this plan with, before anything is spent.
pub(super) fn check(plan: &Plan) -> Result<(), Problems> {
    let Some(baseline) = plan.gate.as_ref().and_then(|gate| gate.baseline.as_ref()) else {
        return Ok(());
    };
    let problem = match scorers(baseline, &plan.output.dir) {
        Ok(found) => {
            let Some(wanted) = wanted(baseline, &plan.output.scorers) else {
                return Ok(());
            };
            if found.contains(wanted) {
                return Ok(());
            }
            let message = format!("{} has no scores of `{wanted}`", baseline.written);
            Problem::new(message).help(format!(
                "it has {}; choose one with `metric`",
                found.join(", ")
            ))
        }
        Err(problem) => problem,
    };
    Err(match &baseline.place {
        Some(place) => problem.at(place.clone()),
        None => problem,
    }
    .into())
}

/// The scorers that a baseline has scores of.
fn scorers(baseline: &BaselinePlan, out: &Path) -> Result<Vec<String>, Problem> {
    let help = "`runner baseline DIR --to FILE` writes the scores of a run to a file; name that, or the run's directory";
    let refused = |error: &BaselineError| {
        let message = format!("there is nothing to compare with: {}", with_causes(error));
        Problem::new(message).help(help)
    };
    match place(&baseline.path).map_err(|error| refused(&error))? {
        Place::File(path) => {
            let graded = read(&path).map_err(|error| refused(&error))?;
            Ok(graded.scorers)
        }
        Place::Run(dir) => {
            let own = dir.canonicalize().ok();
            if own.is_some() && own == out.canonicalize().ok() {
                let message = format!(
                    "{} is where this run writes: it would be compared with itself",
                    baseline.written
                );
                return Err(Problem::new(message).help(help));
            }
            let scorers = scorers_of_run(&dir).map_err(|error| refused(&error.into()))?;
            match scorers.is_empty() {
                true => Err(refused(&BaselineError::Unscored { path: dir })),
                false => Ok(scorers),
            }
        }
    }
}

fn scorers_of_run(dir: &Path) -> Result<Vec<String>, RunError> {
    let run = Reader::open(dir)?.last_run()?;
    let run = run.ok_or_else(|| StoreError::NoRun {
        dir: dir.to_owned(),
    })?;
    Ok(Settings::read(dir, &run)?.frame.scorers)
}

/// The scorer whose scores are compared.
fn wanted<'a>(baseline: &'a BaselinePlan, scorers: &'a [String]) -> Option<&'a String> {
    baseline.metric.as_ref().or_else(|| scorers.first())
}

/// Compares a run that has ended with the baseline of its gate, if it has one.
pub(super) fn compare(
    lines: Lines<'_>,
    settings: &Settings,
) -> Result<Option<GateCheck>, RunError> {
    let Some(plan) = settings
        .gate
        .as_ref()
        .and_then(|gate| gate.baseline.as_ref())
    else {
        return Ok(None);
    };
    let after = Graded::of(lines, settings)?;
    let judged = match load(&plan.path) {
        Ok(before) => judge(plan, &before, &after),
        Err(error) => Err(format!(
            "there is nothing to compare with: {}",
            with_causes(&error)
        )),
    };
    let (comparison, verdict, text) = match judged {
        Ok((comparison, text)) => {
            let verdict = verdict(&comparison, plan.not_worse_than);
            (Some(comparison.difference), verdict, text)
        }
        Err(why) => (None, Verdict::Fail, why),
    };
    let wanted = plan.wanted();
    Ok(Some(GateCheck {
        name: "baseline".to_owned(),
        text: format!("{text}; wanted {wanted}"),
        wanted,
        found: comparison,
        difference: comparison.and_then(|difference| difference.interval),
        verdict,
        is_met: verdict == Verdict::Pass,
    }))
}

/// How a run stands to its baseline, in words too; an error says why it cannot be compared.
fn judge(
    plan: &BaselinePlan,
    before: &Graded,
    after: &Graded,
) -> Result<(Comparison, String), String> {
    let name = wanted(plan, &after.scorers).ok_or("this run has no scores")?;
    let find = |run: &Graded, what: &str| {
        let scorer = run.scorer(name);
        scorer.ok_or_else(|| format!("{what} has no scores of {name}"))
    };
    let (one, other) = (find(before, &plan.written)?, find(after, "this run")?);
    let (pairs, units) = paired(before, after, one, other);
    let comparison = pairs.comparison(plan.confidence);
    let comparison = comparison.ok_or_else(|| {
        format!(
            "no row has scores here and in {}: are they of the same input, with the same `id`?",
            plan.written
        )
    })?;
    let all = (before.units() + after.units()) as u64 - units;
    let missing = all - units;
    let share = u128::from(missing) * 1_000_000;
    if share > u128::from(all) * u128::from(plan.max_missing) {
        return Err(format!(
            "{missing} of {all} rows are only here or only in {}, more than `max_missing` allows; make a new \
             baseline, or allow it",
            plan.written
        ));
    }
    let text = words(plan, name, &comparison, missing);
    let cost = before.cost.zip(after.cost);
    let cost = cost.map_or(String::new(), |(before, after)| {
        format!(", cost ${after} and was ${before}")
    });
    Ok((comparison, format!("{text}{cost}")))
}

fn words(plan: &BaselinePlan, name: &str, comparison: &Comparison, missing: u64) -> String {
    let Comparison {
        n,
        before,
        after,
        difference,
        better,
        worse,
        ..
    } = comparison;
    let sure = match difference.interval {
        Some(interval) => format!(
            " (with {} % confidence {:+.3} to {:+.3})",
            plan.confidence * 100.0,
            interval.low,
            interval.high
        ),
        None => String::new(),
    };
    let left_out = match missing {
        0 => String::new(),
        missing => format!(", {missing} left out"),
    };
    format!(
        "{name} is {after:.3} and was {before:.3} on {n} rows{left_out}: {:+.3}{sure}, {better} better, {worse} worse",
        difference.value
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of so many rows, of which these have the score 0 and the others 1.
    fn run(rows: u64, wrong: impl Fn(u64) -> bool) -> Graded {
        let names = |name: &str| vec![name.to_owned()];
        let mut graded = Graded::new("job", &names("equals"), &names("a"));
        for row in 0..rows {
            let score = if wrong(row) { 0.0 } else { 1.0 };
            graded.add_scores(key(row), [Some(score)]);
        }
        graded
    }

    fn key(row: u64) -> Digest {
        Digest::of([row.to_le_bytes()])
    }

    fn plan(max_missing: u32) -> BaselinePlan {
        BaselinePlan {
            path: "main".into(),
            written: "main".to_owned(),
            place: None,
            not_worse_than: 0.02,
            confidence: 0.95,
            metric: None,
            max_missing,
        }
    }

    fn verdict_of(before: &Graded, after: &Graded) -> Verdict {
        let (comparison, _) = judge(&plan(0), before, after).expect("they can be compared");
        verdict(&comparison, plan(0).not_worse_than)
    }

    #[test]
    fn an_equal_run_passes_a_worse_one_fails_and_few_rows_say_nothing() {
        let before = run(300, |row| row % 10 == 0);
        assert_eq!(verdict_of(&before, &before), Verdict::Pass);
        // Ten points less, whatever else has changed.
        let after = run(300, |row| row % 5 == 0);
        assert_eq!(verdict_of(&before, &after), Verdict::Fail);
        let few = run(20, |row| row % 10 == 0);
        assert_eq!(verdict_of(&few, &few), Verdict::Inconclusive);
        let (_, text) = judge(&plan(0), &before, &after).expect("they can be compared");
        assert!(
            text.starts_with(
                "equals is 0.800 and was 0.900 on 300 rows: -0.100 (with 95 % confidence -0.1"
            ),
            "{text}"
        );
        assert!(text.ends_with("0 better, 30 worse"), "{text}");
    }

    #[test]
    fn rows_without_a_partner_are_told_and_not_more_than_the_job_allows() {
        let (before, after) = (run(300, |_| false), run(290, |_| false));
        let told = judge(&plan(0), &before, &after).expect_err("rows are missing");
        assert!(
            told.starts_with("10 of 300 rows are only here or only in main"),
            "{told}"
        );
        let (_, text) = judge(&plan(40_000), &before, &after).expect("so many may be missing");
        assert!(text.contains("on 290 rows, 10 left out"), "{text}");
        let none = judge(&plan(1_000_000), &before, &run(0, |_| false));
        assert!(
            none.expect_err("no row is in both")
                .starts_with("no row has scores here")
        );
    }

    #[test]
    fn a_baseline_file_holds_all_that_is_compared_and_is_small() {
        let mut before = run(300, |row| row % 7 == 0);
        before.add_scores(key(1), [Some(1.0 / 3.0)]);
        before.add_scores(key(2), [None]);
        (before.cost, before.latency_ms) = ("1.25".parse().ok(), [Some(1), Some(2), None]);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("baseline.json");
        let text = render(&before);
        assert!(text.len() < 300 * 60, "{}", text.len());
        std::fs::write(&path, &text).expect("it can be written");
        let read = read(&path).expect("it can be read");
        assert_eq!(
            (read.cost, read.latency_ms),
            (before.cost, before.latency_ms)
        );
        for row in 0..300 {
            let at = |run: &Graded| run.rows.get_index_of(&key(row)).map(|at| run.score(at, 0));
            assert_eq!(at(&read), at(&before), "{row}");
        }
        assert_eq!(render(&read), text);
        // Whatever the order of the rows.
        let keys = text.lines().filter(|line| line.contains(": [["));
        assert_eq!(keys.clone().count(), 300);
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_file_that_is_no_baseline_says_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("baseline.json");
        let good = render(&run(2, |_| false));
        for (text, why) in [
            ("", "EOF while parsing"),
            ("[]", "invalid"),
            (
                &good.replace("baseline/1", "baseline/2"),
                "its schema is `runner.baseline/2`",
            ),
            (
                &good.replace("[[1.0]]", "[[1.0, 2.0]]"),
                "is not as it should be",
            ),
            (&good.replace("\": [[", "0\": [["), "is not as it should be"),
            (
                &good.replace("\": [[", "\u{fc}\": [["),
                "is not as it should be",
            ),
            (&good.replace("[\"equals\"]", "[]"), "it has no scores"),
        ] {
            std::fs::write(&path, text).expect("it can be written");
            let error = read(&path).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
