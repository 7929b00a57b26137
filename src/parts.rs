//! The parts of a run by themselves, for `benches/parts.rs`; no program should use them.
//!
//! Each takes plain data and does with it what a run does, through the same code.

use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::job::Durability;
use crate::store::{Asked, Closed, Ended, Intent, Journal, Registered, Store, StoreError};
use crate::words::{
    Answer, Attempt, AttemptKind, Columns, Cost, Digest, Item, Outcome, Row, Status, Tariff, Usage,
    Usd,
};

pub use crate::dispatch::parts::Turnstile;
pub use crate::worker::parts::{chat_reply, chat_request};

/// A store that knows its rows, none of which was asked.
pub struct Ledger {
    store: Store,
    rows: u64,
    columns: Arc<Columns>,
    tariff: Arc<Tariff>,
}

impl Ledger {
    /// Makes the store in this directory and registers so many rows.
    pub fn open(dir: &Path, rows: u64, durability: Durability) -> Result<Self, StoreError> {
        let mut ledger = Self {
            store: Store::open(dir, "parts", false, durability)?,
            rows,
            columns: Arc::new(Columns::new(vec!["text".to_owned()])),
            tariff: Tariff::local().into(),
        };
        let columns = Arc::clone(&ledger.columns);
        let all: Vec<Row> = (0..rows).map(|index| ledger.row(index)).collect();
        let mut register = ledger.store.register(&Registered {
            asked: Digest::of(["the job"]),
            columns: &columns,
            entries: vec![Arc::from("a")],
            follow_ups: Vec::new(),
            is_matrix: false,
            repeat: 1,
            tariffs: vec![Arc::clone(&ledger.tariff)],
        })?;
        let asked = |row: &Row| Asked {
            request: Digest::of([&row.cells[0]]),
            answers: Vec::new(),
        };
        for row in &all {
            register.row(row, || asked(row))?;
        }
        register.changes(&columns, |row| asked(row))?;
        register.commit("{}")?;
        Ok(ledger)
    }

    /// Notes down the whole way of every row, so many at a time: what is asked, what came of it, the outcome.
    pub async fn fill(self, in_flight: u64) -> Result<(), StoreError> {
        let items: Vec<Item> = (0..self.rows).map(|index| self.item(index)).collect();
        let writer = self.store.write(|_| {}, || {})?;
        let items: Arc<[Item]> = items.into();
        let mut tasks = JoinSet::new();
        for first in 0..in_flight as usize {
            let (items, journal) = (Arc::clone(&items), writer.journal());
            let tariff = Arc::clone(&self.tariff);
            tasks.spawn(async move {
                for item in items.iter().skip(first).step_by(in_flight as usize) {
                    note(&journal, item, &tariff).await?;
                }
                Ok::<_, Closed>(())
            });
        }
        // A journal that is closed is explained when the writer is finished.
        let _ = tasks.join_all().await;
        writer.finish().map(drop)
    }

    fn row(&self, index: u64) -> Row {
        let text = format!("a text of forty bytes and of number {index}");
        Row {
            index,
            id: format!("rows.csv:{}", index + 1),
            columns: Arc::clone(&self.columns),
            key: Row::key_of_content(Digest::of([&text]), 0),
            cells: vec![text],
        }
    }

    fn item(&self, index: u64) -> Item {
        Item {
            row: Arc::new(self.row(index)),
            entry: 0,
            repeat: 0,
        }
    }
}

/// The way of one item that is answered at once.
async fn note(journal: &Journal, item: &Item, tariff: &Arc<Tariff>) -> Result<(), Closed> {
    let backend: Arc<str> = Arc::from("a");
    let fingerprint = Digest::of([&item.row.cells[0]]);
    let intent = Intent {
        number: 1,
        backend: Arc::clone(&backend),
        kind: AttemptKind::First,
        fingerprint,
        tariff: Some(Arc::clone(tariff)),
        reserved: Cost::Known(Usd::ZERO),
    };
    journal.intend(item, intent.clone()).await?;
    let attempt = Attempt {
        model: Some("gpt-4o-mini".to_owned()),
        request_id: Some("req-1".to_owned()),
        usage: Some(Usage::new(20, 10)),
        tariff: Some(Arc::clone(tariff)),
        cost: Cost::Known(Usd::ZERO),
        ..Attempt::new(1, backend, AttemptKind::First, fingerprint)
    };
    let ended = Ended::of(attempt.clone());
    journal.ended(item, intent, ended).await;
    let outcome = Outcome {
        status: Status::Answered,
        answer: Some(Answer {
            text: "an answer of about forty bytes in length".to_owned(),
            finish_reason: None,
        }),
        attempts: vec![attempt],
        answered_by: Some(0),
        ..Outcome::not_run(item.clone())
    };
    journal.outcome(outcome).await
}
