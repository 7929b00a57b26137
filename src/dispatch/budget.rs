//! The job's money: what is spent, what is reserved for requests on their way, and whether there is room for another.
//!
//! It is looked and reserved in one step, before anything is sent; what was reserved is free again when the attempt's
//! end is on disk, so that at any moment spent + reserved <= cap, in memory and in the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Queue, Notify};

use crate::job::{BudgetMode, BudgetPlan};
use crate::words::{Cost, Usd};

/// An estimate is what requests like it have cost, and so much more, in millionths.
const CAUTION: u64 = 1_200_000;
/// An estimate follows what it is made from with this weight: one part in so many.
const INERTIA: u64 = 16;
const WHOLE: u64 = 1_000_000;

/// The money of a job, over all its runs.
#[derive(Debug)]
pub struct Budget {
    plan: BudgetPlan,
    state: Mutex<State>,
    /// Whoever waits for money waits in this order.
    queue: Queue<()>,
    /// Something was spent or given back.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What was paid, and what may have been billed at most.
    spent: Usd,
    /// What requests on their way may cost.
    reserved: Usd,
    /// Whether a request could not be afforded.
    refused: bool,
}

/// There is no money for a request, and none will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooDear {
    /// What it may cost.
    pub most: Usd,
    /// What is left.
    pub left: Usd,
    /// Whether nothing was refused before.
    pub first: bool,
}

/// Money for one request. Given back if the request is not made; spent if nobody says what became of it.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    amount: Usd,
    sent: bool,
}

impl Budget {
    /// A budget of which this much is spent already.
    pub fn new(plan: BudgetPlan, spent: Usd) -> Arc<Self> {
        Arc::new(Self {
            plan,
            state: Mutex::new(State {
                spent,
                ..State::default()
            }),
            queue: Queue::default(),
            changed: Notify::new(),
        })
    }

    /// Whether a request could not be made for want of money.
    pub fn is_reached(&self) -> bool {
        self.state().refused
    }

    /// The cap, and how it is kept.
    pub fn plan(&self) -> BudgetPlan {
        self.plan
    }

    /// What was paid so far, and what may have been billed at most.
    pub fn spent(&self) -> Usd {
        self.state().spent
    }

    /// Reserves as much as a request may cost. Waits while money that others have reserved may come back.
    pub(super) async fn reserve(self: &Arc<Self>, most: Usd) -> Result<Reservation, TooDear> {
        // What costs nothing waits for nobody; the others in the order in which they came, or one that is large would
        // wait behind ever new small ones.
        let _turn = match most {
            Usd::ZERO => None,
            _ => Some(self.queue.lock().await),
        };
        loop {
            let changed = self.changed.notified();
            if let Some(settled) = self.look(most) {
                return settled;
            }
            changed.await;
        }
    }

    /// The same for a request that need not be made, if there is room now and nobody waits for it.
    pub(super) fn try_reserve(self: &Arc<Self>, most: Usd) -> Option<Reservation> {
        let _turn = self.queue.try_lock().ok()?;
        let mut state = self.state();
        state.fits(most, self.plan.usd).then(|| {
            state.reserved += most;
            self.reservation(most)
        })
    }

    /// Looks and reserves in one step. `None`: there may be room later.
    fn look(self: &Arc<Self>, most: Usd) -> Option<Result<Reservation, TooDear>> {
        let mut state = self.state();
        // Also when an earlier run has passed the cap, what costs nothing can be afforded.
        if most == Usd::ZERO || state.fits(most, self.plan.usd) {
            state.reserved += most;
            return Some(Ok(self.reservation(most)));
        }
        if state.spent + most <= self.plan.usd {
            return None;
        }
        let first = !std::mem::replace(&mut state.refused, true);
        let left = (self.plan.usd - state.spent).max(Usd::ZERO);
        Some(Err(TooDear { most, left, first }))
    }

    fn reservation(self: &Arc<Self>, amount: Usd) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            amount,
            sent: false,
        }
    }

    fn release(&self, reserved: Usd, spent: Usd) {
        let mut state = self.state();
        state.reserved = state.reserved - reserved;
        state.spent += spent;
        drop(state);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fits(&self, most: Usd, cap: Usd) -> bool {
        self.spent + self.reserved + most <= cap
    }
}

impl Reservation {
    /// What it is.
    pub(super) fn amount(&self) -> Usd {
        self.amount
    }

    /// From now on it is spent unless somebody knows better.
    pub(super) fn sent(&mut self) {
        self.sent = true;
    }

    /// The attempt cost this, and that is on disk.
    pub(super) fn settle(mut self, cost: Cost) {
        let spent = cost.most().unwrap_or(self.amount);
        self.budget.release(self.amount, spent);
        self.amount = Usd::ZERO;
        self.sent = false;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.amount != Usd::ZERO {
            let spent = if self.sent { self.amount } else { Usd::ZERO };
            self.budget.release(self.amount, spent);
        }
    }
}

/// What requests of one backend are likely to cost, as a share of what they may cost.
#[derive(Debug)]
pub(super) struct Likely {
    mode: BudgetMode,
    /// In millionths: of the most that a request may cost what they cost; more than the whole once one cost more.
    share: AtomicU64,
}

impl Likely {
    /// Of a backend of which nothing is known yet.
    pub(super) fn new(mode: BudgetMode) -> Self {
        Self {
            mode,
            share: AtomicU64::new(WHOLE),
        }
    }

    /// What is to be reserved for a request that may cost this.
    pub(super) fn of(&self, most: Usd) -> Usd {
        let share = self.share.load(Ordering::Relaxed);
        match self.mode {
            BudgetMode::Strict => most.millionths(share),
            BudgetMode::Calibrated if share < WHOLE => {
                most.millionths(share).millionths(CAUTION).min(most)
            }
            BudgetMode::Calibrated => most.millionths(share).millionths(CAUTION),
        }
    }

    /// A request that could have cost `most` cost so much. Returns whether that is more than it could have.
    pub(super) fn learn(&self, most: Usd, paid: Usd) -> bool {
        let Some(seen) = paid.millionths_of(most) else {
            return paid > most;
        };
        let next = |share: u64| match self.mode {
            // A provider that counts more than was sent, or bills more than was asked for, does it again.
            BudgetMode::Strict => share.max(seen),
            BudgetMode::Calibrated => (share * (INERTIA - 1)).saturating_add(seen) / INERTIA,
        };
        let updated = self
            .share
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |share| {
                Some(next(share))
            });
        updated.is_ok() && seen > WHOLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(units: i128) -> Usd {
        Usd::from_units(units)
    }

    fn budget(cap: i128) -> Arc<Budget> {
        let plan = BudgetPlan {
            usd: usd(cap),
            mode: BudgetMode::Strict,
        };
        Budget::new(plan, Usd::ZERO)
    }

    #[tokio::test]
    async fn what_is_not_used_goes_to_whoever_waits_in_their_order() {
        let budget = budget(10);
        let first = budget.reserve(usd(8)).await.unwrap();
        let mut waiting = Vec::new();
        for amount in [9, 1] {
            let budget = Arc::clone(&budget);
            let waits = tokio::spawn(async move { budget.reserve(usd(amount)).await });
            tokio::task::yield_now().await;
            waiting.push(waits);
        }
        // There is room for the second one, but it is not its turn; nor is it a hedge's.
        tokio::task::yield_now().await;
        assert!(!waiting[1].is_finished());
        assert!(budget.try_reserve(usd(1)).is_none());
        first.settle(Cost::Known(usd(1)));
        let second = waiting.remove(0).await.unwrap().unwrap();
        let third = waiting.remove(0);
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "1 + 9 + 1 > 10");
        drop(second);
        assert!(third.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_for_money_that_cannot_come() {
        let budget = budget(10);
        let held = budget.reserve(usd(4)).await.unwrap();
        let refused = budget.reserve(usd(11)).await.unwrap_err();
        assert_eq!(
            (refused.most, refused.left, refused.first),
            (usd(11), usd(10), true)
        );
        held.settle(Cost::Unknown {
            at_most: Some(usd(4)),
        });
        let refused = budget.reserve(usd(7)).await.unwrap_err();
        assert_eq!((refused.left, refused.first), (usd(6), false));
        assert!(budget.reserve(usd(6)).await.is_ok());
        assert!(budget.reserve(Usd::ZERO).await.is_ok());
    }

    #[tokio::test]
    async fn money_is_given_back_for_what_was_not_sent_and_kept_for_what_was() {
        let budget = budget(10);
        drop(budget.reserve(usd(5)).await.unwrap());
        assert_eq!(budget.spent(), Usd::ZERO);
        let mut sent = budget.reserve(usd(5)).await.unwrap();
        sent.sent();
        drop(sent);
        assert_eq!(budget.spent(), usd(5));
        let whole = budget.reserve(usd(5)).await.unwrap();
        whole.settle(Cost::Known(usd(2)));
        assert_eq!(budget.spent(), usd(7));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_thousand_at_once_at_the_edge_do_not_pass_the_cap() {
        for round in 0..20 {
            let budget = budget(100);
            let tasks = (0..1_000).map(|number| {
                let budget = Arc::clone(&budget);
                tokio::spawn(async move {
                    let Ok(mut reserved) = budget.reserve(usd(1 + number % 7)).await else {
                        return;
                    };
                    let amount = reserved.amount();
                    reserved.sent();
                    tokio::task::yield_now().await;
                    let spent = usd(amount.units() - (number + round) % 2);
                    reserved.settle(Cost::Known(spent.max(Usd::ZERO)));
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
            let state = budget.state();
            assert!(state.spent <= usd(100), "{state:?}");
            assert_eq!(state.reserved, Usd::ZERO);
            assert!(state.spent >= usd(94), "{state:?}");
        }
    }

    #[test]
    fn an_estimate_follows_what_requests_cost() {
        let likely = Likely::new(BudgetMode::Calibrated);
        assert_eq!(likely.of(usd(1_000)), usd(1_200));
        for _ in 0..200 {
            assert!(!likely.learn(usd(1_000), usd(100)));
        }
        let learnt = likely.of(usd(1_000)).units();
        assert!((118..=125).contains(&learnt), "{learnt}");
    }

    #[test]
    fn a_bound_is_stretched_by_what_was_charged_beyond_it_and_never_shrinks() {
        let likely = Likely::new(BudgetMode::Strict);
        assert!(!likely.learn(usd(1_000), usd(10)));
        assert_eq!(likely.of(usd(1_000)), usd(1_000));
        assert!(likely.learn(usd(1_000), usd(1_500)));
        assert!(!likely.learn(usd(1_000), usd(10)));
        assert_eq!(likely.of(usd(1_000)), usd(1_500));
    }
}
