//! Many items at once: who is next, who is put off, and when it is over.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::summary::Ended;
use crate::dispatch::{Called, Dispatcher, OnEvent, Pending, Stop};
use crate::input::{InputError, Inputs};
use crate::job::{Entry, MessageTemplate};
use crate::words::{Event, Item, Message, Outcome, Request, Row};

/// How many rows are read ahead.
const READ_AHEAD: usize = 256;
/// How many items may be put off before they go ahead of new ones: memory must not grow with the job.
const MAX_PUT_OFF: usize = 2_000;
/// So many rows must have recovered for each that is left, to believe that its failures pass too.
const RECOVERED_PER_LATE: u64 = 10;

/// Rows as they are read.
pub(super) type Rows = mpsc::Receiver<Result<Row, InputError>>;

/// What it takes to ask items, many at a time.
pub(super) struct FanOut {
    pub(super) asking: Arc<Asking>,
    pub(super) repeat: u32,
    pub(super) concurrency: usize,
    pub(super) stop: Stop,
    pub(super) on_event: OnEvent,
}

/// What it takes to ask one item.
pub(super) struct Asking {
    pub(super) prompt: Vec<MessageTemplate>,
    pub(super) entries: Vec<Entry>,
    pub(super) dispatcher: Dispatcher,
}

/// What waits for its turn.
#[derive(Default)]
struct Queues {
    /// Read, and not asked yet.
    new: VecDeque<Item>,
    all_read: bool,
    /// Put off for lack of retries, or because everything fails; asked when nothing is new.
    deferred: VecDeque<Pending>,
    /// Out of attempts after failures that may pass; asked once more at the end.
    late: Vec<Pending>,
    /// Late ones whose turn it is.
    sweep: VecDeque<Pending>,
    /// How many of a sweep were asked, and how many have an outcome by now.
    swept: u64,
    answered: u64,
    /// How many rows were answered after a failure that passed.
    recovered: u64,
    /// How many the sweep has that has just begun.
    sweep_began: Option<u64>,
}

/// What is asked next.
enum Next {
    New(Item),
    Again(Box<Pending>),
}

impl FanOut {
    /// Asks every row and passes on every outcome; after a stop, passes on the rest as not run.
    pub(super) async fn run(
        &self,
        mut rows: Rows,
        outcomes: mpsc::Sender<Outcome>,
    ) -> Result<Ended, InputError> {
        let mut in_flight: JoinSet<Called> = JoinSet::new();
        let mut queues = Queues::default();
        let mut ended = None;
        let mut failure = None;
        // An interrupt counts until the last row has ended, not only until it was read.
        while !in_flight.is_empty() || (ended.is_none() && !queues.are_done()) {
            while ended.is_none() && in_flight.len() < self.concurrency {
                match queues.next(in_flight.is_empty(), &self.asking.dispatcher) {
                    Some(Next::New(item)) => {
                        in_flight.spawn(unharmed(item.clone(), Arc::clone(&self.asking).ask(item)));
                    }
                    Some(Next::Again(pending)) => {
                        let item = pending.item().clone();
                        let asked = Arc::clone(&self.asking).ask_again(*pending);
                        in_flight.spawn(unharmed(item, asked));
                    }
                    None => break,
                }
                if let Some(rows) = queues.sweep_began.take() {
                    (self.on_event)(Event::SweepStarted { rows });
                }
            }
            let wants_rows = ended.is_none() && queues.want_rows();
            if in_flight.is_empty() && !wants_rows {
                // Only late ones are left, and there is no use in asking them again.
                break;
            }
            tokio::select! {
                biased;
                () = self.stop.draining(), if ended.is_none() => {
                    (self.on_event)(Event::DrainStarted { in_flight: in_flight.len() as u64 });
                    ended = Some(Ended::Stopped);
                }
                Some(called) = in_flight.join_next() => {
                    let called = called.expect("a row's task neither panics nor is aborted");
                    if let Some(outcome) = queues.take_back(called)
                        && outcomes.send(outcome).await.is_err()
                    {
                        // Nothing more can be stored: what is in flight would be paid for in vain.
                        self.stop.abort();
                        ended = Some(Ended::Stopped);
                    }
                    let usable = self.asking.dispatcher.usable();
                    if ended.is_none() && !usable && !queues.are_done() {
                        ended = Some(Ended::BackendsDown);
                    }
                }
                row = rows.recv(), if wants_rows && in_flight.len() < self.concurrency => {
                    match row {
                        Some(Ok(row)) => queues.new.extend(self.items(row)),
                        Some(Err(error)) => {
                            failure = Some(error);
                            ended = Some(Ended::Stopped);
                        }
                        None => queues.all_read = true,
                    }
                }
            }
        }
        self.give_up(queues, rows, outcomes).await;
        match failure {
            Some(error) => Err(error),
            None => Ok(ended.unwrap_or(Ended::Complete)),
        }
    }

    /// Passes on an outcome for everything that is not asked any more.
    async fn give_up(&self, queues: Queues, mut rows: Rows, outcomes: mpsc::Sender<Outcome>) {
        let put_off = queues.deferred.into_iter().chain(queues.late);
        let put_off = put_off.chain(queues.sweep).map(Pending::given_up);
        let new = queues.new.into_iter().map(Outcome::not_run);
        for outcome in put_off.chain(new) {
            if outcomes.send(outcome).await.is_err() {
                return;
            }
        }
        while let Some(Ok(row)) = rows.recv().await {
            for item in self.items(row) {
                if outcomes.send(Outcome::not_run(item)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Everything that is asked of a row, in the order of the results.
    fn items(&self, row: Row) -> impl Iterator<Item = Item> + use<> {
        let (row, repeat) = (Arc::new(row), self.repeat);
        let entries = 0..self.asking.entries.len() as u32;
        entries.flat_map(move |entry| {
            let row = Arc::clone(&row);
            (0..repeat).map(move |repeat| Item {
                row: Arc::clone(&row),
                entry,
                repeat,
            })
        })
    }
}

impl Queues {
    /// What is asked next. `idle`: nothing is in flight.
    fn next(&mut self, idle: bool, dispatcher: &Dispatcher) -> Option<Next> {
        if self.late.len() >= MAX_PUT_OFF || (idle && self.only_late_ones()) {
            self.start_sweep(dispatcher);
        }
        if let Some(pending) = self.sweep.pop_front() {
            return Some(Next::Again(Box::new(pending)));
        }
        let no_new = self.new.is_empty() && self.all_read;
        if (no_new || self.deferred.len() >= MAX_PUT_OFF)
            && let Some(pending) = self.deferred.pop_front()
        {
            return Some(Next::Again(Box::new(pending)));
        }
        self.new.pop_front().map(Next::New)
    }

    /// Takes the late ones up again, unless that would be in vain: most of those of the last time were,
    /// and failures that pass are not far more common in this run than rows that are left.
    fn start_sweep(&mut self, dispatcher: &Dispatcher) {
        let in_vain = self.answered * 2 < self.swept;
        let in_passing = self.recovered >= RECOVERED_PER_LATE * self.late.len() as u64;
        if !self.sweep.is_empty() || (in_vain && !in_passing) {
            return;
        }
        let (sweep, in_vain) = std::mem::take(&mut self.late)
            .into_iter()
            .partition::<Vec<_>, _>(|pending| dispatcher.may_answer(pending));
        (self.sweep, self.late) = (sweep.into(), in_vain);
        if self.sweep.is_empty() {
            return;
        }
        self.sweep.iter_mut().for_each(Pending::sweep);
        (self.swept, self.answered) = (self.sweep.len() as u64, 0);
        self.sweep_began = Some(self.swept);
    }

    /// What came back: an outcome, or something for later.
    fn take_back(&mut self, called: Called) -> Option<Outcome> {
        match called {
            Called::Ended(outcome) => {
                self.answered += u64::from(outcome.answer.is_some());
                self.recovered += u64::from(outcome.answer.is_some() && outcome.was_failing());
                return Some(outcome);
            }
            Called::Deferred(pending) => self.deferred.push_back(pending),
            // There is no end of them, and asking again was in vain.
            Called::Late(pending) if self.late.len() >= 2 * MAX_PUT_OFF => {
                return Some(pending.given_up());
            }
            Called::Late(pending) => self.late.push(pending),
        }
        None
    }

    fn want_rows(&self) -> bool {
        !self.all_read && self.new.is_empty()
    }

    fn only_late_ones(&self) -> bool {
        self.new.is_empty() && self.all_read && self.deferred.is_empty() && self.sweep.is_empty()
    }

    fn are_done(&self) -> bool {
        self.only_late_ones() && self.late.is_empty()
    }
}

impl Asking {
    /// One item's whole way.
    async fn ask(self: Arc<Self>, item: Item) -> Called {
        let route = match self.entries[item.entry as usize].route(&item.row) {
            Ok(Some(route)) => route,
            Ok(None) => {
                let error = "no rule of the job's `route` matches the row";
                return Called::Ended(Outcome::unsendable(item, error));
            }
            Err(error) => {
                let error = format!("`when` cannot be decided for the row: {error}");
                return Called::Ended(Outcome::unsendable(item, error));
            }
        };
        match render(&self.prompt, &item) {
            Ok(request) => {
                let pending = self.dispatcher.pending(item, request, route);
                self.dispatcher.call(pending).await
            }
            Err(error) => Called::Ended(Outcome::unsendable(item, error)),
        }
    }

    /// The rest of the way of an item that was put off.
    async fn ask_again(self: Arc<Self>, pending: Pending) -> Called {
        self.dispatcher.call(pending).await
    }
}

/// A bug that shows in one item costs that item, not the run.
async fn unharmed(item: Item, asked: impl Future<Output = Called>) -> Called {
    let asked = AssertUnwindSafe(asked).catch_unwind().await;
    asked.unwrap_or_else(|_| {
        let error = "the program failed on this row; please report it";
        Called::Ended(Outcome::unsendable(item, error))
    })
}

/// The request of an item.
fn render(prompt: &[MessageTemplate], item: &Item) -> Result<Request, String> {
    let mut messages = Vec::with_capacity(prompt.len());
    for message in prompt {
        let content = message
            .content
            .render(&item.row)
            .map_err(|error| match error.line {
                Some(line) => format!("the prompt cannot be rendered: {error} (line {line})"),
                None => format!("the prompt cannot be rendered: {error}"),
            })?;
        messages.push(Message {
            role: message.role,
            content,
        });
    }
    if messages
        .iter()
        .all(|message| message.content.trim().is_empty())
    {
        return Err("the rendered prompt is empty".to_owned());
    }
    let mut request = Request::new(messages).with_row(Arc::clone(&item.row));
    request.repeat = item.repeat;
    Ok(request)
}

/// Reads rows on a thread of its own, a bounded number ahead. The thread ends when nobody listens.
pub(super) fn read_ahead(inputs: Arc<Inputs>) -> Rows {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        for row in inputs.rows() {
            if sender.blocking_send(row).is_err() {
                break;
            }
        }
    });
    receiver
}
