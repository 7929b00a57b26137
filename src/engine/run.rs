//! The loop of a run.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::summary::{Ended, ExitCode, RunError, Summary, exit_code};
use crate::dispatch::{Dispatcher, Lane, OnEvent, Policy, Stop};
use crate::input::{InputError, Inputs};
use crate::job::{Entry, MessageTemplate, Plan};
use crate::output::{Report, Results, publish_report};
use crate::store::{Store, Writer};
use crate::words::{Event, Item, Message, Outcome, Request, Row, Usd};

/// How many rows are read ahead.
const READ_AHEAD: usize = 256;

/// Runs a plan to its end.
pub(super) async fn run(
    plan: Plan,
    inputs: Inputs,
    lanes: Vec<Lane>,
    stop: Stop,
    on_event: OnEvent,
) -> Result<Summary, RunError> {
    let store = Store::create(&plan.output.dir, &plan.name, &plan.columns)?;
    on_event(Event::RunStarted {
        rows: inputs.count() * plan.entries.len() as u64 * u64::from(plan.repeat),
    });
    let writer = {
        let on_event = Arc::clone(&on_event);
        store.write(move |outcome| on_event(finished(outcome)))?
    };
    let dispatcher = Dispatcher::new(
        lanes,
        Policy::of(&plan),
        stop.clone(),
        Arc::clone(&on_event),
    );
    let fan_out = FanOut {
        asking: Arc::new(Asking {
            prompt: plan.prompt,
            entries: plan.entries,
            dispatcher,
        }),
        repeat: plan.repeat,
        concurrency: plan.concurrency,
        stop,
        on_event,
    };
    let inputs = Arc::new(inputs);
    let asked = fan_out.run(Arc::clone(&inputs), &writer).await;
    let store = writer.finish()?;
    // Whatever went wrong with the input, what was answered is published.
    let (ended, failure) = match asked {
        Ok(ended) => (ended, inputs.changed()),
        Err(error) => (Ended::Stopped, Some(error)),
    };

    let backends = plan.backends.iter();
    let mut report = Report::new(&plan.name, backends.map(|backend| backend.name.to_string()));
    let mut results = Results::create(&plan.output, &plan.columns)?;
    store.for_each(&plan.columns, |outcome| {
        report.add(outcome);
        results.write(outcome).map_err(RunError::from)
    })?;
    let exit_code = match failure {
        Some(_) => ExitCode::Unexpected,
        None => exit_code(
            ended,
            fan_out.stop.interrupt(),
            &report,
            plan.max_failures,
            fan_out.asking.dispatcher.down(),
        ),
    };
    let mut files = results.publish()?;
    files.extend(publish_report(&plan.output.dir, &report, exit_code.code())?);
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(Summary {
            report,
            ended,
            exit_code,
            files,
        }),
    }
}

/// What it takes to ask one item.
struct Asking {
    prompt: Vec<MessageTemplate>,
    entries: Vec<Entry>,
    dispatcher: Dispatcher,
}

/// What it takes to ask rows, many at a time.
struct FanOut {
    asking: Arc<Asking>,
    repeat: u32,
    concurrency: usize,
    stop: Stop,
    on_event: OnEvent,
}

impl FanOut {
    /// Asks every row and queues every outcome; after a stop, queues the rest as not run.
    async fn run(&self, inputs: Arc<Inputs>, writer: &Writer) -> Result<Ended, InputError> {
        let mut rows = read_ahead(inputs);
        let mut in_flight = JoinSet::new();
        let mut next = VecDeque::new();
        let mut all_read = false;
        let mut ended = None;
        let mut failure = None;
        // An interrupt counts until the last row has ended, not only until it was read.
        while !in_flight.is_empty() || (ended.is_none() && !(all_read && next.is_empty())) {
            while ended.is_none() && in_flight.len() < self.concurrency {
                let Some(item) = next.pop_front() else { break };
                in_flight.spawn(Arc::clone(&self.asking).ask(item));
            }
            tokio::select! {
                biased;
                () = self.stop.draining(), if ended.is_none() => {
                    (self.on_event)(Event::DrainStarted { in_flight: in_flight.len() as u64 });
                    ended = Some(Ended::Stopped);
                }
                Some(outcome) = in_flight.join_next() => {
                    let outcome = outcome.expect("a row's task neither panics nor is aborted");
                    if !writer.record(outcome).await {
                        // Nothing more can be stored: what is in flight would be paid for in vain.
                        self.stop.abort();
                        ended = Some(Ended::Stopped);
                    }
                    if ended.is_none() && !self.asking.dispatcher.usable() && !(all_read && next.is_empty()) {
                        ended = Some(Ended::BackendsDown);
                    }
                }
                row = rows.recv(), if ended.is_none() && !all_read && next.is_empty() && in_flight.len() < self.concurrency => {
                    match row {
                        Some(Ok(row)) => {
                            next.extend(self.items(row));
                        }
                        Some(Err(error)) => {
                            failure = Some(error);
                            ended = Some(Ended::Stopped);
                        }
                        None => all_read = true,
                    }
                }
            }
        }
        loop {
            for item in next.drain(..) {
                if !writer.record(Outcome::not_run(item)).await {
                    break;
                }
            }
            match rows.recv().await {
                Some(Ok(row)) => next.extend(self.items(row)),
                _ => break,
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(ended.unwrap_or(Ended::Complete)),
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

impl Asking {
    /// One item's whole way.
    async fn ask(self: Arc<Self>, item: Item) -> Outcome {
        let route = match self.entries[item.entry as usize].route(&item.row) {
            Ok(Some(route)) => route,
            Ok(None) => return Outcome::unsendable(item, "no `route` matches the row"),
            Err(error) => {
                let error = format!("`when` cannot be decided for the row: {error}");
                return Outcome::unsendable(item, error);
            }
        };
        match render(&self.prompt, &item) {
            Ok(request) => self.dispatcher.call(item, request, route).await,
            Err(error) => Outcome::unsendable(item, error),
        }
    }
}

/// The request of a row.
fn render(prompt: &[MessageTemplate], item: &Item) -> Result<Request, String> {
    let row = &item.row;
    let mut messages = Vec::with_capacity(prompt.len());
    for message in prompt {
        let content = message
            .content
            .render(row)
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
    let mut request = Request::new(messages).with_row(Arc::clone(row));
    request.repeat = item.repeat;
    Ok(request)
}

/// Reads rows on a thread of its own, a bounded number ahead. The thread ends when nobody listens.
fn read_ahead(inputs: Arc<Inputs>) -> mpsc::Receiver<Result<Row, InputError>> {
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

fn finished(outcome: &Outcome) -> Event {
    Event::RowFinished {
        status: outcome.status,
        paid: outcome.paid().unwrap_or(Usd::ZERO),
    }
}
