//! The job's money over all its runs, and the end of a run that wastes too much of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fan_out::render;
use super::summary::RunError;
use crate::dispatch::{Budget, OnEvent, Stop};
use crate::input::Inputs;
use crate::job::{BudgetMode, BudgetPlan, MaxWaste, Plan};
use crate::output::BudgetLine;
use crate::store::{Reader, Store, StoreError, Tally, has_store};
use crate::words::{Cost, Event, Item, Outcome, Usd};

/// By how many rows the dearest request is judged, before anything is sent.
const JUDGED: usize = 10_000;

/// The job's budget as its runs before have left it, if it has one.
pub(super) fn open_budget(
    plan: &Plan,
    inputs: &Inputs,
    store: &Store,
    on_event: &OnEvent,
) -> Result<Option<Arc<Budget>>, RunError> {
    let Some(budget) = plan.spending.budget else {
        return Ok(None);
    };
    let tally = store.reader()?.tally()?;
    let (spent, unbounded) = spent(&tally);
    if budget.mode == BudgetMode::Strict && unbounded > 0 {
        return Err(RunError::Unbounded {
            budget,
            attempts: unbounded,
        });
    }
    on_event(Event::BudgetOpened {
        cap: budget.usd,
        spent,
        overshoot: overshoot(plan, budget, inputs)?,
        unbounded,
    });
    Ok(Some(Budget::new(budget, spent)))
}

/// What runs have spent of a job's budget, if it has one.
pub(super) fn budget_line(plan: Option<BudgetPlan>, tally: &Tally) -> Option<BudgetLine> {
    let (spent, _) = spent(tally);
    plan.map(|plan| BudgetLine { plan, spent })
}

/// What is left of a job's budget, if it has one; the runs in its directory are looked at, and left alone.
pub(super) fn left(plan: &Plan) -> Result<Option<Usd>, RunError> {
    let Some(budget) = plan.spending.budget else {
        return Ok(None);
    };
    let dir = &plan.output.dir;
    let tally = match has_store(dir).then(|| Reader::open(dir)).transpose() {
        Ok(reader) => reader.map(|reader| reader.tally()).transpose()?,
        // What a killed runner left before it had begun.
        Err(StoreError::NoRun { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let (spent, _) = spent(&tally.unwrap_or_default());
    Ok(Some(budget.usd - spent))
}

/// What runs have paid and what may have been billed to them, and how many of their attempts have no known bound.
fn spent(tally: &Tally) -> (Usd, u64) {
    let backends = || tally.by_backend.values();
    let spent = backends().map(|backend| backend.paid + backend.possible);
    let unbounded = backends().map(|backend| backend.unbounded + backend.unpriced);
    (spent.sum(), unbounded.sum())
}

/// By how much an estimated budget may be passed: if every request in flight were as dear as the dearest of the
/// first rows, and nothing were reserved for it.
fn overshoot(plan: &Plan, budget: BudgetPlan, inputs: &Inputs) -> Result<Option<Usd>, RunError> {
    if budget.mode == BudgetMode::Strict {
        return Ok(None);
    }
    let mut dearest = Usd::ZERO;
    for row in inputs.rows().take(JUDGED) {
        let item = Item::of(Arc::new(row?));
        // What cannot be asked costs nothing.
        let Ok(request) = render(&plan.prompt, &item) else {
            continue;
        };
        let costs = plan.backends.iter().filter_map(|b| b.guess(&request));
        dearest = costs.fold(dearest, Usd::max);
    }
    let beside = if plan.hedge_after.is_some() { 2 } else { 1 };
    Ok(Some(dearest.times(plan.concurrency as u64 * beside)))
}

/// Looks after what is wasted.
pub(super) struct WasteWatch {
    most: Option<MaxWaste>,
    seen: Mutex<Seen>,
    reached: AtomicBool,
    stop: Stop,
    on_event: OnEvent,
}

/// What this run came to so far.
#[derive(Debug, Default)]
struct Seen {
    rows: u64,
    paid: Usd,
    wasted: Usd,
}

impl WasteWatch {
    /// Of a run that begins.
    pub(super) fn new(most: Option<MaxWaste>, stop: Stop, on_event: OnEvent) -> Arc<Self> {
        Arc::new(Self {
            most,
            seen: Mutex::default(),
            reached: AtomicBool::new(false),
            stop,
            on_event,
        })
    }

    /// Whether it has ended the run.
    pub(super) fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// A row has ended.
    pub(super) fn see(&self, outcome: &Outcome) {
        let Some(most) = self.most else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.add(outcome);
        if most.exceeded(seen.wasted, seen.paid, seen.rows)
            && !self.reached.swap(true, Ordering::Relaxed)
        {
            (self.on_event)(Event::WasteReached {
                wasted: seen.wasted,
                paid: seen.paid,
                rows: seen.rows,
            });
            self.stop.halt();
        }
    }
}

impl Seen {
    fn add(&mut self, outcome: &Outcome) {
        self.rows += 1;
        for (attempt, benefit) in outcome.benefits() {
            if let Cost::Known(paid) = attempt.cost {
                self.paid += paid;
                if benefit.is_wasted() {
                    self.wasted += paid;
                }
            }
        }
    }
}
