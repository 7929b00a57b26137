//! A run before its gate.

use indexmap::IndexMap;

use super::publish::Settings;
use crate::job::{FINAL, GatePlan};
use crate::output::{EntryLine, Report, Spent};
use crate::score::{Figures, Part, judge as judge_figures};
use crate::words::{GateCheck, GateReport, Scores, Status, Usd, Verdict};

/// What becomes of the gate of a run with this report; `None` without a gate.
pub(super) fn judge(settings: &Settings, report: &Report) -> Option<GateReport> {
    let plan = settings.gate.as_ref()?;
    let entries = report.entries();
    let mut entries: IndexMap<String, Part> = entries
        .map(|(name, line)| (name, of_entry(&line)))
        .collect();
    let last = report.scores.as_ref().and_then(of_last);
    entries.extend(last.map(|last| (FINAL.to_owned(), last)));
    let figures = Figures {
        scores: report.scores.as_ref(),
        overall: &of_all(report),
        entries: &entries,
    };
    let end = settings.end.as_ref();
    let compared = end.and_then(|end| end.baseline.clone());
    let baseline = compared.or_else(|| not_compared(plan));
    Some(judge_figures(plan, &figures, baseline))
}

/// The check against the baseline of a run that has not come to its end.
fn not_compared(plan: &GatePlan) -> Option<GateCheck> {
    let baseline = plan.baseline.as_ref()?;
    let wanted = baseline.wanted();
    Some(GateCheck {
        name: "baseline".to_owned(),
        text: format!("the run has not ended, and was not compared; wanted {wanted}"),
        wanted,
        found: None,
        difference: None,
        verdict: Verdict::Inconclusive,
        is_met: false,
    })
}

fn of_all(report: &Report) -> Part {
    let total = report.total();
    Part {
        lines: report.rows(),
        answered: report.rows_with(Status::Answered),
        cost: known(total.spent),
        possible: possible(total.possibly_billed, total.unbounded),
        latency_ms: [50, 90, 99].map(|percent| report.latency_ms(percent)),
    }
}

fn of_entry(line: &EntryLine) -> Part {
    Part {
        lines: line.rows(),
        answered: line.rows_with(Status::Answered),
        cost: known(line.spent),
        possible: possible(line.possibly_billed, line.unbounded),
        latency_ms: [50, 90, 99].map(|percent| line.latency_ms(percent)),
    }
}

/// What the answers to each row come to: they were paid for as lines of the entries.
fn of_last(scores: &Scores) -> Option<Part> {
    let answered = scores.by_entry.get(FINAL)?.metrics.get("answered")?;
    Some(Part {
        lines: answered.n,
        answered: (answered.value * answered.n as f64).round() as u64,
        ..Part::default()
    })
}

/// What was paid, if that is all of it.
fn known(spent: Spent) -> Option<Usd> {
    (spent.unpriced == 0).then_some(spent.paid)
}

/// What may have been billed on top, at most; `None` where that has no bound.
fn possible(at_most: Usd, unbounded: u64) -> Option<Usd> {
    (unbounded == 0).then_some(at_most)
}
