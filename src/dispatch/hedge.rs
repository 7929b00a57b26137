//! One attempt, or two side by side where the first one takes long and the job says so.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::{Either, select};
use tokio::time::{Instant, sleep};

use super::Dispatcher;
use super::breaker::Turn;
use super::budget::Reservation;
use super::lane::{Admission, Lane, Run, Sent};
use super::limiter::ahead_of;
use super::pending::Pending;
use crate::store::Intent;
use crate::words::{Attempt, AttemptEnded, AttemptKind, CallError, Completion, Cost, Request};

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
            ..
        } = sent;
        let other = result.err().map(|error| Self {
            error,
            turn,
            refused,
        });
        (attempt, other)
    }
}

/// What is to be sent.
struct Shot<'a> {
    dispatcher: &'a Dispatcher,
    lane: &'a Lane,
    pending: &'a Pending,
    intent: &'a Intent,
}

/// Which attempt decided, as it was begun (from 0), and what came of it and of the other one.
struct Race {
    sent: Sent,
    winner: usize,
    /// The other attempt, if two were made: its line, and its failure if it failed by itself.
    other: Option<(Attempt, Option<Other>)>,
    /// The second one, if it was made.
    second: Option<Made>,
}

/// Makes an attempt; after the time that the job sets, without an answer, a second one beside it. The first good reply
/// decides, and the other attempt is given up; if both fail, the last failure does. An attempt that was noted down and is
/// not to be sent now comes back as it is.
pub(super) async fn send<'a>(
    dispatcher: &'a Dispatcher,
    lane: &'a Lane,
    admission: Admission<'a>,
    reserved: Option<Reservation>,
    pending: &mut Pending,
) -> Result<Tried, Made> {
    let number = pending.next_number();
    let kind = pending.kind();
    let intent = lane.intent(pending.plain(), &pending.request, number, kind);
    let first = Made::now(intent, reserved);
    let shot = Shot {
        dispatcher,
        lane,
        pending,
        intent: &first.intent,
    };
    let Race {
        sent,
        winner,
        other,
        second,
    } = match dispatcher.policy.hedge_after {
        None => Race {
            sent: shot.send(admission).await,
            winner: 0,
            other: None,
            second: None,
        },
        // In a box: few jobs hedge, and every row would carry the room for two.
        Some(after) => Box::pin(shot.race(admission, after)).await,
    };
    if sent.is_held_back && other.is_none() {
        return Err(first);
    }
    let Sent {
        attempt,
        result,
        turn,
        refused,
        ..
    } = sent;
    let (line, other) = match other {
        Some((line, other)) => (Some(line), other),
        None => (None, None),
    };
    let before = pending.attempts.len();
    // In the order in which they were sent, whichever came back first.
    match (line, winner) {
        (Some(first), 1) => pending.attempts.extend([first, attempt]),
        (line, _) => pending
            .attempts
            .extend([Some(attempt), line].into_iter().flatten()),
    }
    if second.is_some() {
        pending.next_number();
    }
    Ok(Tried {
        made: [Some(first), second].into_iter().flatten().collect(),
        attempt: before + winner,
        result,
        turn,
        refused,
        other,
    })
}

impl Dispatcher {
    /// How many items are got ready beyond those that may be asked at once: none where the time of a request counts, which
    /// counts from then.
    pub fn ahead(&self) -> usize {
        match self.policy.hedge_after {
            Some(_) => 0,
            None => ahead_of(self.policy.concurrency),
        }
    }
}

impl<'a> Shot<'a> {
    /// Makes the attempt.
    async fn send(&self, admission: Admission<'a>) -> Sent {
        self.fire(admission, self.intent, &self.pending.request)
            .await
    }

    async fn fire(&self, admission: Admission<'a>, intent: &Intent, request: &Request) -> Sent {
        let Self {
            dispatcher,
            lane,
            pending,
            ..
        } = self;
        let asked = (request, &pending.demand);
        let run = Run {
            journal: &dispatcher.journal,
            stop: &dispatcher.stop,
            places: &dispatcher.places,
        };
        let sent = lane.send(admission, pending.item(), intent, asked, run);
        let sent = sent.await;
        if sent.is_sent {
            self.tell(request, &sent.attempt, sent.result.as_ref().ok());
        }
        sent
    }

    /// Tells whoever watches of an attempt that has ended.
    fn tell(&self, request: &Request, attempt: &Attempt, reply: Option<&Completion>) {
        if let Some(on_attempt) = &self.dispatcher.on_attempt {
            let (item, now) = (self.pending.item(), SystemTime::now());
            on_attempt(&AttemptEnded::new(item, request, attempt, reply, now));
        }
    }

    /// Makes the attempt, and after this time a second one if there is room for it.
    async fn race(&self, admission: Admission<'a>, after: Duration) -> Race {
        let Self {
            dispatcher,
            lane,
            pending,
            intent,
        } = self;
        let alone = |sent| Race {
            sent,
            winner: 0,
            other: None,
            second: None,
        };
        let mut first = pin!(self.send(admission));
        tokio::select! {
            biased;
            sent = &mut first => return alone(sent),
            () = sleep(after) => {}
        }
        let (admission, reserved) = loop {
            if dispatcher.stop.is_draining() || lane.stopped().why().is_some() {
                return alone(first.await);
            }
            // In this order: money that is not needed is given back, a place in the spacing is not.
            if let Some(reserved) = dispatcher.reserve_hedge(lane, pending, intent)
                && let Some(admission) = lane.admit_hedge(&pending.request, &dispatcher.places)
            {
                break (admission, reserved);
            }
            // There may be room later, while the first one still takes its time.
            tokio::select! {
                biased;
                sent = &mut first => return alone(sent),
                () = sleep(LOOK_AGAIN) => {}
            }
        };
        let began = Instant::now();
        let mut request = pending.request.clone();
        request.attempt += 1;
        let kind = match pending.demand.judges {
            true => AttemptKind::Judge,
            false => AttemptKind::Hedge,
        };
        let hedge = lane.intent(pending.plain(), &request, intent.number + 1, kind);
        let made = Made::now(hedge, reserved);
        let hedge = &made.intent;
        let superseded = |intent, took| {
            let attempt = lane.superseded(intent, &pending.request, took);
            self.tell(&pending.request, &attempt, None);
            (attempt, None::<Other>)
        };
        let second = Box::pin(self.fire(admission, hedge, &request));
        let (sent, winner, other) = match select(first, second).await {
            Either::Left((sent, second)) if sent.result.is_ok() => {
                let other = second.now_or_never().map(Other::of);
                let other = other.unwrap_or_else(|| superseded(hedge, began.elapsed()));
                (sent, 0, other)
            }
            Either::Left((failed, second)) => (second.await, 1, Other::of(failed)),
            Either::Right((sent, first)) if sent.result.is_ok() => {
                let other = first.now_or_never().map(Other::of);
                let other = other.unwrap_or_else(|| superseded(intent, began.elapsed() + after));
                (sent, 1, other)
            }
            Either::Right((failed, first)) => (first.await, 0, Other::of(failed)),
        };
        Race {
            sent,
            winner,
            other: Some(other),
            second: Some(made),
        }
    }
}
