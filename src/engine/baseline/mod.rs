//! The run that a job must not be worse than: a stored one, its scores in a small file that one commits, or a copy of its
//! results or of its report.

mod figures;
mod file;
mod results;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use indexmap::IndexSet;
use serde::Deserialize;

use self::figures::Figures;
use super::diff::{missing, paired};
use super::graded::Graded;
use super::publish::Settings;
use super::summary::{ExitCode, RunError};
use crate::job::{BaselinePlan, Plan, Problem, Problems};
use crate::score::verdict;
use crate::store::{Lines, Reader, StoreError, has_store};
use crate::words::{Comparison, Digest, GateCheck, Interval, Metric, Verdict, with_causes};

/// The largest file that is read as a whole, and the longest line, in bytes: a million rows have room.
const MOST: u64 = 256 << 20;

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
        text: file::render(&graded),
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
enum Before {
    /// The scores of each row.
    Rows(Graded),
    /// Figures without rows.
    Figures(Figures),
}

/// What a run with these rows is compared with.
fn load(path: &Path, rows: &IndexSet<Digest>) -> Result<Before, BaselineError> {
    match place(path)? {
        Place::Run(dir) => Ok(Before::Rows(Graded::of_run(&dir)?)),
        Place::File(path) => read(&path, rows),
    }
}

/// What names the form of a file.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

/// Reads a file, whatever it is called.
fn read(path: &Path, rows: &IndexSet<Digest>) -> Result<Before, BaselineError> {
    let io = |source| BaselineError::Io {
        path: path.to_owned(),
        source,
    };
    let foreign = |why: String| BaselineError::Foreign {
        path: path.to_owned(),
        why,
    };
    let mut bytes = Vec::new();
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut limited = reader.by_ref().take(MOST);
    limited.read_until(b'\n', &mut bytes).map_err(io)?;
    if let Some(first) = results::line(&bytes) {
        let graded = results::read(&first, reader, rows);
        return graded.map(Before::Rows).map_err(foreign);
    }
    limited.read_to_end(&mut bytes).map_err(io)?;
    if limited.limit() == 0 {
        return Err(foreign(format!("it is larger than {} MiB", MOST >> 20)));
    }
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()))?;
    match head.schema.as_str() {
        file::SCHEMA => file::read(&bytes).map(Before::Rows).map_err(foreign),
        figures::SCHEMA => figures::read(&bytes).map(Before::Figures).map_err(foreign),
        other => Err(foreign(format!(
            "its schema is `{other}`, not `{}`",
            file::SCHEMA
        ))),
    }
}

/// Makes sure that there is something to compare a run of this plan with, before anything is spent.
pub(super) fn check(plan: &Plan) -> Result<(), Problems> {
    let Some(baseline) = plan.gate.as_ref().and_then(|gate| gate.baseline.as_ref()) else {
        return Ok(());
    };
    let Err(problem) = can_compare(baseline, plan) else {
        return Ok(());
    };
    Err(match &baseline.place {
        Some(place) => problem.at(place.clone()),
        None => problem,
    }
    .into())
}

const HELP: &str = "`runner baseline DIR --to FILE` writes the scores of a run to a file; name that, or the run's \
                    directory, or a copy of its results.jsonl or report.json";

/// Whether the baseline has what the plan wants to compare.
fn can_compare(baseline: &BaselinePlan, plan: &Plan) -> Result<(), Problem> {
    let refused = |error: &BaselineError| {
        let message = format!("there is nothing to compare with: {}", with_causes(error));
        Problem::new(message).help(HELP)
    };
    let scorers = match place(&baseline.path).map_err(|error| refused(&error))? {
        Place::File(path) => {
            let read = read(&path, &IndexSet::new());
            match read.map_err(|error| refused(&error))? {
                Before::Rows(graded) => graded.scorers,
                Before::Figures(figures) => return has_share(&figures, baseline, plan),
            }
        }
        Place::Run(dir) => {
            let own = dir.canonicalize().ok();
            if own.is_some() && own == plan.output.dir.canonicalize().ok() {
                let message = format!(
                    "{} is where this run writes: it would be compared with itself",
                    baseline.written
                );
                return Err(Problem::new(message).help(HELP));
            }
            let scorers = scorers_of_run(&dir).map_err(|error| refused(&error.into()))?;
            if scorers.is_empty() {
                return Err(refused(&BaselineError::Unscored { path: dir }));
            }
            scorers
        }
    };
    match wanted(baseline, &plan.output.scorers) {
        Some(wanted) if !scorers.contains(wanted) => Err(lacks(baseline, wanted, &scorers)),
        _ => Ok(()),
    }
}

/// The same of figures without rows.
fn has_share(figures: &Figures, baseline: &BaselinePlan, plan: &Plan) -> Result<(), Problem> {
    let output = &plan.output;
    let Some(wanted) = wanted(baseline, &output.scorers) else {
        return Ok(());
    };
    if !figures.has(wanted) {
        let scorers = output.scorers.iter().filter(|name| figures.has(name));
        let scorers: Vec<String> = scorers.cloned().collect();
        return Err(lacks(baseline, wanted, &scorers));
    }
    let message = if figures.share(wanted).is_none() {
        format!(
            "{} has no rows, and its figure of `{wanted}` is no share of rows that could be compared without them",
            baseline.written
        )
    } else if output.entries.len() > 1 || output.repeat > 1 {
        format!(
            "{} has no rows, and this job has several lines for each row, which cannot be compared without them",
            baseline.written
        )
    } else {
        return Ok(());
    };
    Err(Problem::new(message).help(
        "`runner baseline DIR --to FILE` writes the scores of a run to a file, row by row; name that",
    ))
}

/// The baseline says nothing of this scorer, but maybe of others.
fn lacks(baseline: &BaselinePlan, wanted: &str, scorers: &[String]) -> Problem {
    let message = format!("{} has no scores of `{wanted}`", baseline.written);
    Problem::new(message).help(match scorers {
        [] => "it is of a job with other scorers; make a new baseline".to_owned(),
        scorers => format!("it has {}; choose one with `metric`", scorers.join(", ")),
    })
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
    let judged = match load(&plan.path, &after.rows) {
        Ok(before) => judge(plan, &before, &after),
        Err(error) => Err(format!(
            "there is nothing to compare with: {}",
            with_causes(&error)
        )),
    };
    let (difference, verdict, text) = match judged {
        Ok((difference, text)) => {
            let verdict = verdict(&difference, plan.not_worse_than);
            (Some(difference), verdict, text)
        }
        Err(why) => (None, Verdict::Fail, why),
    };
    let wanted = plan.wanted();
    Ok(Some(GateCheck {
        name: "baseline".to_owned(),
        text: format!("{text}; wanted {wanted}"),
        wanted,
        found: difference,
        difference: difference.and_then(|difference| difference.interval),
        verdict,
        is_met: verdict == Verdict::Pass,
    }))
}

/// How a run stands to its baseline, in words too; an error says why it cannot be compared.
fn judge(plan: &BaselinePlan, before: &Before, after: &Graded) -> Result<(Metric, String), String> {
    let name = wanted(plan, &after.scorers).ok_or("this run has no scores")?;
    let ((difference, text), was) = match before {
        Before::Rows(before) => (judge_rows(plan, name, before, after)?, before.cost),
        Before::Figures(before) => (figures::judge(plan, name, before, after)?, before.cost()),
    };
    let cost = was.zip(after.cost);
    let cost = cost.map_or(String::new(), |(before, after)| {
        format!(", cost ${after} and was ${before}")
    });
    Ok((difference, format!("{text}{cost}")))
}

/// The same, row by row.
fn judge_rows(
    plan: &BaselinePlan,
    name: &str,
    before: &Graded,
    after: &Graded,
) -> Result<(Metric, String), String> {
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
    let missing = missing(before, after, one, other);
    let all = units + missing;
    if !allows(plan, missing, all) {
        return Err(too_many_missing(plan, missing, all));
    }
    let text = words(plan, name, &comparison, missing);
    Ok((comparison.difference, text))
}

/// Whether so many of all rows may lack a partner.
fn allows(plan: &BaselinePlan, missing: u64, all: u64) -> bool {
    u128::from(missing) * 1_000_000 <= u128::from(all) * u128::from(plan.max_missing)
}

fn too_many_missing(plan: &BaselinePlan, missing: u64, all: u64) -> String {
    format!(
        "{missing} of {all} rows have a score only here or only in {}, more than `max_missing` allows; make a new baseline, or \
         allow it",
        plan.written
    )
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
    let sure = difference.interval.map(|interval| sure(plan, interval));
    let sure = sure.unwrap_or_default();
    let left_out = match missing {
        0 => String::new(),
        missing => format!(", {missing} left out"),
    };
    format!(
        "{name} is {after:.3} and was {before:.3} on {n} rows{left_out}: {:+.3}{sure}, {better} better, {worse} worse",
        difference.value
    )
}

/// How sure a difference is.
fn sure(plan: &BaselinePlan, interval: Interval) -> String {
    format!(
        " (with {} % confidence {:+.3} to {:+.3})",
        plan.confidence * 100.0,
        interval.low,
        interval.high
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

    fn told(max_missing: u32, before: &Graded, after: &Graded) -> Result<(Metric, String), String> {
        judge(&plan(max_missing), &Before::Rows(before.clone()), after)
    }

    fn verdict_of(before: &Graded, after: &Graded) -> Verdict {
        let (difference, _) = told(0, before, after).expect("they can be compared");
        verdict(&difference, plan(0).not_worse_than)
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
        let (_, text) = told(0, &before, &after).expect("they can be compared");
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
        let error = told(0, &before, &after).expect_err("rows are missing");
        assert!(
            error.starts_with("10 of 300 rows have a score only here or only in main"),
            "{error}"
        );
        let (_, text) = told(40_000, &before, &after).expect("so many may be missing");
        assert!(text.contains("on 290 rows, 10 left out"), "{text}");
        let none = told(1_000_000, &before, &run(0, |_| false));
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
        let text = file::render(&before);
        assert!(text.len() < 300 * 60, "{}", text.len());
        std::fs::write(&path, &text).expect("it can be written");
        let Ok(Before::Rows(read)) = read(&path, &IndexSet::new()) else {
            panic!("it can be read");
        };
        assert_eq!(
            (read.cost, read.latency_ms),
            (before.cost, before.latency_ms)
        );
        for row in 0..300 {
            let at = |run: &Graded| run.rows.get_index_of(&key(row)).map(|at| run.score(at, 0));
            assert_eq!(at(&read), at(&before), "{row}");
        }
        assert_eq!(file::render(&read), text);
        // Whatever the order of the rows.
        let keys = text.lines().filter(|line| line.contains(": [["));
        assert_eq!(keys.clone().count(), 300);
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_file_that_is_no_baseline_says_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("baseline.json");
        let good = file::render(&run(2, |_| false));
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
            let found = read(&path, &IndexSet::new());
            let error = found.err().expect(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
