//! Many items at once: who is next, who is put off, and when it is over.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::follow_up::FollowUps;
use super::summary::Ended;
use crate::dispatch::{Called, Demand, Dispatcher, OnEvent, Pending, Stop};
use crate::job::PromptPlan;
use crate::store::{Closed, Journal, Reader, StoreError, Wanted};
use crate::words::{Columns, Due, Event, Item, Message, Outcome, Request, Status};

/// How many rows are read at once.
pub(super) const READ_AHEAD: usize = 256;
/// How many items may be put off before they go ahead of new ones: memory must not grow with the job.
const MAX_PUT_OFF: usize = 2_000;
/// So many rows must have recovered for each that is left, to believe that its failures pass too.
const RECOVERED_PER_LATE: u64 = 10;

/// How many pages of items are read ahead.
const PAGES_AHEAD: usize = 2;

/// Items as they are read from the store, a page at a time.
#[derive(Debug)]
pub(super) struct Dues {
    pages: mpsc::Receiver<Result<Vec<Due>, StoreError>>,
    page: std::vec::IntoIter<Due>,
}

impl Dues {
    pub(super) fn of(pages: mpsc::Receiver<Result<Vec<Due>, StoreError>>) -> Self {
        Self {
            pages,
            page: Vec::new().into_iter(),
        }
    }

    /// The next one. Nothing is lost when nobody waits for it any more.
    pub(super) async fn next(&mut self) -> Option<Result<Due, StoreError>> {
        loop {
            if let Some(due) = self.page.next() {
                return Some(Ok(due));
            }
            match self.pages.recv().await? {
                Ok(page) => self.page = page.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// What it takes to ask items, many at a time.
pub(super) struct FanOut {
    pub(super) asking: Arc<Asking>,
    pub(super) concurrency: usize,
    pub(super) stop: Stop,
    pub(super) on_event: OnEvent,
}

/// What it takes to ask one item.
pub(super) struct Asking {
    pub(super) prompt: PromptPlan,
    pub(super) demand: Demand,
    pub(super) follow_ups: Arc<FollowUps>,
    pub(super) dispatcher: Dispatcher,
    pub(super) journal: Journal,
}

/// What waits for its turn.
#[derive(Default)]
struct Queues {
    /// Read, and not asked yet.
    new: Option<Due>,
    all_read: bool,
    /// Put off for lack of retries, or because everything fails; asked when nothing is new.
    deferred: VecDeque<Box<Pending>>,
    /// Out of attempts after failures that may pass; asked once more at the end.
    #[expect(clippy::vec_box, reason = "each comes and goes in its box")]
    late: Vec<Box<Pending>>,
    /// Late ones whose turn it is.
    sweep: VecDeque<Box<Pending>>,
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
    New(Box<Due>),
    Again(Box<Pending>),
}

/// What came of asking an item.
enum Came {
    /// It has its outcome, and the store has that.
    Done { answered: bool, recovered: bool },
    /// It is put off.
    Deferred(Box<Pending>),
    /// It may be asked once more at the end.
    Late(Box<Pending>),
    /// Its outcome could not be stored.
    Lost,
}

impl FanOut {
    /// Asks every item. After a stop what was not asked is left as it was.
    pub(super) async fn run(&self, mut dues: Dues) -> Result<Ended, StoreError> {
        let mut in_flight: JoinSet<Came> = JoinSet::new();
        let mut queues = Queues::default();
        let mut ended = None;
        let mut failure = None;
        // Some are got ready while others are asked.
        let most = self.concurrency + self.asking.dispatcher.ahead();
        // An interrupt counts until the last row has ended, not only until it was read.
        while !in_flight.is_empty() || (ended.is_none() && !queues.are_done()) {
            while ended.is_none() && in_flight.len() < most {
                match queues.next(in_flight.is_empty(), &self.asking.dispatcher) {
                    Some(Next::New(due)) => {
                        in_flight.spawn(Arc::clone(&self.asking).new_item(due));
                    }
                    Some(Next::Again(pending)) => {
                        in_flight.spawn(Arc::clone(&self.asking).put_off_item(pending));
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
                    let backends = self.asking.dispatcher.now();
                    (self.on_event)(Event::DrainStarted {
                        in_flight: backends.iter().map(|backend| backend.in_flight).sum(),
                        is_asked_for: self.stop.interrupt().is_some(),
                    });
                    ended = Some(Ended::Stopped);
                }
                Some(came) = in_flight.join_next() => {
                    let came = came.expect("a row's task neither panics nor is aborted");
                    match queues.take_back(came) {
                        Ok(None) => {}
                        Ok(Some(pending)) => {
                            let asking = Arc::clone(&self.asking);
                            in_flight.spawn(async move { asking.store(pending.given_up()).await });
                        }
                        Err(Closed) => {
                            // Nothing more can be stored: what is in flight would be paid for in vain.
                            self.stop.abort();
                            ended = Some(Ended::Stopped);
                        }
                    }
                    let usable = self.asking.dispatcher.usable();
                    if ended.is_none() && !usable && !queues.are_done() {
                        ended = Some(Ended::BackendsDown);
                    }
                }
                due = dues.next(), if wants_rows && in_flight.len() < most => {
                    match due {
                        Some(Ok(due)) => queues.new = Some(due),
                        Some(Err(error)) => {
                            failure = Some(error);
                            ended = Some(Ended::Stopped);
                        }
                        None => queues.all_read = true,
                    }
                }
            }
        }
        self.give_up(queues).await;
        match failure {
            Some(error) => Err(error),
            None => Ok(ended.unwrap_or(Ended::Complete)),
        }
    }

    /// Stores how everything ends that was put off and is not asked any more.
    async fn give_up(&self, queues: Queues) {
        let put_off = queues.deferred.into_iter().chain(queues.late);
        for pending in put_off.chain(queues.sweep) {
            self.asking.store(pending.given_up()).await;
        }
    }
}

impl Queues {
    /// What is asked next. `idle`: nothing is in flight.
    fn next(&mut self, idle: bool, dispatcher: &Dispatcher) -> Option<Next> {
        if self.late.len() >= MAX_PUT_OFF || (idle && self.only_late_ones()) {
            self.start_sweep(dispatcher);
        }
        if let Some(pending) = self.sweep.pop_front() {
            return Some(Next::Again(pending));
        }
        let no_new = self.new.is_none() && self.all_read;
        if (no_new || self.deferred.len() >= MAX_PUT_OFF)
            && let Some(pending) = self.deferred.pop_front()
        {
            return Some(Next::Again(pending));
        }
        self.new.take().map(|due| Next::New(Box::new(due)))
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
        self.sweep.iter_mut().for_each(|pending| pending.sweep());
        (self.swept, self.answered) = (self.sweep.len() as u64, 0);
        self.sweep_began = Some(self.swept);
    }

    /// What came back: an end, or something for later. Returns what is to be given up for good.
    fn take_back(&mut self, came: Came) -> Result<Option<Box<Pending>>, Closed> {
        match came {
            Came::Done {
                answered,
                recovered,
            } => {
                self.answered += u64::from(answered);
                self.recovered += u64::from(recovered);
            }
            Came::Deferred(pending) => self.deferred.push_back(pending),
            // There is no end of them, and asking again was in vain.
            Came::Late(pending) if self.late.len() >= 2 * MAX_PUT_OFF => return Ok(Some(pending)),
            Came::Late(pending) => self.late.push(pending),
            Came::Lost => return Err(Closed),
        }
        Ok(None)
    }

    fn want_rows(&self) -> bool {
        !self.all_read && self.new.is_none()
    }

    fn only_late_ones(&self) -> bool {
        self.new.is_none() && self.all_read && self.deferred.is_empty() && self.sweep.is_empty()
    }

    fn are_done(&self) -> bool {
        self.only_late_ones() && self.late.is_empty()
    }
}

impl Asking {
    /// An item's whole way.
    async fn new_item(self: Arc<Self>, due: Box<Due>) -> Came {
        let item = due.item.clone();
        let called = unharmed(item, self.ask(*due).boxed()).await;
        self.came(called).await
    }

    /// The rest of the way of an item that was put off.
    async fn put_off_item(self: Arc<Self>, pending: Box<Pending>) -> Came {
        let item = pending.item().clone();
        let called = unharmed(item, self.dispatcher.call(pending).boxed()).await;
        self.came(called).await
    }

    async fn ask(&self, due: Due) -> Called {
        let item = due.item.clone();
        let route = match self.follow_ups.entries()[item.entry as usize].route(&item.row) {
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
        let about = due.about.as_deref();
        let about = about.and_then(|answer| self.follow_ups.about(&item, answer));
        let asks = about.unwrap_or_else(|| {
            let request = render(&self.prompt, &item);
            request.map(|request| (request, self.demand.clone()))
        });
        match asks {
            Ok((request, demand)) => {
                let pending = self.dispatcher.pending(due, request, route, demand);
                self.dispatcher.call(pending).await
            }
            Err(error) => Called::Ended(Outcome::unsendable(item, error)),
        }
    }

    /// Stores what came of asking an item, if that is its end.
    async fn came(&self, called: Called) -> Came {
        match called {
            Called::Ended(outcome) => self.store(outcome).await,
            Called::Deferred(pending) => Came::Deferred(pending),
            Called::Late(pending) => Came::Late(pending),
        }
    }

    /// Stores an item's end.
    async fn store(&self, outcome: Outcome) -> Came {
        let answered = outcome.answer.is_some();
        let done = Came::Done {
            answered,
            recovered: answered && outcome.was_failing(),
        };
        // What was never asked is none the wiser for it.
        if outcome.status == Status::NotRun {
            return done;
        }
        match self.journal.outcome(outcome).await {
            Ok(()) => done,
            Err(Closed) => Came::Lost,
        }
    }
}

/// A bug that shows in one item costs that item, not the run. What is asked comes in a box: it is large, and moved about
/// until it is first polled.
async fn unharmed(item: Item, asked: BoxFuture<'_, Called>) -> Called {
    let asked = AssertUnwindSafe(asked).catch_unwind().await;
    asked.unwrap_or_else(|_| {
        let error = "the program failed on this row; please report it";
        Called::Ended(Outcome::unsendable(item, error))
    })
}

/// The request of an item.
pub(super) fn render(prompt: &PromptPlan, item: &Item) -> Result<Request, String> {
    let mut messages = Vec::with_capacity(prompt.messages.len());
    for message in &prompt.messages {
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
    request.schema.clone_from(&prompt.schema);
    Ok(request)
}

/// Reads what is due from the store on a thread of its own, a bounded number ahead. The thread ends when
/// nobody listens.
pub(super) fn read_ahead(reader: Reader, columns: Arc<Columns>, wanted: Wanted) -> Dues {
    read_pages(move |after| reader.due(&columns, after, READ_AHEAD, wanted))
}

/// The same of pages, each of which is given with the place of its last row, and asked for by that of the one before.
pub(super) fn read_pages(
    mut page: impl FnMut(Option<u64>) -> Result<(Vec<Due>, Option<u64>), StoreError> + Send + 'static,
) -> Dues {
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut after = None;
        loop {
            // A page at a time, so that no long read keeps the log from being copied into the database.
            let (dues, last) = match page(after) {
                Ok(page) => page,
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            };
            if !dues.is_empty() && sender.blocking_send(Ok(dues)).is_err() {
                return;
            }
            match last {
                Some(_) => after = last,
                None => return,
            }
        }
    });
    Dues::of(receiver)
}
