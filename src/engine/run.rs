//! A run from its store to its reports.

use std::path::Path;
use std::sync::Arc;

use super::fan_out::{Asking, FanOut, read_ahead};
use super::publish::{Asked, Settings, publish_end};
use super::resume::register;
use super::runner::Options;
use super::summary::{RunError, Summary};
use crate::dispatch::{Dispatcher, OnEvent, Policy, Stop};
use crate::input::Inputs;
use crate::job::Plan;
use crate::output::{published, remove_leftovers};
use crate::store::{Store, Writer, has_store, is_remote};
use crate::words::{Changes, Event, Outcome, Usd};
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
        let settings = Settings::of(plan);
        let changes = register(
            &mut store,
            plan,
            &self.inputs,
            options.frozen,
            &self.stop,
            &settings.to_json(),
        )?;
        let Some(changes) = changes else {
            return Err(RunError::Stopped(self.stop.interrupt()));
        };
        (self.on_event)(Event::Planned(changes));
        let (store, asked) = match options.offline {
            true => (store, Asked::default()),
            false => self.ask(store, changes).await?,
        };
        publish_end(store, &plan.output.dir, settings.ended(asked))
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
            interrupt: stop.interrupt(),
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

fn finished(outcome: &Outcome) -> Event {
    Event::RowFinished {
        status: outcome.status,
        paid: outcome.paid().unwrap_or(Usd::ZERO),
    }
}
