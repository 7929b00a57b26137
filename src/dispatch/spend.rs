//! The money for attempts: reserved before anything is sent, settled when its end is on disk.

use std::sync::Arc;

use super::budget::Reservation;
use super::hedge::Made;
use super::lane::Lane;
use super::pending::Pending;
use super::{Asked, Dispatcher};
use crate::store::{Ended, Intent, OnDurable};
use crate::words::{Attempt, Cost, Event, Request, Usd};

impl Dispatcher {
    /// Reserves the money for the next attempt, or says why it is not made.
    pub(super) async fn reserve(
        &self,
        lane: &Lane,
        pending: &Pending,
    ) -> Result<Option<Reservation>, Asked> {
        let most = lane.most(&pending.request);
        if let Some(cap) = self.policy.max_cost_per_row {
            let left = cap - pending.spent();
            if most.is_none_or(|most| most > left) {
                let left = left.max(Usd::ZERO);
                let what = format!("the ${cap} of `max_cost_per_row`");
                return Err(Asked::TooDear(no_money(lane, most, left, &what)));
            }
        }
        let Some(budget) = &self.budget else {
            return Ok(None);
        };
        let cap = budget.plan().usd;
        let what = format!("the budget of ${cap}");
        let Some(most) = most else {
            let left = (cap - budget.spent()).max(Usd::ZERO);
            return Err(Asked::TooDear(no_money(lane, None, left, &what)));
        };
        let reserved = tokio::select! {
            biased;
            () = self.stop.draining() => return Err(Asked::Stopped),
            () = lane.stopped().wait() => {
                let why = lane.stopped().why();
                return Err(Asked::NoAnswer(why.map_or_else(String::new, |error| error.message.clone())));
            }
            reserved = budget.reserve(lane.likely().of(most)) => reserved,
        };
        reserved.map(Some).map_err(|refused| {
            if refused.first {
                (self.on_event)(Event::BudgetReached {
                    cap,
                    spent: budget.spent(),
                    needed: refused.most,
                });
            }
            Asked::TooDear(no_money(lane, Some(refused.most), refused.left, &what))
        })
    }

    /// Reserves the money for a request beside one that is on its way. `None` if there is no room for it; else the
    /// reservation, where there is a budget.
    pub(super) fn reserve_hedge(
        &self,
        lane: &Lane,
        pending: &Pending,
        first: &Intent,
    ) -> Option<Option<Reservation>> {
        let most = lane.most(&pending.request);
        if let Some(cap) = self.policy.max_cost_per_row {
            let spent = pending.spent() + first.reserved.most()?;
            (spent + most? <= cap).then_some(())?;
        }
        match &self.budget {
            None => Some(None),
            Some(budget) => budget.try_reserve(lane.likely().of(most?)).map(Some),
        }
    }

    /// Notes down how attempts have ended, the last ones of the item. What was reserved for them is settled when
    /// that is durable. `goes_on`: the item has an answer, but asks for another one.
    pub(super) async fn note(
        &self,
        lane: &Lane,
        pending: &Pending,
        made: Vec<Made>,
        goes_on: bool,
    ) {
        let ended = &pending.attempts[pending.attempts.len() - made.len()..];
        for (Made { intent, reserved }, attempt) in made.into_iter().zip(ended) {
            let mut end = Ended::of(attempt.clone());
            // Else it would wait for the next attempt, and that for its money.
            end.with_next &= !goes_on;
            if let Some(reserved) = reserved {
                self.learn(lane, &pending.request, attempt);
                let cost = attempt.cost;
                end.on_durable = Some(OnDurable::new(move || reserved.settle(cost)));
            }
            self.journal.ended(pending.item(), intent, end).await;
        }
    }

    /// Takes back what was noted down and is not sent; its money is free again when that is durable.
    pub(super) async fn hold_back(&self, pending: &mut Pending, Made { intent, reserved }: Made) {
        pending.hold_back(intent.kind);
        let settle =
            |reserved: Reservation| OnDurable::new(move || reserved.settle(Cost::Known(Usd::ZERO)));
        self.journal
            .held_back(pending.item(), intent.number, reserved.map(settle))
            .await;
    }

    /// Learns from what a reply cost.
    fn learn(&self, lane: &Lane, request: &Request, attempt: &Attempt) {
        let (Cost::Known(paid), Some(most)) = (attempt.cost, lane.most(request)) else {
            return;
        };
        if !attempt.is_reply() {
            return;
        }
        let is_dearer = lane.likely().learn(most, paid);
        if is_dearer && lane.is_dear_to_be_told() {
            (self.on_event)(Event::CostWasHigher {
                backend: Arc::clone(lane.name()),
                most,
                paid,
            });
        }
    }
}

/// Why a request is not made that there is no money for.
fn no_money(lane: &Lane, most: Option<Usd>, left: Usd, what: &str) -> String {
    let name = lane.name();
    match most {
        Some(most) => format!("it may cost up to ${most} on {name}, and ${left} of {what} is left"),
        None => format!("nobody knows what it costs on {name}, and ${left} of {what} is left"),
    }
}
