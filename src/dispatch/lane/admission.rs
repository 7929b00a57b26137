//! The right to make one attempt: given by the limits and the breaker, then a place among the requests in flight.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::Lane;
use crate::dispatch::breaker::Probe;
use crate::dispatch::limiter::{Patience, Permit, Refused};
use crate::dispatch::stop::Stop;
use crate::words::Request;

/// The right to make one attempt.
pub(in crate::dispatch) struct Admission<'a> {
    pub(super) permit: Permit,
    /// Its place among all requests in flight, if it was given one with the permit.
    place: Option<SemaphorePermit<'a>>,
    pub(super) probe: Option<Probe<'a>>,
    /// Whether another backend could answer instead.
    pub(super) elsewhere: bool,
    /// How many answers the backend had given when the row failed first.
    pub(super) answers_then: Option<u64>,
}

impl Lane {
    /// Waits until the request may be sent. An open breaker is waited for unless `elsewhere`: another
    /// backend could answer.
    pub(in crate::dispatch) async fn admit(
        &self,
        request: &Request,
        patience: Patience,
        elsewhere: bool,
        answers_then: Option<u64>,
    ) -> Result<Admission<'_>, Refused> {
        let answered = self.breaker.has_answered();
        self.load
            .look(self.worker.as_ref(), &self.limiter, answered)
            .await;
        let tokens = self.accounting.estimate(request);
        loop {
            if self.breaker.check().is_err() {
                if elsewhere {
                    return Err(Refused::Open);
                }
                self.breaker.admits().await;
            }
            match self.limiter.acquire(tokens, patience, &self.breaker).await {
                Err(Refused::Open) if !elsewhere => {}
                admitted => {
                    return admitted.map(|(permit, probe)| Admission {
                        permit,
                        place: None,
                        probe,
                        elsewhere,
                        answers_then,
                    });
                }
            }
        }
    }

    /// Admits a request beside one that is on its way, if that costs nobody anything: with its place, for who waits for
    /// one could be overtaken by the first and would not be sent.
    pub(in crate::dispatch) fn admit_hedge<'a>(
        &'a self,
        request: &Request,
        places: &'a Semaphore,
    ) -> Option<Admission<'a>> {
        if self.breaker.is_open() {
            return None;
        }
        let place = places.try_acquire().ok()?;
        let tokens = self.accounting.estimate(request);
        let mut permit = self.limiter.try_acquire(tokens)?;
        if !permit.try_place() {
            return None;
        }
        // In this order: of a permit that is not used only the place in the spacing is lost, a retry is spent.
        self.retries.take().then_some(Admission {
            permit,
            place: Some(place),
            probe: None,
            elsewhere: false,
            answers_then: None,
        })
    }

    /// The same admission, or a new one if a slow disk has let it go stale: requests that were held up
    /// together must not go out together. `None` if the run is to end.
    pub(super) async fn renewed<'a>(
        &'a self,
        mut admission: Admission<'a>,
        request: &Request,
        stop: &Stop,
    ) -> Option<Admission<'a>> {
        while admission.permit.is_stale() && admission.probe.is_none() {
            let Admission {
                permit,
                elsewhere,
                answers_then,
                ..
            } = admission;
            drop(permit);
            let patience = Patience {
                at_once: true,
                ..Patience::default()
            };
            let again = self.admit(request, patience, false, answers_then);
            admission = tokio::select! {
                biased;
                () = stop.draining() => return None,
                again = again => again.ok()?,
            };
            admission.elsewhere = elsewhere;
        }
        Some(admission)
    }

    /// Waits for the request's place among those in flight. `None` if it is not to be sent any more, or not now.
    pub(super) async fn place<'a>(
        &self,
        admission: &mut Admission<'a>,
        places: &'a Semaphore,
        stop: &Stop,
    ) -> Option<SemaphorePermit<'a>> {
        if let Some(place) = admission.place.take() {
            return Some(place);
        }
        if admission.permit.try_place()
            && let Ok(place) = places.try_acquire()
        {
            return Some(place);
        }
        let placed = async {
            admission.permit.place().await;
            places.acquire().await.ok()
        };
        let place = tokio::select! {
            biased;
            () = stop.draining() => return None,
            () = self.stopped.wait() => return None,
            place = placed => place,
        };
        // Meanwhile the server may have begun to fail, or to refuse.
        let is_taken = admission.permit.begins_now() && self.breaker.check().is_ok();
        place.filter(|_| is_taken || admission.probe.is_some())
    }
}

impl Admission<'_> {
    /// Whether the request finds out if the backend is back, and nobody else could answer it.
    pub(in crate::dispatch) fn is_lone_probe(&self) -> bool {
        self.probe.is_some() && !self.elsewhere
    }
}
