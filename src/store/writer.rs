//! The one thread that writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::files::ignore_missing;
use super::journal::{Journal, OnDurable, Record};
use super::lock::Lock;
use super::sqlite::{Database, is_full};
use super::{Store, StoreError};
use crate::words::{ErrorClass, Outcome};

/// The most records in one transaction.
const MAX_BATCH: usize = 1024;
/// The most records that wait for the writer. What waits is bounded by the run's concurrency too: no attempt is made
/// before what its row and those before it had to say is durable.
const QUEUE: usize = 4096;
/// How long is waited for more records while many requests are on their way, and how often at most: a commit costs the
/// same for one as for fifty.
const NAP: Duration = Duration::from_micros(300);
const NAPS: usize = 5;
/// One record for so many requests on their way is worth a commit.
const ENOUGH: usize = 4;
/// So many requests on their way are many: there a row is not held up for others in vain.
const MANY: usize = 32;
/// What is kept free for the answers that are on their way when the disk is full; less where there is less.
const RESERVES: [usize; 3] = [1 << 20, 1 << 18, 1 << 16];
const RESERVE_NAME: &str = "run.reserve";

/// The store while a run writes to it.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    /// It holds the lock: whoever forgets the run does not stop what is being written.
    thread: JoinHandle<(Result<Database, StoreError>, Lock)>,
}

impl Writer {
    pub(super) fn start(
        database: Database,
        lock: Lock,
        on_commit: impl Fn(&Outcome) + Send + 'static,
        on_full: impl Fn() + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (journal, mut records) = Journal::new(QUEUE);
        let path = database.path().to_owned();
        let reserve = Reserve::take(&path);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let written = write(database, &mut records, reserve, &on_commit, &on_full);
                // Also who is just about to wait for a record must hear that it is not stored.
                records.close();
                while records.blocking_recv().is_some() {}
                (written, lock)
            })
            .map_err(|source| StoreError::Io {
                doing: "start the writer of",
                path,
                source,
            })?;
        Ok(Self { journal, thread })
    }

    /// Where records are put. It is closed if the writer has failed: then nothing more can be stored, and
    /// [`Writer::finish`] says why.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Waits until everything queued is durable and gives the store back. Every [`Writer::journal`] must be
    /// dropped before.
    pub fn finish(self) -> Result<Store, StoreError> {
        drop(self.journal);
        let (database, lock) = self.thread.join().map_err(|_| StoreError::Panicked)?;
        Ok(Store {
            database: database?,
            lock,
        })
    }
}

fn write(
    mut database: Database,
    records: &mut mpsc::Receiver<Record>,
    reserve: Reserve,
    on_commit: &dyn Fn(&Outcome),
    on_full: &dyn Fn(),
) -> Result<Database, StoreError> {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    let mut answered = Answered::default();
    while records.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        gather(records, &mut batch, answered.on_the_way);
        let mut now = answered.hold_back(batch.drain(..));
        if let Err(error) = database.write(&now) {
            if !is_full(&error) {
                return Err(error);
            }
            on_full();
            // On a connection of its own and into room that was not there before: this is no retry in the
            // hope of success.
            drop(reserve);
            now.extend(answered.rest());
            write_the_rest(database.reopened()?, records, now, on_commit)?;
            return Err(error);
        }
        now.drain(..)
            .for_each(|record| acknowledge(record, on_commit));
    }
    let rest = answered.rest();
    database.write(&rest)?;
    rest.into_iter()
        .for_each(|record| acknowledge(record, on_commit));
    Ok(database)
}

/// Takes what comes in a moment too, until that is a good part of what could come.
fn gather(records: &mut mpsc::Receiver<Record>, batch: &mut Vec<Record>, on_the_way: usize) {
    let enough = on_the_way.min(MAX_BATCH) / ENOUGH;
    for _ in 0..NAPS {
        if on_the_way < MANY || batch.len() >= enough {
            return;
        }
        std::thread::sleep(NAP);
        while batch.len() < MAX_BATCH
            && let Ok(record) = records.try_recv()
        {
            batch.push(record);
        }
    }
}

/// Ends of attempts that brought an answer, at most one for each row in flight (and its hedge). Each is stored
/// with whatever comes next of its item, which is its outcome as a rule: else a run that is killed between the two
/// has paid for an answer that the next one cannot find, and shows the row as asked and paid for twice.
#[derive(Default)]
struct Answered {
    ends: HashMap<(u64, u32, u32), Vec<Record>>,
    /// How many attempts were begun and have not ended.
    on_the_way: usize,
}

impl Answered {
    /// The records that are to be stored now, in an order in which they may be.
    fn hold_back(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<Record> {
        let mut now = Vec::new();
        for record in records {
            let item = record.item();
            let key = (item.row.index, item.entry, item.repeat);
            match &record {
                Record::Intent(..) => self.on_the_way += 1,
                Record::Ended(..) | Record::HeldBack(..) => {
                    self.on_the_way = self.on_the_way.saturating_sub(1);
                }
                Record::Outcome(..) => {}
            }
            match &record {
                Record::Ended(_, _, end) if end.with_next => {
                    self.ends.entry(key).or_default().push(record);
                }
                _ => {
                    now.extend(self.ends.remove(&key).into_iter().flatten());
                    now.push(record);
                }
            }
        }
        now
    }

    /// Those whose item has come to no end.
    fn rest(self) -> Vec<Record> {
        self.ends.into_values().flatten().collect()
    }
}

/// Stores what was on its way when the disk was full, as far as the room goes that was kept for it.
/// No further attempt begins.
fn write_the_rest(
    mut database: Database,
    records: &mut mpsc::Receiver<Record>,
    mut batch: Vec<Record>,
    on_commit: &dyn Fn(&Outcome),
) -> Result<(), StoreError> {
    loop {
        // Whoever waits for an intent is told that it came to nothing, and what becomes of its row for that reason
        // is no end of it: the next run asks it.
        let (kept, left): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .filter(|record| !matches!(record, Record::Intent(..)))
            .partition(is_kept_when_full);
        database.write(&kept)?;
        for record in kept.into_iter().chain(left) {
            acknowledge(record, on_commit);
        }
        if records.blocking_recv_many(&mut batch, MAX_BATCH) == 0 {
            return Ok(());
        }
    }
}

/// Whether a record is worth the last room on the disk: what was answered, and what it cost.
fn is_kept_when_full(record: &Record) -> bool {
    match record {
        Record::Intent(..) => false,
        // Else it would count as one that may have been billed.
        Record::HeldBack(..) => true,
        Record::Ended(_, _, end) => end.attempt.class != Some(ErrorClass::Cancelled),
        Record::Outcome(outcome) => outcome.status.is_final(),
    }
}

fn acknowledge(record: Record, on_commit: &dyn Fn(&Outcome)) {
    // Nobody may be waiting any more: that is no reason to undo anything.
    match record {
        Record::Intent(_, _, durable) => {
            let _ = durable.send(());
        }
        Record::Ended(_, _, end) => end.on_durable.into_iter().for_each(OnDurable::call),
        Record::HeldBack(_, _, on_durable) => on_durable.into_iter().for_each(OnDurable::call),
        Record::Outcome(outcome) => on_commit(&outcome),
    }
}

/// A file that takes up room until it is needed.
struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Takes the room beside the database. Where there is none there is nothing to be kept.
    fn take(database: &Path) -> Self {
        let path = database.with_file_name(RESERVE_NAME);
        let written = |bytes: usize| -> std::io::Result<()> {
            ignore_missing(std::fs::remove_file(&path))?;
            let mut options = File::options();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&path)?.write_all(&vec![0; bytes])
        };
        for bytes in RESERVES {
            match written(bytes) {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, bytes, "no such room is kept free for answers on their way");
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
        Self { path }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
