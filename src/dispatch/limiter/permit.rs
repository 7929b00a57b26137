//! The right to send one request, and what is done when its reply is there.

use std::sync::Arc;

use tokio::time::Instant;

use super::window::Slot;
use super::{Heard, Limiter, STALE, State};
use crate::dispatch::tokens::Tokens;

/// The right to send one request; held until its reply is there.
#[derive(Debug)]
pub(in crate::dispatch) struct Permit {
    pub(super) limiter: Arc<Limiter>,
    pub(super) taken_at: Instant,
    pub(super) tokens: Tokens,
    pub(super) token_slots: [Option<Slot>; 3],
    pub(super) request_slot: Option<Slot>,
    pub(super) probe: bool,
    /// Whether it has its place among the requests in flight.
    pub(super) placed: bool,
    pub(super) sent: bool,
    pub(super) settled: bool,
}

impl Permit {
    /// Whether it was given so long ago that its place in the spacing is past.
    pub(in crate::dispatch) fn is_stale(&self) -> bool {
        self.taken_at.elapsed() > STALE
    }

    /// Takes the request's place among those in flight, if there is one and nobody waits for it.
    pub(in crate::dispatch) fn try_place(&mut self) -> bool {
        let limiter = Arc::clone(&self.limiter);
        let head = limiter.gate.try_lock();
        head.is_ok() && self.take_place()
    }

    /// Waits for it, in order of arrival.
    pub(in crate::dispatch) async fn place(&mut self) {
        let limiter = Arc::clone(&self.limiter);
        let _head = limiter.gate.lock().await;
        while !self.take_place() {
            limiter.left.notified().await;
        }
    }

    /// Takes up the request after it has waited: what was refused before this moment says nothing of it. `false` if the
    /// server refuses at this moment.
    pub(in crate::dispatch) fn begins_now(&mut self) -> bool {
        self.taken_at = Instant::now();
        self.probe || self.limiter.state().throttle.check().is_ok()
    }

    fn take_place(&mut self) -> bool {
        self.placed = self.placed || self.limiter.state().concurrency.take();
        self.placed
    }

    /// The request is on its way from now on: what it takes is not given back any more, and counts from now.
    pub(in crate::dispatch) fn sent(&mut self) {
        self.sent = true;
        let limiter = Arc::clone(&self.limiter);
        let mut state = limiter.state();
        if let (Some(requests), Some(slot)) = (&mut state.requests, &mut self.request_slot) {
            *slot = requests.by.postpone(*slot);
        }
        let slots = self.token_slots.iter_mut();
        for ((counts, bucket), slot) in state.tokens.iter_mut().zip(slots) {
            let Some(slot) = slot else { continue };
            let taken = counts.of(self.tokens).min(bucket.by.per_minute());
            *slot = bucket.by.postpone(*slot, taken);
        }
    }

    /// Corrects the reservation, learns from the reply and gives the place back. `true` if it was
    /// refused and that began a pause.
    pub(in crate::dispatch) fn settle(mut self, heard: Heard<'_>) -> bool {
        self.settled = true;
        let limiter = Arc::clone(&self.limiter);
        let mut state = limiter.state();
        let pauses = state.hear(&self, heard);
        if let Some(told) = heard.told {
            state.learn(told);
        }
        self.give_back(&mut state);
        drop(state);
        limiter.look_again();
        pauses
    }

    fn give_back(&self, state: &mut State) {
        state.concurrency.release(self.placed);
        if self.probe {
            state.throttle.probe_ended();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut state = self.limiter.state();
        if !self.sent {
            state.correct(self, Tokens::default());
            if let (Some(requests), Some(slot)) = (&mut state.requests, self.request_slot) {
                requests.by.give_back(slot);
            }
        }
        self.give_back(&mut state);
        drop(state);
        self.limiter.look_again();
    }
}
