//! Who would answer an item, before anybody is asked: what an echo will do is known, and the retry table makes of
//! it what it makes of it in the run.

use super::MAX_SWEEPS;
use super::tries::{Next, Tries};
use crate::job::{Backend, BackendKind, EchoScript, FallbackPolicy, Plan};
use crate::words::{CallError, ErrorClass, Request, Status};

/// An item's way through its route.
struct Rehearsal<'a> {
    policy: &'a FallbackPolicy,
    request: Request,
    /// What was tried on each backend of the route, and how often.
    tries: Vec<(Tries, u32)>,
    /// The class of the last failure.
    failed: Option<ErrorClass>,
}

/// What comes of asking a backend.
enum Came {
    Reply,
    /// A reply that the job would rather have from another backend.
    Unwanted,
    Nothing,
    /// Nobody else is asked either.
    Refused,
}

/// The backends whose replies are paid for when this is asked of a route, in order: as a rule one. None where no
/// reply comes. Backends that follow no script answer at once; limits, pauses and outages are left out.
pub fn rehearse(plan: &Plan, request: Request, route: &[usize]) -> Vec<usize> {
    let row = request.row.as_ref().map_or(0, |row| row.index);
    let tries = (0..route.len()).map(|at| (Tries::new(plan.retry, row, at), 0));
    let mut rehearsal = Rehearsal {
        policy: &plan.fallback,
        request,
        tries: tries.collect(),
        failed: None,
    };
    let mut paid = Vec::new();
    for _ in 0..=MAX_SWEEPS {
        if rehearsal.go_along(&plan.backends, route, &mut paid) {
            break;
        }
        let passing = matches!(
            rehearsal.failed,
            Some(ErrorClass::NotSent | ErrorClass::Server)
        );
        if plan.retry.attempts == 1 || !passing || !paid.is_empty() {
            break;
        }
        let tries = rehearsal.tries.iter_mut();
        tries.for_each(|(tries, _)| tries.once_more());
    }
    paid
}

impl Rehearsal<'_> {
    /// Asks one backend after the other. Whether that is the end of it.
    fn go_along(&mut self, backends: &[Backend], route: &[usize], paid: &mut Vec<usize>) -> bool {
        for (at, position) in route.iter().enumerate() {
            let BackendKind::Echo(script) = &backends[*position].kind else {
                paid.push(*position);
                return true;
            };
            let is_last = at + 1 == route.len();
            match self.ask(script, at, is_last) {
                Came::Reply => {
                    paid.push(*position);
                    return true;
                }
                Came::Unwanted => paid.push(*position),
                Came::Nothing => {}
                Came::Refused => return true,
            }
        }
        false
    }

    fn ask(&mut self, script: &EchoScript, at: usize, is_last: bool) -> Came {
        let (tries, made) = &mut self.tries[at];
        loop {
            *made += 1;
            self.request.attempt = *made;
            // A failure comes before the answer, but a cut answer has to be there.
            self.failed = match script.failure(&self.request) {
                None | Some(ErrorClass::Flagged) if script.answer(&self.request).is_err() => {
                    Some(ErrorClass::RowFatal)
                }
                failure => failure,
            };
            let class = match self.failed {
                None => return Came::Reply,
                // What an echo flags it has cut.
                Some(ErrorClass::Flagged) => {
                    let unwanted = self.policy.on.contains(&Status::Truncated) && !is_last;
                    return match unwanted {
                        true => Came::Unwanted,
                        false => Came::Reply,
                    };
                }
                Some(class) => class,
            };
            match tries.after(&CallError::new(class, ""), false) {
                Next::Retry(_) | Next::Wait => {}
                Next::GiveUp if class == ErrorClass::RowFatal && self.policy.on_row_fatal => {
                    return Came::Nothing;
                }
                Next::GiveUp => return Came::Refused,
                Next::OtherBackend | Next::StopBackend => return Came::Nothing,
            }
        }
    }
}
