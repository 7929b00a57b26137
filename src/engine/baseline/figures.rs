//! A copy of a `report.json` as what a run is compared with: it has no rows, so that two shares are compared which know
//! nothing of each other.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use crate::engine::graded::Graded;
use crate::job::BaselinePlan;
use crate::score::interval::newcombe;
use crate::words::{Method, Metric, Usd};

/// Names the form of the file.
pub(super) const SCHEMA: &str = "runner.report/1";

/// What is read of the file.
#[derive(Debug, Deserialize)]
pub(super) struct Figures {
    rows: Rows,
    cost: Cost,
    scores: IndexMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Rows {
    total: u64,
    inputs: u64,
}

#[derive(Debug, Deserialize)]
struct Cost {
    total_usd: Usd,
    unpriced_attempts: u64,
}

#[derive(Debug, Deserialize)]
struct Figure {
    value: f64,
    n: u64,
    method: Option<String>,
}

/// So many right ones, and of how many.
type Share = (u64, u64);

/// Reads such a file; an error says why it is none.
pub(super) fn read(bytes: &[u8]) -> Result<Figures, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

impl Figures {
    /// Whether there is a figure of this scorer.
    pub(super) fn has(&self, scorer: &str) -> bool {
        self.scores.contains_key(scorer)
    }

    /// The figure of this scorer as a share of rows; `None` where it is something else.
    pub(super) fn share(&self, scorer: &str) -> Option<Share> {
        let figure = Figure::deserialize(self.scores.get(scorer)?).ok()?;
        let is_share = figure.method.as_deref() == Some(Method::Wilson.as_str())
            && (0.0..=1.0).contains(&figure.value)
            && figure.n > 0
            // Several lines of a row are not independent of each other.
            && self.rows.total == self.rows.inputs;
        is_share.then(|| ((figure.value * figure.n as f64).round() as u64, figure.n))
    }

    /// What the run is known to have cost; `None` where that is not all of it.
    pub(super) fn cost(&self) -> Option<Usd> {
        (self.cost.unpriced_attempts == 0).then_some(self.cost.total_usd)
    }
}

/// How a run stands to these figures, in words too; an error says why it cannot be compared.
pub(super) fn judge(
    plan: &BaselinePlan,
    name: &str,
    before: &Figures,
    after: &Graded,
) -> Result<(Metric, String), String> {
    let was = before
        .share(name)
        .ok_or_else(|| no_share(name, &plan.written))?;
    let is = share(name, after).ok_or_else(|| no_share(name, "this run"))?;
    let (least, most) = (was.1.min(is.1), was.1.max(is.1));
    if !super::allows(plan, most - least, most) {
        return Err(super::too_many_missing(plan, most - least, most));
    }
    let of = |(right, n): Share| right as f64 / n as f64;
    let interval = newcombe(was, is, plan.confidence);
    let difference = Metric {
        value: of(is) - of(was),
        n: is.1,
        interval: Some(interval),
    };
    let text = format!(
        "{name} is {:.3} of {} and was {:.3} of {}: {:+.3}{}, not paired by row as a file of `runner baseline` would be",
        of(is),
        is.1,
        of(was),
        was.1,
        difference.value,
        super::sure(plan, interval),
    );
    Ok((difference, text))
}

fn no_share(name: &str, whose: &str) -> String {
    format!(
        "{name} of {whose} is no share of rows, and there are no rows to pair; make a baseline with `runner baseline`"
    )
}

/// How many rows of a run are right; `None` where the scores are not 0 or 1, or not one to a row.
fn share(name: &str, run: &Graded) -> Option<Share> {
    let scorer = run.scorer(name).filter(|_| run.entries.len() == 1)?;
    let mut share = (0, 0);
    for score in (0..run.rows.len()).filter_map(|row| run.score(row, scorer)) {
        match score {
            0.0 => share.1 += 1,
            1.0 => share = (share.0 + 1, share.1 + 1),
            _ => return None,
        }
    }
    (share.1 > 0).then_some(share)
}
