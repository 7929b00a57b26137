//! The production fan-out and dispatcher on paused time, against scripted backends: seeded, replayable,
//! and exact about what is sent when.

mod faults;
mod limits;
mod order;
mod properties;
mod server;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fan_out::{Asking, FanOut, Rows};
use super::summary::Ended;
use crate::dispatch::{Dispatcher, Policy, Stop};
use crate::job::{
    Backend, BackendKind, Entry, FallbackPolicy, Limits, MessageTemplate, OpenAiApi, RetryPolicy,
    Rule,
};
use crate::template::Template;
use crate::words::{
    BackendSeen, Columns, Digest, Event, Outcome, Price, Provider, Role, Row, Sampling, Status,
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
    stop: Stop,
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
            stop: Stop::new(),
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
        let rows = self.rows;
        let (fan_out, mut told) = self.fan_out();
        let (outcomes, mut ended_rows) = mpsc::channel(64);
        let collected = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(outcome) = ended_rows.recv().await {
                all.push(outcome);
            }
            all
        });
        let began = Instant::now();
        let ended = fan_out.run(read(rows), outcomes).await.unwrap();
        let took = began.elapsed();
        let mut outcomes: Vec<Outcome> = collected.await.unwrap();
        outcomes.sort_by_key(|outcome| {
            let item = &outcome.item;
            (item.row.index, item.entry, item.repeat)
        });
        let dispatcher = &fan_out.asking.dispatcher;
        Ran {
            outcomes,
            ended,
            took,
            seen: dispatcher.seen(),
            usable: dispatcher.usable(),
            events: std::iter::from_fn(|| told.try_recv().ok()).collect(),
        }
    }

    /// The live run, and what it will tell.
    fn fan_out(self) -> (FanOut, mpsc::UnboundedReceiver<Event>) {
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
        };
        let on_event = Arc::new(move |event| {
            let _ = events.send(event);
        });
        let dispatcher = Dispatcher::new(
            self.backends.into_iter().zip(workers).collect(),
            policy,
            self.stop.clone(),
            on_event.clone(),
        );
        let entries = self.entries.into_iter().map(|to| Entry {
            name: Arc::from("entry"),
            rules: vec![Rule { when: None, to }],
        });
        let fan_out = FanOut {
            asking: Arc::new(Asking {
                prompt: vec![MessageTemplate {
                    role: Role::User,
                    content: Template::compile("{{ text }}").unwrap(),
                }],
                entries: entries.collect(),
                dispatcher,
            }),
            repeat: self.repeat,
            concurrency: self.concurrency,
            stop: self.stop,
            on_event,
        };
        (fan_out, told)
    }
}

/// So many rows.
fn read(rows: u64) -> Rows {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let columns = Arc::new(Columns::new(vec!["text".to_owned()]));
        for index in 0..rows {
            let row = Row {
                index,
                id: index.to_string(),
                columns: Arc::clone(&columns),
                cells: vec!["a row of forty bytes, that is ten tokens".to_owned()],
                key: Digest::default(),
            };
            if sender.send(Ok(row)).await.is_err() {
                break;
            }
        }
    });
    receiver
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
        price: Some(Price::FREE),
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
        proxy: None,
    }
}
