//! A run from its store to its reports.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinSet, block_in_place};

use super::command::Program;
use super::fan_out::{Asking, Dues, FanOut, read_ahead};
use super::follow_up::{FollowUps, Round, read_round};
use super::money::{WasteWatch, open_budget};
use super::publish::{Asked, Settings, publish_end};
use super::resume::register;
use super::runner::Options;
use super::status::left_to_score;
use super::summary::{Ended, RunError, Summary};
use crate::dispatch::{Budget, Demand, Dispatcher, OnAttempt, OnEvent, Policy, Rejected, Stop};
use crate::input::Inputs;
use crate::job::{AnswerPlan, CachePlan, Plan, ScorerKind, ScorerPlan};
use crate::output::{published, remove_leftovers};
use crate::store::{
    Cache, Caching, Journal, Reader, Sharing, Store, StoreError, Stored, Wanted, has_store,
    is_remote,
};
use crate::words::{Answer, Event, Outcome, Usd};
use crate::worker::ModelWorker;

/// How often it is told what the backends do.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is done when an outcome is durable.
type OnCommit = Arc<dyn Fn(&Outcome) + Send + Sync>;

/// A run that is about to begin.
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) inputs: Inputs,
    pub(super) options: Options,
    /// The workers of the plan's backends.
    pub(super) workers: Vec<Arc<dyn ModelWorker>>,
    pub(super) stop: Stop,
    pub(super) on_event: OnEvent,
    pub(super) on_attempt: OnAttempt,
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
        if options.frozen {
            self.is_as_before(&store, &settings)?;
        }
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
        self.restate(&mut store, &settings)?;
        let follow_ups = Arc::new(self.follow_ups(&store, &settings)?);
        let budget = match options.offline {
            true => None,
            false => open_budget(plan, &self.inputs, &store, &self.on_event)?,
        };
        (self.on_event)(Event::RunStarted {
            rows: changes.rows(),
            done: changes.unchanged,
        });
        // What another row has is not asked.
        self.share(&mut store, Sharing::Before)?;
        let (store, asked) = match options.offline && plan.cache.is_none() {
            true => {
                self.share(&mut store, Sharing::After)?;
                self.renew(&mut store, &follow_ups)?;
                (store, Asked::default())
            }
            false => self.ask(store, budget, follow_ups).await?,
        };
        aside(|| publish_end(store, &plan.output.dir, settings.ended(asked)))
    }

    /// Reads the answers anew that are there, if the job says something else of answers than it did.
    fn restate(&self, store: &mut Store, settings: &Settings) -> Result<(), RunError> {
        let form = self.plan.answer.as_ref().map(|answer| &answer.form);
        let rule = serde_json::json!(form).to_string();
        let reader = self.plan.answer.as_ref().map(AnswerPlan::reader);
        let check = |answer: &Answer| match &reader {
            Some(reader) => reader.read(&answer.text).map(drop),
            None => Ok(()),
        };
        let changed = store.restate(&rule, settings.marker(None).shape.lines(), &check)?;
        if changed > 0 {
            (self.on_event)(Event::AnswersRestated { rows: changed });
        }
        Ok(())
    }

    /// Finds out that the job says of answers what it said in the run before.
    fn is_as_before(&self, store: &Store, settings: &Settings) -> Result<(), RunError> {
        let dir = &self.plan.output.dir;
        let before = store.reader()?.last_run()?;
        let before = before.map(|run| Settings::read(dir, &run)).transpose()?;
        match before.is_none_or(|before| before.marking == settings.marking) {
            true => Ok(()),
            false => Err(RunError::FrozenRules { dir: dir.clone() }),
        }
    }

    /// What follows upon the answers of the job.
    fn follow_ups(&self, store: &Store, settings: &Settings) -> Result<FollowUps, RunError> {
        let judges = |scorer: &ScorerPlan| matches!(scorer.kind, ScorerKind::Judge(_));
        let mark = self.plan.score.iter().any(judges).then(|| store.mark());
        Ok(FollowUps::of(
            &self.plan,
            settings.marker(mark.transpose()?),
        ))
    }

    /// Sets aside what was said of answers that have changed since, and takes back what was said of those that are back.
    fn renew(&self, store: &mut Store, follow_ups: &FollowUps) -> Result<(), RunError> {
        let shape = &follow_ups.marker.shape;
        if !shape.follow_ups().is_empty() {
            let follows = |all: &[Stored]| follow_ups.all(all);
            store.renew(&self.plan.columns, &follows)?;
        }
        Ok(())
    }

    /// Asks what is due, and what follows upon the answers.
    async fn ask(
        &self,
        store: Store,
        budget: Option<Arc<Budget>>,
        follow_ups: Arc<FollowUps>,
    ) -> Result<(Store, Asked), RunError> {
        let caching = self.open_cache(&store)?;
        let cache = caching.as_ref().map(Caching::cache);
        let asked = self.ask_all(store, budget, cache, &follow_ups).await;
        // Also what was answered before the store failed is an answer.
        if let Some(caching) = caching {
            caching.finish();
        }
        asked
    }

    async fn ask_all(
        &self,
        store: Store,
        budget: Option<Arc<Budget>>,
        cache: Option<Cache>,
        follow_ups: &Arc<FollowUps>,
    ) -> Result<(Store, Asked), RunError> {
        let Self { plan, stop, .. } = self;
        let most = plan.spending.max_waste;
        let waste = WasteWatch::new(most, stop.clone(), Arc::clone(&self.on_event));
        let on_commit: OnCommit = {
            let (on_event, waste) = (Arc::clone(&self.on_event), Arc::clone(&waste));
            let keep = self.keep(cache.clone());
            let main = plan.entries.len();
            Arc::new(move |outcome| {
                keep(outcome);
                on_event(finished(outcome, main));
                waste.see(outcome);
            })
        };
        let dispatcher = self.dispatcher(cache, budget.clone());
        let wanted = Wanted {
            on_unknown: plan.on_unknown,
            once: plan.dedupe,
        };
        let dues = read_ahead(store.reader()?, Arc::clone(&plan.columns), wanted);
        let rows = async |fan_out: &FanOut| fan_out.run(dues).await;
        let phase = self.phase(store, dispatcher, follow_ups, &on_commit, rows);
        let (mut store, mut dispatcher, mut ended) = phase.await?;
        // Before anybody is asked about answers: also those that rows take over have to be there.
        self.share(&mut store, Sharing::After)?;
        self.renew(&mut store, follow_ups)?;
        for round in follow_ups.rounds() {
            if ended != Ended::Complete {
                break;
            }
            let reader = store.reader()?;
            let asks =
                async |fan_out: &FanOut| self.follow_up(fan_out, follow_ups, round, reader).await;
            let phase = self.phase(store, dispatcher, follow_ups, &on_commit, asks);
            (store, dispatcher, ended) = phase.await?;
        }
        let interrupt = stop.interrupt();
        let asked = Asked {
            ended: match ended {
                // Also if that was seen only when nothing was left to ask.
                Ended::Stopped | Ended::Complete if interrupt.is_none() && waste.is_reached() => {
                    Ended::Wasteful
                }
                ended => ended,
            },
            budget_reached: budget.is_some_and(|budget| budget.is_reached()),
            interrupt,
            seen: dispatcher.seen(),
            backends_down: dispatcher.down(),
        };
        Ok((store, asked))
    }

    /// Asks something while the store is written to.
    async fn phase(
        &self,
        store: Store,
        dispatcher: Dispatcher,
        follow_ups: &Arc<FollowUps>,
        on_commit: &OnCommit,
        asks: impl AsyncFnOnce(&FanOut) -> Result<Ended, StoreError>,
    ) -> Result<(Store, Dispatcher, Ended), RunError> {
        let (on_commit, stop) = (Arc::clone(on_commit), self.stop.clone());
        let writer = store.write(move |outcome| on_commit(outcome), move || stop.halt())?;
        let fan_out = FanOut {
            asking: Arc::new(Asking {
                prompt: self.plan.prompt.clone(),
                demand: demand(self.plan.answer.as_ref()),
                follow_ups: Arc::clone(follow_ups),
                dispatcher: dispatcher.with_journal(writer.journal()),
                journal: writer.journal(),
            }),
            concurrency: self.plan.concurrency,
            stop: self.stop.clone(),
            on_event: Arc::clone(&self.on_event),
        };
        // Beside it, so that it costs the rows nothing.
        let mut beside = JoinSet::new();
        let looks = tell_of_backends(Arc::clone(&fan_out.asking), Arc::clone(&self.on_event));
        beside.spawn(looks);
        let ended = asks(&fan_out).await;
        beside.shutdown().await;
        let asking = Arc::into_inner(fan_out.asking);
        let Asking {
            dispatcher,
            journal,
            ..
        } = asking.expect("nothing is in flight any more");
        drop(journal);
        let dispatcher = dispatcher.with_journal(Journal::closed());
        let store = writer.finish()?;
        Ok((store, dispatcher, ended?))
    }

    /// The job's cache, if it has one that can be used.
    fn open_cache(&self, store: &Store) -> Result<Option<Caching>, RunError> {
        let Some(CachePlan { path, .. }) = &self.plan.cache else {
            return Ok(None);
        };
        let look = !self.options.no_cache;
        let tell = Arc::clone(&self.on_event);
        Ok(Caching::open(path, store.mark()?, look, tell))
    }

    /// Adds to the cache what is durable.
    fn keep(&self, cache: Option<Cache>) -> impl Fn(&Outcome) + Send + Sync + 'static {
        let backends = self.plan.backends.iter().filter(|b| b.is_shared());
        let shared: HashSet<Arc<str>> = backends.map(|b| Arc::clone(&b.name)).collect();
        move |outcome| {
            if let (Some(cache), Some(attempt)) = (&cache, outcome.deciding())
                && shared.contains(&attempt.backend)
            {
                cache.keep(outcome);
            }
        }
    }

    /// Gives rows the answers of others that ask the same, if the job wants that.
    fn share(&self, store: &mut Store, sharing: Sharing) -> Result<(), RunError> {
        if self.plan.dedupe {
            let main = self.plan.entries.len();
            let on_shared = |outcome: &Outcome| (self.on_event)(finished(outcome, main));
            store.share(&self.plan.columns, sharing, on_shared)?;
        }
        Ok(())
    }

    /// Asks what follows upon the answers.
    async fn follow_up(
        &self,
        fan_out: &FanOut,
        follow_ups: &Arc<FollowUps>,
        round: Round,
        reader: Reader,
    ) -> Result<Ended, StoreError> {
        let what = match round {
            Round::Escalation => "rows without agreement are escalated".to_owned(),
            Round::Judging => "answers are judged".to_owned(),
            Round::Command(scorer) => {
                format!("answers are scored by {}", self.plan.score[scorer].name)
            }
        };
        let on_event = Arc::clone(&self.on_event);
        let concerned = follow_ups.concerned(round);
        let begins = move |reader: &Reader, follow_ups: &FollowUps| {
            let tally = reader.tally()?;
            let about = left_to_score(&follow_ups.marker.shape, &concerned, &tally);
            let about = (!concerned.is_empty()).then_some(about);
            on_event(Event::FollowUpsStarted { what, about });
            Ok(())
        };
        let dues = read_round(reader, &self.plan, follow_ups, round, begins);
        match round {
            Round::Command(scorer) => {
                let name = &self.plan.score[scorer].name;
                self.score(fan_out, follow_ups.program(scorer), name, dues)
                    .await
            }
            _ => fan_out.run(dues).await,
        }
    }

    /// Has a program score answers. One that fails leaves the others without a score; the run goes on.
    async fn score(
        &self,
        fan_out: &FanOut,
        program: Option<&Program>,
        name: &str,
        mut dues: Dues,
    ) -> Result<Ended, StoreError> {
        let mut running = None;
        let failed = |error: String| {
            (self.on_event)(Event::ScorerFailed {
                scorer: name.to_owned(),
                error,
            });
            Ok(Ended::Complete)
        };
        while let Some(due) = dues.next().await {
            let due = due?;
            if running.is_none() {
                match program.map(|program| program.start(name)) {
                    Some(Ok(started)) => running = Some(started),
                    Some(Err(error)) => return failed(error),
                    None => return Ok(Ended::Complete),
                }
            }
            let Some(running) = &mut running else {
                return Ok(Ended::Complete);
            };
            let said = tokio::select! {
                biased;
                () = self.stop.draining() => return Ok(Ended::Stopped),
                said = running.ask(due) => said,
            };
            match said {
                Ok(outcome) => {
                    if fan_out.asking.journal.outcome(outcome).await.is_err() {
                        return Ok(Ended::Stopped);
                    }
                }
                Err(error) => return failed(error),
            }
        }
        Ok(Ended::Complete)
    }

    fn dispatcher(&self, cache: Option<Cache>, budget: Option<Arc<Budget>>) -> Dispatcher {
        let backends = self.plan.backends.iter().cloned();
        Dispatcher::new(
            backends.zip(self.workers.iter().cloned()).collect(),
            Policy {
                offline: self.options.offline,
                ..Policy::of(&self.plan)
            },
            budget,
            Journal::closed(),
            cache,
            self.stop.clone(),
            Arc::clone(&self.on_event),
        )
        .telling_of_attempts(self.on_attempt.clone())
    }
}

/// Tells what each backend does, again and again.
async fn tell_of_backends(asking: Arc<Asking>, on_event: OnEvent) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        on_event(Event::BackendsSeen(asking.dispatcher.now()));
    }
}

/// Does what takes seconds for a million rows, while the runtime goes on with everything else; on one with a single thread
/// nothing else goes on.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

/// What the job wants of an answer.
fn demand(answer: Option<&AnswerPlan>) -> Demand {
    let Some(answer) = answer else {
        return Demand::default();
    };
    let reader = answer.reader();
    let check = move |text: &str| match reader.read(text) {
        Ok(_) => Ok(()),
        Err(reason) => Err(Rejected {
            demand: reader.demand(&reason),
            reason,
        }),
    };
    Demand {
        check: Some(Arc::new(check)),
        reask: answer.reask,
        judges: false,
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

/// What is told of an outcome that is durable. `main`: how many entries every row is asked of; what has a later one
/// follows upon answers.
fn finished(outcome: &Outcome, main: usize) -> Event {
    let (status, paid) = (outcome.status, outcome.paid().unwrap_or(Usd::ZERO));
    match (outcome.item.entry as usize) < main {
        true => Event::RowFinished { status, paid },
        false => Event::FollowUpFinished { status, paid },
    }
}
