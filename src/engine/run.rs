//! A run from its store to its reports.

use std::path::Path;
use std::sync::Arc;

use super::fan_out::{Asking, FanOut, read_ahead};
use super::resume::register;
use super::runner::Options;
use super::summary::{Ended, RunError, Summary, exit_code};
use crate::dispatch::{Dispatcher, OnEvent, Policy, Stop};
use crate::input::Inputs;
use crate::job::Plan;
use crate::output::{Report, Results, publish_report, published, remove_leftovers};
use crate::store::{Store, Writer, has_store, is_remote};
use crate::words::{BackendSeen, Changes, Event, Outcome, Usd};
use crate::worker::ModelWorker;

/// A run that is about to begin.
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) inputs: Inputs,
    pub(super) options: Options,
    /// The workers of the plan's backends; none of an offline run.
    pub(super) workers: Vec<Arc<dyn ModelWorker>>,
    pub(super) stop: Stop,
    pub(super) on_event: OnEvent,
}

/// What asking came to.
struct Asked {
    ended: Ended,
    seen: Vec<BackendSeen>,
    backends_down: bool,
}

impl Run {
    /// Runs it to its end.
    pub(super) async fn run(self) -> Result<Summary, RunError> {
        let Self { plan, options, .. } = &self;
        if !options.fresh {
            spare_results(&plan.output.dir)?;
        }
        let mut store = Store::open(&plan.output.dir, &plan.name, options.fresh, plan.durability)?;
        if let Some(filesystem) = is_remote(&plan.output.dir) {
            (self.on_event)(Event::DirectoryIsRemote { filesystem });
        }
        remove_leftovers(&plan.output.dir);
        let changes = register(&mut store, plan, &self.inputs, options.frozen, &self.stop)?;
        let Some(changes) = changes else {
            return Err(RunError::Stopped(self.stop.interrupt()));
        };
        (self.on_event)(Event::Planned(changes));
        store.begin_run("{}", changes.rows())?;
        let (store, asked) = match options.offline {
            true => (store, Asked::nothing()),
            false => self.ask(store, changes).await?,
        };
        self.publish(store, asked)
    }

    /// Asks what is due.
    async fn ask(&self, store: Store, changes: Changes) -> Result<(Store, Asked), RunError> {
        let Self { plan, stop, .. } = self;
        (self.on_event)(Event::RunStarted {
            rows: changes.rows(),
            done: changes.unchanged,
        });
        let reader = store.reader()?;
        let writer = {
            let (on_event, stop) = (Arc::clone(&self.on_event), stop.clone());
            store.write(
                move |outcome| on_event(finished(outcome)),
                move || stop.halt(),
            )?
        };
        let fan_out = self.fan_out(&writer);
        let dues = read_ahead(reader, Arc::clone(&plan.columns), plan.on_unknown);
        let ended = fan_out.run(dues).await;
        let dispatcher = &fan_out.asking.dispatcher;
        let (seen, backends_down) = (dispatcher.seen(), dispatcher.down());
        drop(fan_out);
        let store = writer.finish()?;
        let asked = Asked {
            ended: ended?,
            seen,
            backends_down,
        };
        Ok((store, asked))
    }

    fn fan_out(&self, writer: &Writer) -> FanOut {
        let Self {
            plan,
            stop,
            on_event,
            ..
        } = self;
        let backends = plan.backends.iter().cloned();
        let dispatcher = Dispatcher::new(
            backends.zip(self.workers.iter().cloned()).collect(),
            Policy::of(plan),
            writer.journal(),
            stop.clone(),
            Arc::clone(on_event),
        );
        FanOut {
            asking: Arc::new(Asking {
                prompt: plan.prompt.clone(),
                entries: plan.entries.clone(),
                dispatcher,
                journal: writer.journal(),
            }),
            concurrency: plan.concurrency,
            stop: stop.clone(),
            on_event: Arc::clone(on_event),
        }
    }

    /// Writes results and reports from the store.
    fn publish(&self, mut store: Store, asked: Asked) -> Result<Summary, RunError> {
        let plan = &self.plan;
        let backends = plan.backends.iter();
        let mut report = Report::new(&plan.name, backends.map(|backend| backend.name.to_string()))
            .with_entries(plan.output.entries.iter().cloned())
            .with_seen(asked.seen, &plan.backends);
        let mut results = Results::create(&plan.output, &plan.columns)?;
        store.for_each(&plan.columns, |stored| {
            report.add(&stored.outcome);
            stored
                .interrupted
                .iter()
                .for_each(|attempt| report.add_interrupted(attempt));
            results.write(&stored.outcome).map_err(RunError::from)
        })?;
        store.for_each_outside(|outside| report.add_outside(&outside.attempt, outside.ended))?;
        let exit_code = exit_code(
            asked.ended,
            self.stop.interrupt(),
            &report,
            plan.max_failures,
            asked.backends_down,
        );
        let mut files = results.publish()?;
        files.extend(publish_report(&plan.output.dir, &report, exit_code.code())?);
        store.end_run(exit_code.code(), "{}")?;
        Ok(Summary {
            report,
            ended: asked.ended,
            exit_code,
            files,
        })
    }
}

/// Finds results that no run of this program can go on from: somebody else's.
fn spare_results(dir: &Path) -> Result<(), RunError> {
    if has_store(dir) {
        return Ok(());
    }
    match published(dir) {
        Some(path) => Err(RunError::ForeignResults { path }),
        None => Ok(()),
    }
}

impl Asked {
    /// Of a run that asks nobody.
    fn nothing() -> Self {
        Self {
            ended: Ended::Complete,
            seen: Vec::new(),
            backends_down: false,
        }
    }
}

fn finished(outcome: &Outcome) -> Event {
    Event::RowFinished {
        status: outcome.status,
        paid: outcome.paid().unwrap_or(Usd::ZERO),
    }
}
