//! Where the money went: what was bought, what it was good for, what was spared, what the rest may cost.

use std::collections::BTreeMap;

use super::report::{Report, Spent, is_fallback};
use crate::words::{Attempt, Benefit, Bill, Cost, Outcome, Status, TokenClass, Usd};

/// Where the money of a run went: a fold over the same attempts that make its total.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spending {
    /// What was bought: what the usage of each attempt comes to at its price.
    pub by_class: Bill,
    /// What was paid and no usage explains: nothing, unless the store was edited.
    pub unexplained: Usd,
    /// What the money for attempts was good for, and how many they were.
    by_use: BTreeMap<Benefit, (u64, Spent)>,
    /// What was asked about answers, which is in no row's line.
    about: Spent,
    /// What the providers' prompt caches saved; below zero where writing to them cost more than reading saved.
    pub prompt_cache_saved: Usd,
    /// What falling back came to.
    pub fallback: Fallback,
    /// Result lines that the next run would ask.
    pub rows_left: u64,
    /// Result lines for which a request was made.
    rows_asked: u64,
    /// Result lines that are done and whose cost is known, and what that is.
    done: (u64, Usd),
}

/// What the answers cost that came from a later backend of the route than the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fallback {
    /// How many they are. Answers from the cache are not among them.
    pub rows: u64,
    /// For how many of them it is not known what they cost, or would have cost.
    pub unknown: u64,
    /// What the others cost.
    pub paid: Usd,
    /// What the tokens of these would have cost at the price of the row's first backend.
    pub at_first_price: Usd,
}

/// What the rows that are left may cost, if they cost what the others did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projection {
    /// All of them.
    pub amount: Usd,
    /// One of them.
    pub per_row: Usd,
    /// How many rows that are done say so.
    pub basis: u64,
}

impl Spending {
    /// Adds a row.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        for (attempt, benefit) in outcome.benefits() {
            self.add_attempt(attempt, benefit);
        }
        self.rows_asked += u64::from(outcome.requests() > 0);
        match (outcome.status.is_final(), outcome.paid()) {
            (true, Some(paid)) => {
                self.done.0 += 1;
                self.done.1 += paid;
            }
            (true, None) => {}
            (false, _) => self.rows_left += 1,
        }
        self.fallback.add(outcome);
    }

    /// Adds what was asked about the answer to a row, which makes that row dearer.
    pub(super) fn add_side(&mut self, outcome: &Outcome) {
        for (attempt, benefit) in outcome.benefits() {
            self.add_attempt(attempt, benefit);
            self.about.add(attempt.cost);
        }
        self.done.1 += outcome.paid().unwrap_or(Usd::ZERO);
    }

    /// Adds an attempt for a row, or an entry of the matrix, that is not in the job any more.
    pub(super) fn add_removed(&mut self, attempt: &Attempt) {
        self.add_attempt(attempt, Benefit::Removed);
    }

    fn add_attempt(&mut self, attempt: &Attempt, benefit: Benefit) {
        if !attempt.kind.is_request() {
            return;
        }
        let (attempts, spent) = self.by_use.entry(benefit).or_default();
        *attempts += 1;
        spent.add(attempt.cost);
        let Cost::Known(paid) = attempt.cost else {
            return;
        };
        let price = attempt.tariff.as_ref().map(|tariff| &tariff.price);
        let bill = price.and_then(|price| attempt.bill(price));
        let bill = bill.unwrap_or_default();
        self.by_class += bill;
        self.unexplained += paid - bill.total();
        if let (Some(price), Some(usage)) = (price, &attempt.usage) {
            self.prompt_cache_saved += price.saved_by_prompt_cache(usage).unwrap_or_default();
        }
    }

    /// What the money for attempts with this benefit comes to, and how many they were.
    pub fn used(&self, benefit: Benefit) -> (u64, Spent) {
        self.by_use.get(&benefit).copied().unwrap_or_default()
    }

    /// Every class of token (or what is charged beside tokens) with what it comes to, in the order of reports.
    pub fn classes(&self) -> impl Iterator<Item = (TokenClass, Usd)> {
        TokenClass::ALL
            .map(|class| (class, self.by_class.of(class)))
            .into_iter()
    }

    /// Every use of money with what it comes to and its number of attempts, in the order of reports.
    pub fn uses(&self) -> impl Iterator<Item = (Benefit, (u64, Spent))> {
        Benefit::ALL
            .map(|benefit| (benefit, self.used(benefit)))
            .into_iter()
    }

    /// What is known to have been paid for nothing.
    pub fn wasted(&self) -> Usd {
        let wasted = self
            .by_use
            .iter()
            .filter(|(benefit, _)| benefit.is_wasted());
        wasted.map(|(_, (_, spent))| spent.paid).sum()
    }

    /// What the rows that are left may cost; `None` if none is left, or none is done whose cost is known.
    pub fn projection(&self) -> Option<Projection> {
        let (basis, paid) = self.done;
        let projection = Projection {
            amount: paid.shared(self.rows_left, basis)?,
            per_row: paid.shared(1, basis)?,
            basis,
        };
        (self.rows_left > 0).then_some(projection)
    }
}

impl Fallback {
    fn add(&mut self, outcome: &Outcome) {
        let Some(deciding) = outcome
            .deciding()
            .filter(|attempt| attempt.kind.is_request())
        else {
            return;
        };
        if outcome.status != Status::Answered || !is_fallback(deciding, &outcome.attempts) {
            return;
        }
        self.rows += 1;
        match (deciding.cost, at_first_price(deciding, &outcome.attempts)) {
            (Cost::Known(paid), Some(other)) => {
                self.paid += paid;
                self.at_first_price += other;
            }
            _ => self.unknown += 1,
        }
    }
}

/// What the attempt would have cost on the row's first backend. Its time there nobody knows.
fn at_first_price(deciding: &Attempt, attempts: &[Attempt]) -> Option<Usd> {
    let first = attempts
        .first()
        .filter(|first| first.backend != deciding.backend)?;
    let price = &first.tariff.as_ref()?.price;
    let bill = price.bill(&deciding.usage.unwrap_or_default());
    bill.filter(|_| price.per_hour == Usd::ZERO)
        .map(|bill| bill.total())
}

impl Report {
    /// What an answer cost: all that was paid, over the rows that are answered. `None` without any, or where
    /// nothing is known of what was paid.
    pub fn per_answered_row(&self) -> Option<Usd> {
        self.per(self.rows_with(Status::Answered))
    }

    /// The same over the rows for which a request was made.
    pub fn per_asked_row(&self) -> Option<Usd> {
        self.per(self.spending.rows_asked)
    }

    fn per(&self, rows: u64) -> Option<Usd> {
        self.total().spent.amount()?.shared(1, rows)
    }

    /// Where the parts do not come to the total, in words; nothing, unless the store was edited, or this program
    /// counts wrong.
    pub fn disagreements(&self) -> Vec<String> {
        let total = self.total();
        let spending = &self.spending;
        let entries = self.entry_lines().map(|line| line.spent);
        let by_use = || spending.by_use.values();
        let sums: [(&str, Spent); 4] = [
            ("models", self.by_model.values().copied().sum()),
            (
                "kinds of attempt",
                self.by_kind.values().map(|(_, spent)| *spent).sum(),
            ),
            ("uses", by_use().map(|(_, spent)| *spent).sum()),
            (
                "rows",
                entries.chain([self.removed.1, spending.about]).sum(),
            ),
        ];
        let mut texts = Vec::new();
        for (parts, sum) in sums {
            if sum != total.spent {
                texts.push(differs(parts, sum, total.spent));
            }
        }
        let bought = Spent {
            paid: spending.by_class.total() + spending.unexplained,
            unpriced: total.spent.unpriced,
        };
        if bought != total.spent {
            texts.push(differs("classes of tokens", bought, total.spent));
        }
        let kinds = self.by_kind.iter().filter(|(kind, _)| kind.is_request());
        let counts: [(&str, u64); 2] = [
            (
                "kinds of attempt",
                kinds.map(|(_, (attempts, _))| attempts).sum(),
            ),
            ("uses", by_use().map(|(attempts, _)| attempts).sum()),
        ];
        for (parts, count) in counts
            .into_iter()
            .filter(|(_, count)| *count != total.attempts)
        {
            let all = total.attempts;
            texts.push(format!(
                "there are {all} attempts, but {count} by their {parts}"
            ));
        }
        texts
    }
}

fn differs(parts: &str, sum: Spent, total: Spent) -> String {
    let amount = |spent: Spent| match spent.unpriced {
        0 => format!("${}", spent.paid),
        attempts => format!("${} and {attempts} attempts without a price", spent.paid),
    };
    format!(
        "the total is {}, but the {parts} come to {}",
        amount(total),
        amount(sum)
    )
}
