//! What is left of a job's budget.

use serde_json::{Value, json};

use super::report::Report;
use crate::job::BudgetPlan;
use crate::words::{Status, Usd};

/// What a job has spent of its budget over all its runs, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLine {
    /// The budget.
    pub plan: BudgetPlan,
    /// What was paid, and what may have been billed at most.
    pub spent: Usd,
}

impl BudgetLine {
    /// What is left; nothing if the cap was passed.
    pub fn left(&self) -> Usd {
        (self.plan.usd - self.spent).max(Usd::ZERO)
    }

    /// For programs: an object with exact decimals.
    pub fn to_json(&self) -> Value {
        json!({
            "usd": self.plan.usd,
            "mode": self.plan.mode,
            "spent_usd": self.spent,
            "left_usd": self.left(),
            "passed_by_usd": self.passed_by(),
        })
    }

    /// By how much the cap was passed: only ever by an estimated budget, or if a provider charged for more than it
    /// was asked for.
    pub fn passed_by(&self) -> Usd {
        (self.spent - self.plan.usd).max(Usd::ZERO)
    }
}

impl Report {
    /// What is left of the budget, if the job has one. By other prices than those of the run it means nothing.
    pub fn budget(&self) -> Option<BudgetLine> {
        let total = self.total();
        Some(BudgetLine {
            plan: self.budget_plan.filter(|_| self.repriced.is_empty())?,
            spent: total.spent.paid + total.possibly_billed,
        })
    }

    /// The same in a sentence.
    pub fn budget_in_words(&self) -> Option<String> {
        let budget = self.budget()?;
        let (spent, cap) = (budget.spent, budget.plan.usd);
        let rest = match (budget.passed_by(), self.rows_with(Status::SkippedBudget)) {
            (Usd::ZERO, 0) => format!("${} is left", budget.left()),
            (Usd::ZERO, rows) => format!("the ${} left did not do for {rows} rows", budget.left()),
            (over, _) => format!("it was passed by ${over}"),
        };
        Some(format!("${spent} of the budget of ${cap} spent, {rest}"))
    }
}
