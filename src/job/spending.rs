//! What a job may spend: its budget, what one row may cost, how much may be wasted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decode::{At, need};
use super::plan::Backend;
use super::read::Job;
use super::resolve::{Surroundings, in_range};
use super::{Problem, source::Span};
use crate::words::Usd;

/// How many rows must have ended before it is looked how much was wasted.
const WASTE_AFTER: u64 = 100;

/// What a job may spend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpendingPlan {
    /// The cap on all of the job's runs together.
    pub budget: Option<BudgetPlan>,
    /// What one result line may cost, over all its attempts.
    pub max_cost_per_row: Option<Usd>,
    /// How much may be wasted.
    pub max_waste: Option<MaxWaste>,
}

/// A cap on what a job costs, and how it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetPlan {
    /// The cap, in US dollars, over all runs of the job.
    pub usd: Usd,
    /// What is reserved for a request before it is sent.
    pub mode: BudgetMode,
}

/// What is reserved for a request before it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetMode {
    /// The most that it can cost: the cap is never passed.
    #[default]
    Strict,
    /// What requests like it have cost, and a fifth more: the cap may be passed by what is in flight.
    Calibrated,
}

impl BudgetMode {
    /// Every mode.
    pub const ALL: [BudgetMode; 2] = [BudgetMode::Strict, BudgetMode::Calibrated];

    /// The name in the job file.
    pub fn as_str(self) -> &'static str {
        match self {
            BudgetMode::Strict => "strict",
            BudgetMode::Calibrated => "calibrated",
        }
    }
}

/// How much of what was paid may be wasted before the run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxWaste {
    /// The share, in millionths.
    pub per_million: u32,
    /// How many rows must have ended before.
    pub after: u64,
}

impl MaxWaste {
    /// Whether so much of what was paid is more than the share, after so many rows.
    pub fn exceeded(&self, wasted: Usd, paid: Usd, rows: u64) -> bool {
        let most = paid.times(u64::from(self.per_million));
        rows >= self.after && wasted.times(1_000_000) > most
    }
}

/// What the job may spend; what keeps it from being promised is a problem.
pub fn resolve(
    job: &Job,
    backends: &[Backend],
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> SpendingPlan {
    let plan = SpendingPlan {
        budget: budget(job, problems),
        max_cost_per_row: job.keys.max_cost_per_row.as_ref().map(|at| at.value),
        max_waste: max_waste(job, problems),
    };
    if around.sends {
        let entries = job.keys.backends.iter().flat_map(|all| &all.value.entries);
        for (key, _) in entries {
            let used = backends.iter().find(|backend| *backend.name == *key.name);
            if let Some(backend) = used {
                check(&plan, backend, &key.span, problems);
            }
        }
    }
    plan
}

fn budget(job: &Job, problems: &mut Vec<Problem>) -> Option<BudgetPlan> {
    let At { value, span } = job.keys.budget.as_ref()?;
    let at = At {
        value: value.0.clone(),
        span: span.clone(),
    };
    if value.0.usd.is_none() {
        need(&at, "budget", &["usd"], problems);
    }
    Some(BudgetPlan {
        usd: at.value.usd?.value,
        mode: at.value.mode.map(|mode| mode.value).unwrap_or_default(),
    })
}

fn max_waste(job: &Job, problems: &mut Vec<Problem>) -> Option<MaxWaste> {
    let At { value, span } = job.keys.max_waste.as_ref()?;
    let at = At {
        value: value.0.clone(),
        span: span.clone(),
    };
    if value.0.share.is_none() {
        need(&at, "max_waste", &["share"], problems);
    }
    let after = in_range(at.value.after.as_ref(), "after", 1..=u64::MAX, problems);
    Some(MaxWaste {
        per_million: at.value.share?.value.0,
        after: after.unwrap_or(WASTE_AFTER),
    })
}

/// Records what is not known of a backend without which nobody can promise what its requests cost.
fn check(plan: &SpendingPlan, backend: &Backend, place: &Span, problems: &mut Vec<Problem>) {
    let calibrated = |budget: BudgetPlan| budget.mode == BudgetMode::Calibrated;
    let (key, estimates) = match (plan.max_cost_per_row, plan.budget) {
        (Some(_), _) => ("max_cost_per_row", false),
        (None, Some(budget)) => ("budget", calibrated(budget)),
        (None, None) => return,
    };
    let name = &backend.name;
    let why = match backend.unbounded() {
        None => return,
        Some("price") => format!("no price is known for {}", what(backend)),
        Some(_) if estimates => return,
        Some("max_tokens") => format!("nothing caps the answers of `{name}`"),
        Some(_) => format!("`{name}` is paid by the hour, and nothing limits its time"),
    };
    let problem = place.problem(format!("`{key}` cannot be kept: {why}"));
    let estimate = match (key, plan.budget) {
        ("budget", Some(budget)) => format!(
            ", or let the budget be an estimate: `budget: {{ usd: {}, mode: calibrated }}`",
            budget.usd
        ),
        _ => String::new(),
    };
    problems.push(match backend.unbounded() {
        Some("price") => {
            let help =
                "say what it costs in USD per million tokens: `price: { input: ..., output: ... }`";
            problem.help(help)
        }
        Some(key) => problem.help(format!("give it `{key}`{estimate}")),
        None => problem,
    });
}

/// What has no price: the model, where the job names one.
fn what(backend: &Backend) -> String {
    let name: &Arc<str> = &backend.name;
    match backend.model() {
        Some(model) => format!("`{model}` of `{name}`"),
        None => format!("`{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waste_counts_as_soon_as_enough_rows_have_ended() {
        let most = MaxWaste {
            per_million: 200_000,
            after: 10,
        };
        let usd = Usd::from_units;
        assert!(!most.exceeded(usd(20), usd(100), 10));
        assert!(most.exceeded(usd(21), usd(100), 10));
        assert!(!most.exceeded(usd(21), usd(100), 9));
        // Where nothing is paid nothing is wasted.
        assert!(!most.exceeded(usd(0), usd(0), 10));
    }
}
