//! The way into the store while a run writes to it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::words::{Attempt, AttemptKind, Cost, Digest, Item, Outcome, Tariff};

/// An attempt that is about to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// Its number among the item's attempts over all runs, counted from 1.
    pub number: u32,
    /// The backend's name in the job.
    pub backend: Arc<str>,
    /// Why it is made.
    pub kind: AttemptKind,
    /// What it asks: equal where the same would be asked again.
    pub fingerprint: Digest,
    /// What it will be charged by; `None` where no price is known.
    pub tariff: Option<Arc<Tariff>>,
    /// What it costs at most, should its end never be known.
    pub reserved: Cost,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Ended {
    /// Its line in the ledger.
    pub attempt: Attempt,
    /// Whether it is stored together with whatever comes next of its item: an answer with the item's outcome.
    pub with_next: bool,
    /// What is to be done when it is durable.
    pub on_durable: Option<OnDurable>,
}

impl Ended {
    /// The end of an attempt, of which nobody needs to hear when it is durable.
    pub fn of(attempt: Attempt) -> Self {
        Self {
            with_next: attempt.is_reply(),
            attempt,
            on_durable: None,
        }
    }
}

/// What is done when a record is durable, on the thread that writes; never if it cannot be stored.
pub struct OnDurable(Box<dyn FnOnce() + Send>);

impl OnDurable {
    /// This is to be done.
    pub fn new(call: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(call))
    }

    /// Does it.
    pub fn call(self) {
        (self.0)();
    }
}

impl fmt::Debug for OnDurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDurable")
    }
}

/// A line for the store.
#[derive(Debug)]
pub enum Record {
    /// An attempt that is made as soon as this is durable, which the sender tells.
    Intent(Item, Intent, oneshot::Sender<()>),
    /// The end of an attempt.
    Ended(Item, Intent, Box<Ended>),
    /// The attempt with this number is not made after all; what is to be done when that is durable.
    HeldBack(Item, u32, Option<OnDurable>),
    /// The end of an item.
    Outcome(Outcome),
}

impl Record {
    /// What it is about.
    pub(super) fn item(&self) -> &Item {
        match self {
            Record::Intent(item, ..) | Record::Ended(item, ..) | Record::HeldBack(item, ..) => item,
            Record::Outcome(outcome) => &outcome.item,
        }
    }
}

/// The store takes nothing any more: its writer has failed, and says why when it is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// Where a run notes down what it does, before it does it. Clones share the queue, which is full when the
/// disk is slower than the run.
#[derive(Debug, Clone)]
pub struct Journal {
    queue: mpsc::Sender<Record>,
}

impl Journal {
    /// A journal, and where its records come out.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Record>) {
        let (queue, records) = mpsc::channel(capacity);
        (Self { queue }, records)
    }

    /// One that takes nothing.
    pub fn closed() -> Self {
        Self::new(1).0
    }

    /// Notes down that an attempt is made; when it returns, that is durable.
    pub async fn intend(&self, item: &Item, intent: Intent) -> Result<(), Closed> {
        let (durable, done) = oneshot::channel();
        let record = Record::Intent(item.clone(), intent, durable);
        self.queue.send(record).await.map_err(|_| Closed)?;
        done.await.map_err(|_| Closed)
    }

    /// Notes down how an attempt ended. It is durable before whatever is noted down later.
    pub async fn ended(&self, item: &Item, intent: Intent, ended: Ended) {
        let record = Record::Ended(item.clone(), intent, Box::new(ended));
        // A closed journal shows when the item's outcome is to be stored.
        let _ = self.queue.send(record).await;
    }

    /// Takes back that an attempt is made, of which nothing was sent.
    pub async fn held_back(&self, item: &Item, number: u32, on_durable: Option<OnDurable>) {
        let record = Record::HeldBack(item.clone(), number, on_durable);
        // A closed journal shows at the next attempt.
        let _ = self.queue.send(record).await;
    }

    /// Notes down an item's end. It is durable before any attempt is made that is noted down later; who needs to
    /// hear when it is asks for that at the writer.
    pub async fn outcome(&self, outcome: Outcome) -> Result<(), Closed> {
        let sent = self.queue.send(Record::Outcome(outcome)).await;
        sent.map_err(|_| Closed)
    }
}
