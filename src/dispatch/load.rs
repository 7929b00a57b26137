//! What servers of one's own say of their load: llama.cpp its slots, vLLM its queue. Both take any number
//! of requests and let them wait, until they time out; nobody is refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::limiter::Limiter;
use crate::job::{Backend, BackendKind};
use crate::worker::ModelWorker;

/// How often a server that has a queue is asked for its length.
const EVERY: Duration = Duration::from_secs(5);
/// How often a server that does not say how many slots it has is asked.
const ATTEMPTS: usize = 20;
/// A queue is of interest when so many requests are in flight.
const MANY: usize = 8;

/// Looks after the load of one server, unless the job says how many requests it takes.
#[derive(Debug)]
pub(super) enum LoadWatch {
    /// There is nothing to look after.
    Off,
    /// It has slots: their number is asked for once, before a second request is sent.
    Slots {
        /// How many requests wanted to be sent.
        wanted: AtomicUsize,
        /// Whether the number is known, or cannot be.
        asked: OnceCell<()>,
        /// How often it was asked for in vain.
        failed: AtomicUsize,
        /// When it was asked for again.
        again: Mutex<Option<Instant>>,
    },
    /// It has a queue.
    Queue {
        /// When its length was asked for.
        asked: Mutex<Option<Instant>>,
        /// Whether it does not say.
        silent: AtomicBool,
    },
}

impl LoadWatch {
    /// What there is to look after.
    pub(super) fn of(backend: &Backend) -> Self {
        match &backend.kind {
            _ if backend.limits.concurrency.is_some() => LoadWatch::Off,
            BackendKind::LlamaCpp(..) => LoadWatch::Slots {
                wanted: AtomicUsize::new(0),
                asked: OnceCell::new(),
                failed: AtomicUsize::new(0),
                again: Mutex::default(),
            },
            BackendKind::Vllm(..) => LoadWatch::Queue {
                asked: Mutex::default(),
                silent: AtomicBool::new(false),
            },
            _ => LoadWatch::Off,
        }
    }

    /// Asks the server if it is time to, and tells the limiter.
    /// `answered`: whether it has answered anything in this run.
    pub(super) async fn look(&self, worker: &dyn ModelWorker, limiter: &Limiter, answered: bool) {
        match self {
            LoadWatch::Off => {}
            LoadWatch::Slots {
                wanted,
                asked,
                failed,
                again,
            } => {
                if wanted.fetch_add(1, Ordering::Relaxed) > 0 {
                    let ask = || async {
                        let load = worker.load().await;
                        if let Some(slots) = load.and_then(|load| load.slots) {
                            limiter.lower_ceiling(slots);
                            return Ok(());
                        }
                        // Once more after a while; not for ever, unless it is not there yet or is loading.
                        is_due(again);
                        let times = failed.fetch_add(u8::from(answered).into(), Ordering::Relaxed);
                        failed.fetch_max(1, Ordering::Relaxed);
                        if times < ATTEMPTS { Err(()) } else { Ok(()) }
                    };
                    if failed.load(Ordering::Relaxed) == 0 || is_due(again) {
                        let _ = asked.get_or_try_init(ask).await;
                    }
                }
            }
            LoadWatch::Queue { asked, silent } => {
                if silent.load(Ordering::Relaxed) || limiter.in_flight() < MANY || !is_due(asked) {
                    return;
                }
                match worker.load().await.and_then(|load| load.waiting) {
                    Some(0) => {}
                    Some(waiting) => limiter.queued(waiting),
                    None => silent.store(true, Ordering::Relaxed),
                }
            }
        }
    }
}

/// Whether it is time to ask; if so, the time is taken.
fn is_due(asked: &Mutex<Option<Instant>>) -> bool {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    let due = asked.is_none_or(|at| at.elapsed() >= EVERY);
    if due {
        *asked = Some(Instant::now());
    }
    due
}
