//! From the store to the files: of a run at its end, and again whenever somebody asks. The one way, so that
//! the same store makes the same files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::baseline;
use super::boards::Boards;
use super::gate::judge;
use super::marks::{Marker, Marking};
use super::report::Repricing;
use super::summary::{Ended, ExitCode, RunError, Summary, exit_code};
use super::unclear::Unclear;
use crate::dispatch::Interrupt;
use crate::job::{GatePlan, MaxFailures, Plan};
use crate::output::{Frame, Pending, Publication, Report, Sink};
use crate::store::{Lines, RunLine, Store, StoreError};
use crate::words::{BackendSeen, GateCheck, Marks, Outcome, ResultLine, Status};

/// What a run's files are made from besides the store's lines. Stored with the run: as it begins, and again
/// when it has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) frame: Frame,
    max_failures: MaxFailures,
    #[serde(default)]
    pub(super) gate: Option<GatePlan>,
    #[serde(default)]
    pub(super) marking: Marking,
    /// `None` of a run that is under way, or was killed.
    pub(super) end: Option<End>,
}

/// How a run ended, but for what its rows say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) ended: Ended,
    pub(super) interrupt: Option<Interrupt>,
    pub(super) backends_down: bool,
    #[serde(default)]
    pub(super) budget_reached: bool,
    /// How it stands to the gate's baseline, which may be another by the time when somebody asks again.
    #[serde(default)]
    pub(super) baseline: Option<GateCheck>,
}

/// What asking came to.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) ended: Ended,
    pub(super) interrupt: Option<Interrupt>,
    pub(super) seen: Vec<BackendSeen>,
    pub(super) backends_down: bool,
    /// Whether rows could not be asked for want of money.
    pub(super) budget_reached: bool,
}

/// The files of a run, whole, and what they say.
pub(super) struct Compiled<S> {
    pub(super) report: Report,
    pub(super) exit_code: ExitCode,
    pub(super) files: Vec<S>,
}

impl Settings {
    /// Of a run that begins.
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            frame: Frame::of(plan),
            max_failures: plan.max_failures,
            gate: plan.gate.clone(),
            marking: Marking::of(plan),
            end: None,
        }
    }

    /// What marks the run's lines, given the mark of its store.
    pub(super) fn marker(&self, mark: Option<i64>) -> Marker {
        Marker::new(&self.marking, &self.frame.entries, mark)
    }

    /// The same at the end of the run.
    pub(super) fn ended(mut self, asked: Asked) -> Self {
        self.frame.seen = asked.seen;
        self.end = Some(End {
            ended: asked.ended,
            interrupt: asked.interrupt,
            backends_down: asked.backends_down,
            budget_reached: asked.budget_reached,
            baseline: None,
        });
        self
    }

    /// As they are stored.
    pub(super) fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Those of a run that was stored in this directory.
    pub(super) fn read(dir: &Path, run: &RunLine) -> Result<Self, StoreError> {
        serde_json::from_str(&run.settings).map_err(|source| StoreError::Settings {
            path: dir.join("run.db"),
            source,
        })
    }

    /// What the run came to. Of one that was killed its rows say it, as if it had ended by itself.
    fn exit_code(&self, report: &Report) -> ExitCode {
        let end = self.end.clone().unwrap_or_default();
        exit_code(&end, report, self.max_failures)
    }
}

/// Reads the store once, in the order of the results, and makes every file of it. `each` is shown every line of
/// the results.
pub(super) fn compile<S: Sink>(
    dir: &Path,
    lines: Lines<'_>,
    settings: &Settings,
    each: impl FnMut(&Outcome) + Send,
) -> Result<Compiled<S>, RunError> {
    compile_priced(dir, lines, settings, None, each)
}

/// The same, with reports by other prices.
pub(super) fn compile_priced<S: Sink>(
    dir: &Path,
    lines: Lines<'_>,
    settings: &Settings,
    repricing: Option<&Repricing>,
    mut each: impl FnMut(&Outcome) + Send,
) -> Result<Compiled<S>, RunError> {
    let columns = lines.columns()?;
    let mut report = Report::of(&settings.frame);
    let mut publication = Publication::begin(dir, &settings.frame, &columns)?;
    let marker = settings.marker(lines.mark()?);
    let frame = &settings.frame;
    let mut unscored: Option<(String, Option<String>)> = None;
    let mut boards = marker.boards(frame.repeat, &frame.scorers);
    let mut unclear = Unclear::default();
    lines.for_each_row(&columns, |all| {
        let marked: Vec<(&Outcome, Marks)> = marker
            .lines(all)
            .map(|outcome| (outcome, marker.marks(outcome, all)))
            .collect();
        for (outcome, marks) in &marked {
            publication.add(&ResultLine { outcome, marks })?;
            unclear.add(&ResultLine { outcome, marks }, &frame.asking);
            let answered = outcome.status == Status::Answered;
            if answered && marker.lacks_score(marks) {
                report.unscored += 1;
                let why = || marks.remarks.iter().flatten().next().cloned();
                unscored = unscored
                    .take()
                    .or_else(|| Some((outcome.item.row.id.clone(), why())));
            }
        }
        if let Some(boards) = &mut boards {
            let marked: Vec<_> = marked
                .iter()
                .map(|(outcome, marks)| (*outcome, marks))
                .collect();
            let decided = marker.decided(&marked).filter(|_| frame.decides);
            boards.add_row(&marked, decided.as_ref());
            if let Some((decided, _)) = &decided {
                publication.decide(decided)?;
            }
        }
        let mut marked = marked.iter();
        for stored in all {
            each(&stored.outcome);
            let repriced = repricing.map(|repricing| repricing.of(stored, &mut report));
            let priced = repriced.as_ref().unwrap_or(stored);
            let outcome = &priced.outcome;
            match marked.next() {
                Some((_, marks)) => report.add(&ResultLine { outcome, marks }),
                None if marker.is_line(outcome) => report.add_set_aside(outcome),
                // What is asked about answers comes after them.
                None => report.add_side(outcome),
            }
            let interrupted = priced.interrupted.iter();
            interrupted.for_each(|attempt| report.add_interrupted(attempt));
        }
        Ok::<_, RunError>(())
    })?;
    report.scores = boards.map(Boards::finish);
    if let (Some(scores), Some((row, why))) = (&mut report.scores, unscored) {
        let why = why.map_or(String::new(), |why| {
            format!(" The first, of row {row}: {why}.")
        });
        scores.notes.push(format!(
            "Answers without a score, because whoever was to give it did not: {}. The next run asks again.{why}",
            report.unscored
        ));
    }
    if let Some(scores) = &mut report.scores {
        scores.notes.extend(unclear.notes(&frame.scorers));
    }
    lines.for_each_outside(|mut outside| {
        if let Some(repricing) = repricing {
            repricing.apply(&mut outside.attempt, &mut report);
        }
        report.add_outside(&outside.attempt, outside.ended);
    })?;
    report.gate = judge(settings, &report);
    let exit_code = settings.exit_code(&report);
    Ok(Compiled {
        files: publication.finish(&report, exit_code.code())?,
        report,
        exit_code,
    })
}

/// Publishes a run that has ended. What its files are made from is stored first: if they cannot be written, or
/// nobody is left to write them, they can be written later.
pub(super) fn publish_end(
    mut store: Store,
    dir: &Path,
    mut settings: Settings,
) -> Result<Summary, RunError> {
    store.set_settings(&settings.to_json())?;
    let compared = baseline::compare(store.lines(), &settings)?;
    if let (Some(end), Some(compared)) = (&mut settings.end, compared) {
        end.baseline = Some(compared);
        store.set_settings(&settings.to_json())?;
    }
    let published = compile(dir, store.lines(), &settings, |_| {}).and_then(|compiled| {
        store.end_run(compiled.exit_code.code())?;
        publish(&mut store, compiled)
    });
    if let Err(RunError::Output(error)) = &published {
        tracing::debug!(%error, "the results cannot be written");
        store.end_run(ExitCode::Storage.code())?;
    }
    let mut summary = published?;
    summary.ended = settings.end.map_or(Ended::Complete, |end| end.ended);
    Ok(summary)
}

/// Puts the files in their places.
pub(super) fn publish(store: &mut Store, compiled: Compiled<Pending>) -> Result<Summary, RunError> {
    let files = compiled.files.into_iter().map(Pending::publish);
    let files = files.collect::<Result<_, _>>()?;
    store.set_published(true)?;
    Ok(Summary {
        report: compiled.report,
        ended: Ended::Complete,
        exit_code: compiled.exit_code,
        files,
    })
}
