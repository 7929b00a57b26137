//! The production fan-out and dispatcher on paused time, against scripted backends: seeded, replayable,
//! and exact about what is sent when.

mod ahead;
mod faults;
mod limits;
mod money;
mod order;
mod properties;
mod server;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fan_out::{Asking, Dues, FanOut};
use super::follow_up::FollowUps;
use super::summary::Ended;
use crate::dispatch::{Budget, Demand, Dispatcher, Policy, Stop};
use crate::job::{
    Backend, BackendKind, Entry, FallbackPolicy, Limits, MessageTemplate, OpenAiApi, PromptPlan,
    RetryPolicy, Rule,
};
use crate::store::{Journal, OnDurable, Record};
use crate::template::Template;
use crate::words::{
    BackendSeen, Columns, Digest, Due, Event, Item, Outcome, Provider, Role, Row, Sampling, Status,
    Tariff, Usd,
};
use crate::worker::ModelWorker;

use server::{Rules, Server};

/// A run to be simulated.
struct Job {
    rows: u64,
    concurrency: usize,
    repeat: u32,
    entries: Vec<Vec<usize>>,
    backends: Vec<Backend>,
    servers: Vec<Arc<Server>>,
    retry: RetryPolicy,
    fallback: FallbackPolicy,
    hedge_after: Option<Duration>,
    budget: Option<Arc<Budget>>,
    max_cost_per_row: Option<Usd>,
    stop: Stop,
    /// How long the disk takes for each commit.
    disk: Duration,
}

/// What came of it.
struct Ran {
    outcomes: Vec<Outcome>,
    ended: Ended,
    took: Duration,
    seen: Vec<BackendSeen>,
    events: Vec<Event>,
    usable: bool,
}

impl Job {
    /// So many rows for one backend without limits after the other.
    fn new(rows: u64, rules: impl IntoIterator<Item = Rules>) -> Self {
        let servers: Vec<Arc<Server>> = rules.into_iter().map(Server::new).collect();
        Self {
            rows,
            concurrency: 64,
            repeat: 1,
            entries: vec![(0..servers.len()).collect()],
            backends: (0..servers.len()).map(backend).collect(),
            servers,
            retry: RetryPolicy::default(),
            fallback: FallbackPolicy::default(),
            hedge_after: None,
            budget: None,
            max_cost_per_row: None,
            stop: Stop::new(),
            disk: Duration::ZERO,
        }
    }

    /// With these limits of the first backend.
    fn limits(mut self, limits: Limits) -> Self {
        self.backends[0].limits = limits;
        self
    }

    /// With a first backend that caps its answers at so many tokens and counts like OpenAI.
    fn openai(mut self, max_tokens: u32) -> Self {
        self.backends[0].kind = openai(max_tokens);
        self
    }

    fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    async fn run(self) -> Ran {
        let items = items(self.rows, self.entries.len() as u32, self.repeat);
        let (journal, records) = Journal::new(64);
        let stored = tokio::spawn(store(records, self.disk));
        let (fan_out, mut told) = self.fan_out(journal);
        let began = Instant::now();
        let ended = fan_out.run(read(items.clone())).await.unwrap();
        let took = began.elapsed();
        let dispatcher = &fan_out.asking.dispatcher;
        let (seen, usable) = (dispatcher.seen(), dispatcher.usable());
        drop(fan_out);
        let mut stored = stored.await.unwrap();
        let outcomes = items.into_iter().map(|item| {
            let outcome = stored.remove(&(item.row.index, item.entry, item.repeat));
            outcome.unwrap_or_else(|| Outcome::not_run(item))
        });
        let outcomes = outcomes.collect();
        assert!(stored.is_empty(), "an outcome was stored for nobody");
        Ran {
            outcomes,
            ended,
            took,
            seen,
            usable,
            events: std::iter::from_fn(|| told.try_recv().ok()).collect(),
        }
    }

    /// The live run, and what it will tell.
    fn fan_out(self, journal: Journal) -> (FanOut, mpsc::UnboundedReceiver<Event>) {
        let (events, told) = mpsc::unbounded_channel();
        let workers = self
            .servers
            .iter()
            .map(|server| Arc::clone(server) as Arc<dyn ModelWorker>);
        let policy = Policy {
            retry: self.retry,
            fallback: self.fallback,
            hedge_after: self.hedge_after,
            concurrency: self.concurrency,
            max_cost_per_row: self.max_cost_per_row,
            offline: false,
        };
        let on_event = Arc::new(move |event| {
            let _ = events.send(event);
        });
        let dispatcher = Dispatcher::new(
            self.backends.into_iter().zip(workers).collect(),
            policy,
            self.budget,
            journal.clone(),
            None,
            self.stop.clone(),
            on_event.clone(),
        );
        let entries = self.entries.into_iter().map(|to| Entry {
            name: Arc::from("entry"),
            rules: vec![Rule { when: None, to }],
        });
        let fan_out = FanOut {
            asking: Arc::new(Asking {
                prompt: PromptPlan {
                    messages: vec![MessageTemplate {
                        role: Role::User,
                        content: Template::compile("{{ text }}").unwrap(),
                        place: None,
                    }],
                    schema: None,
                },
                demand: Demand::default(),
                follow_ups: Arc::new(FollowUps::none(entries.collect())),
                dispatcher,
                journal,
            }),
            concurrency: self.concurrency,
            stop: self.stop,
            on_event,
        };
        (fan_out, told)
    }
}

/// Everything that is asked of so many rows, in the order of the results.
fn items(rows: u64, entries: u32, repeat: u32) -> Vec<Item> {
    let columns = Arc::new(Columns::new(vec!["text".to_owned()]));
    let row = |index: u64| {
        let row = Arc::new(Row {
            index,
            id: index.to_string(),
            columns: Arc::clone(&columns),
            cells: vec!["a row of forty bytes, that is ten tokens".to_owned()],
            key: Digest::default(),
        });
        (0..entries).flat_map(move |entry| {
            let row = Arc::clone(&row);
            (0..repeat).map(move |repeat| Item {
                row: Arc::clone(&row),
                entry,
                repeat,
            })
        })
    };
    (0..rows).flat_map(row).collect()
}

/// The items as they come out of a store.
fn read(items: Vec<Item>) -> Dues {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        for item in items {
            if sender.send(Ok(vec![Due::new(item)])).await.is_err() {
                break;
            }
        }
    });
    Dues::of(receiver)
}

/// A store in memory, whose commits take this long; fails if an attempt ends that was not noted down before,
/// or if an item ends twice.
async fn store(
    mut records: mpsc::Receiver<Record>,
    commit: Duration,
) -> HashMap<(u64, u32, u32), Outcome> {
    let key = |item: &Item| (item.row.index, item.entry, item.repeat);
    let (mut outcomes, mut begun) = (HashMap::new(), HashSet::new());
    let mut batch = Vec::new();
    while records.recv_many(&mut batch, 1_000).await > 0 {
        if !commit.is_zero() {
            tokio::time::sleep(commit).await;
        }
        for record in batch.drain(..) {
            match record {
                Record::Intent(item, intent, durable) => {
                    assert!(begun.insert((key(&item), intent.number)), "{intent:?}");
                    let _ = durable.send(());
                }
                Record::Ended(item, intent, end) => {
                    assert!(begun.contains(&(key(&item), intent.number)), "{intent:?}");
                    assert_eq!(end.attempt.number, intent.number);
                    if let Some(call) = end.on_durable {
                        call.call();
                    }
                }
                Record::HeldBack(item, number, on_durable) => {
                    assert!(begun.remove(&(key(&item), number)), "{number}");
                    on_durable.into_iter().for_each(OnDurable::call);
                }
                Record::Outcome(outcome) => {
                    for attempt in &outcome.attempts {
                        assert!(begun.contains(&(key(&outcome.item), attempt.number)));
                    }
                    let twice = outcomes.insert(key(&outcome.item), outcome);
                    assert!(twice.is_none(), "{twice:?}");
                }
            }
        }
    }
    outcomes
}

impl Ran {
    fn with(&self, status: Status) -> usize {
        let with = self.outcomes.iter().filter(|o| o.status == status);
        with.count()
    }

    /// Fails unless every row was answered.
    #[track_caller]
    fn all_answered(&self) {
        let other = self.outcomes.iter().find(|o| o.status != Status::Answered);
        assert!(other.is_none(), "{other:?}");
    }

    fn attempts(&self) -> usize {
        self.outcomes.iter().map(|o| o.attempts.len()).sum()
    }
}

fn backend(position: usize) -> Backend {
    Backend {
        name: Arc::from(["a", "b", "c", "d"][position]),
        kind: BackendKind::Custom,
        timeout: Some(Duration::from_secs(300)),
        limits: Limits::default(),
        tariff: Some(Tariff::local().into()),
        batch: None,
        account: None,
    }
}

fn openai(max_tokens: u32) -> BackendKind {
    BackendKind::OpenAi(OpenAiApi::Chat, server(max_tokens))
}

fn server(max_tokens: u32) -> crate::job::Server {
    let mut sampling = Sampling::defaults(Provider::OpenAi, "gpt-4o-mini");
    sampling.max_tokens = max_tokens;
    crate::job::Server {
        url: "http://localhost".to_owned(),
        model: Some("gpt-4o-mini".to_owned()),
        api_key_env: None,
        sampling,
        timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(5),
        stream: false,
        proxy: None,
    }
}
