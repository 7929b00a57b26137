//! The loop of a run.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::summary::{Ended, ExitCode, RunError, Summary, exit_code};
use crate::dispatch::{Dispatcher, Lane, OnEvent, Stop};
use crate::input::{InputError, Inputs};
use crate::job::{MessageTemplate, Plan};
use crate::output::{Report, Results, publish_report};
use crate::store::{Store, Writer};
use crate::words::{Event, Message, Outcome, Request, Row, Usd};

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
        rows: inputs.count(),
    });
    let writer = {
        let on_event = Arc::clone(&on_event);
        store.write(move |outcome| on_event(finished(outcome)))?
    };
    let dispatcher = Dispatcher::new(lanes, plan.retry, stop.clone(), Arc::clone(&on_event));
    let fan_out = FanOut {
        prompt: plan.prompt.into(),
        dispatcher: Arc::new(dispatcher),
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

    let route = plan.route.iter().map(|position| &plan.backends[*position]);
    let mut report = Report::new(&plan.name, route.map(|backend| backend.name.to_string()));
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
            fan_out.dispatcher.down(),
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

/// What it takes to ask rows, many at a time.
struct FanOut {
    prompt: Arc<[MessageTemplate]>,
    dispatcher: Arc<Dispatcher>,
    concurrency: usize,
    stop: Stop,
    on_event: OnEvent,
}

impl FanOut {
    /// Asks every row and queues every outcome; after a stop, queues the rest as not run.
    async fn run(&self, inputs: Arc<Inputs>, writer: &Writer) -> Result<Ended, InputError> {
        let mut rows = read_ahead(inputs);
        let mut in_flight = JoinSet::new();
        let mut all_read = false;
        let mut ended = None;
        let mut failure = None;
        // An interrupt counts until the last row has ended, not only until it was read.
        while !in_flight.is_empty() || (ended.is_none() && !all_read) {
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
                    if ended.is_none() && !all_read && !self.dispatcher.usable() {
                        ended = Some(Ended::BackendsDown);
                    }
                }
                row = rows.recv(), if ended.is_none() && !all_read && in_flight.len() < self.concurrency => {
                    match row {
                        Some(Ok(row)) => {
                            in_flight.spawn(self.ask(row));
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
        while let Some(Ok(row)) = rows.recv().await {
            if !writer.record(Outcome::not_run(Arc::new(row))).await {
                break;
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(ended.unwrap_or(Ended::Complete)),
        }
    }

    /// One row's whole way, as a task of its own.
    fn ask(&self, row: Row) -> impl Future<Output = Outcome> + Send + 'static {
        let dispatcher = Arc::clone(&self.dispatcher);
        let prompt = Arc::clone(&self.prompt);
        async move {
            let row = Arc::new(row);
            match render(&prompt, &row) {
                Ok(request) => dispatcher.call(row, request).await,
                Err(error) => Outcome::unsendable(row, error),
            }
        }
    }
}

/// The request of a row.
fn render(prompt: &[MessageTemplate], row: &Arc<Row>) -> Result<Request, String> {
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
    Ok(Request::new(messages).with_row(Arc::clone(row)))
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
