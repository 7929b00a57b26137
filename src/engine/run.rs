//! A run from its store to its reports.

use std::sync::Arc;

use super::fan_out::{Asking, FanOut, read_ahead};
use super::summary::{Ended, ExitCode, RunError, Summary, exit_code};
use crate::dispatch::{Dispatcher, OnEvent, Policy, Stop};
use crate::input::Inputs;
use crate::job::Plan;
use crate::output::{Report, Results, publish_report};
use crate::store::Store;
use crate::words::{Event, Outcome, Usd};
use crate::worker::ModelWorker;

/// Runs a plan to its end.
pub(super) async fn run(
    plan: Plan,
    inputs: Inputs,
    workers: Vec<Arc<dyn ModelWorker>>,
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
    let policy = Policy::of(&plan);
    let backends = plan.backends.iter().cloned().zip(workers).collect();
    let dispatcher = Dispatcher::new(backends, policy, stop.clone(), Arc::clone(&on_event));
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
    let rows = read_ahead(Arc::clone(&inputs));
    let asked = fan_out.run(rows, writer.queue()).await;
    let store = writer.finish()?;
    // Whatever went wrong with the input, what was answered is published.
    let (ended, failure) = match asked {
        Ok(ended) => (ended, inputs.changed()),
        Err(error) => (Ended::Stopped, Some(error)),
    };

    let backends = plan.backends.iter();
    let mut report = Report::new(&plan.name, backends.map(|backend| backend.name.to_string()))
        .with_entries(plan.output.entries.iter().cloned())
        .with_seen(fan_out.asking.dispatcher.seen(), &plan.backends);
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

fn finished(outcome: &Outcome) -> Event {
    Event::RowFinished {
        status: outcome.status,
        paid: outcome.paid().unwrap_or(Usd::ZERO),
    }
}
