//! One attempt, or two side by side where the first one takes long and the job says so.

use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use tokio::time::{Instant, sleep};

use super::Dispatcher;
use super::breaker::Turn;
use super::budget::Reservation;
use super::lane::{Admission, Lane, Sent};
use super::pending::Pending;
use crate::store::Intent;
use crate::words::{Attempt, AttemptKind, CallError, Completion, Cost};

/// How often it is looked whether there is room for a second one.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What came of it, once every attempt is in the item's ledger.
pub(super) struct Tried {
    /// The attempts, in the order of the ledger, as they were noted down before they were made.
    pub(super) made: Vec<Made>,
    /// The attempt that decided, as a position in the ledger.
    pub(super) attempt: usize,
    /// The reply or the failure.
    pub(super) result: Result<Completion, CallError>,
    /// What it did to the breaker.
    pub(super) turn: Turn,
    /// Whether it was refused and that began a pause.
    pub(super) refused: bool,
    /// The failure of the other attempt, if there was one that failed by itself.
    pub(super) other: Option<Other>,
}

/// An attempt that was noted down, and the money that was reserved for it.
pub(super) struct Made {
    pub(super) intent: Intent,
    pub(super) reserved: Option<Reservation>,
}

impl Made {
    /// An attempt that is about to be made: its money is spent unless somebody knows better.
    fn now(mut intent: Intent, mut reserved: Option<Reservation>) -> Self {
        if let Some(reserved) = &mut reserved {
            reserved.sent();
            if let Cost::Unknown {
                at_most: Some(most),
            } = &mut intent.reserved
            {
                *most = (*most).max(reserved.amount());
            }
        }
        Self { intent, reserved }
    }
}

/// What the attempt did that did not decide.
pub(super) struct Other {
    pub(super) error: CallError,
    pub(super) turn: Turn,
    pub(super) refused: bool,
}

impl Other {
    /// Its line in the ledger, and the rest.
    fn of(sent: Sent) -> (Attempt, Option<Self>) {
        let Sent {
            attempt,
            result,
            turn,
            refused,
        } = sent;
        let other = result.err().map(|error| Self {
            error,
            turn,
            refused,
        });
        (attempt, other)
    }
}

/// Makes an attempt; after this time without an answer a second one beside it. The first good reply
/// decides, and the other attempt is given up; if both fail, the last failure does.
pub(super) async fn send(
    dispatcher: &Dispatcher,
    lane: &Lane,
    admission: Admission<'_>,
    reserved: Option<Reservation>,
    pending: &mut Pending,
) -> Tried {
    let (stop, journal) = (&dispatcher.stop, &dispatcher.journal);
    let after = dispatcher.policy.hedge_after;
    let number = pending.next_number();
    let kind = pending.kind();
    let intent = lane.intent(pending.plain(), &pending.request, number, kind);
    let first_made = Made::now(intent, reserved);
    let intent = &first_made.intent;
    let mut second_request = None;
    let mut second_made = None;
    let (sent, loser, winner) = {
        let item = pending.item();
        let send = |admission, intent, request| {
            lane.send(
                admission,
                item,
                intent,
                (request, &pending.demand),
                journal,
                stop,
            )
        };
        let mut first = pin!(send(admission, intent, &pending.request));
        let early = match after {
            Some(after) => tokio::select! {
                biased;
                sent = &mut first => Some(sent),
                () = sleep(after) => None,
            },
            None => Some(first.as_mut().await),
        };
        let hedge = match early {
            Some(_) => None,
            None => loop {
                if stop.is_draining() || lane.stopped().why().is_some() {
                    break None;
                }
                // In this order: money that is not needed is given back, a place in the spacing is not.
                if let Some(reserved) = dispatcher.reserve_hedge(lane, pending, intent)
                    && let Some(admission) = lane.admit_hedge(&pending.request)
                {
                    break Some(Either::Right((admission, reserved)));
                }
                // There may be room later, while the first one still takes its time.
                tokio::select! {
                    biased;
                    sent = &mut first => break Some(Either::Left(sent)),
                    () = sleep(LOOK_AGAIN) => {}
                }
            },
        };
        match (early, hedge) {
            (Some(sent), _) | (None, Some(Either::Left(sent))) => (sent, None, 0),
            (None, None) => (first.await, None, 0),
            (None, Some(Either::Right((admission, reserved)))) => {
                let began = Instant::now();
                let request = second_request.insert(pending.request.clone());
                request.attempt += 1;
                let kind = match pending.demand.judges {
                    true => AttemptKind::Judge,
                    false => AttemptKind::Hedge,
                };
                let hedge = lane.intent(pending.plain(), request, number + 1, kind);
                let hedge = &second_made.insert(Made::now(hedge, reserved)).intent;
                let second = pin!(send(admission, hedge, request));
                match select(first, second).await {
                    Either::Left((sent, second)) if sent.result.is_ok() => {
                        let loser = match second.now_or_never() {
                            Some(sent) => Other::of(sent),
                            None => (
                                lane.superseded(hedge, &pending.request, began.elapsed()),
                                None,
                            ),
                        };
                        (sent, Some(loser), 0)
                    }
                    Either::Left((failed, second)) => {
                        let other = Other::of(failed);
                        (second.await, Some(other), 1)
                    }
                    Either::Right((sent, first)) if sent.result.is_ok() => {
                        let loser = match first.now_or_never() {
                            Some(sent) => Other::of(sent),
                            None => {
                                let took = began.elapsed() + after.unwrap_or_default();
                                (lane.superseded(intent, &pending.request, took), None)
                            }
                        };
                        (sent, Some(loser), 1)
                    }
                    Either::Right((failed, first)) => {
                        let other = Other::of(failed);
                        (first.await, Some(other), 0)
                    }
                }
            }
        }
    };
    let Sent {
        attempt,
        result,
        turn,
        refused,
    } = sent;
    let (loser, other) = match loser {
        Some((line, other)) => (Some(line), other),
        None => (None, None),
    };
    let before = pending.attempts.len();
    // In the order in which they were sent, whichever came back first.
    match (loser, winner) {
        (Some(first), 1) => pending.attempts.extend([first, attempt]),
        (loser, _) => pending
            .attempts
            .extend([Some(attempt), loser].into_iter().flatten()),
    }
    if second_made.is_some() {
        pending.next_number();
    }
    Tried {
        made: [Some(first_made), second_made]
            .into_iter()
            .flatten()
            .collect(),
        attempt: before + winner,
        result,
        turn,
        refused,
        other,
    }
}
