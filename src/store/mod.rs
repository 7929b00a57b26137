//! Layer 2: the run store. `run.db` in the output directory holds every outcome and every attempt.
//!
//! What this folder promises: an outcome that was acknowledged (`on_commit`) is on disk; results come
//! out in row order with memory that does not grow with their number. One thread writes, and commits
//! together whatever queued while the last commit ran; the queue is bounded, so a slow disk slows the
//! run down. A failed write is never retried: the writer ends, and the run with it. One process at a
//! time: the lock on the directory is the kernel's and dies with the process. Only `sqlite.rs` names
//! the database.
//!
//! A run starts with an empty store. The store of the run before is kept as `run.db.previous`.

mod lock;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::words::{Columns, Outcome};

use lock::Lock;
use sqlite::Database;

/// The most outcomes in one transaction.
const MAX_BATCH: usize = 512;
/// The most outcomes that wait for the writer.
const QUEUE: usize = 1024;

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process runs a job in this directory.
    #[error("another runner{holder} holds {dir}")]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Which process, in brackets, where it says so.
        holder: String,
    },
    /// The directory or a file in it cannot be made or opened.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The database failed.
    #[error("cannot {doing} {path}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: sqlite::Error,
    },
    /// The writer's thread ended without saying why.
    #[error("the store's writer panicked")]
    Panicked,
}

/// The store of one run, held under its directory's lock.
#[derive(Debug)]
pub struct Store {
    database: Database,
    lock: Lock,
}

/// The store while a run writes to it.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Outcome>,
    thread: JoinHandle<Result<Database, StoreError>>,
    lock: Lock,
}

impl Store {
    /// Locks the directory (making it if need be, for this user alone) and starts an empty store.
    pub fn create(dir: &Path, job: &str, columns: &Columns) -> Result<Self, StoreError> {
        let lock = Lock::acquire(dir)?;
        let database = Database::create(dir, job, columns)?;
        Ok(Self { database, lock })
    }

    /// Starts the writing thread. `on_commit` is called there for each outcome once it is durable.
    pub fn write(
        self,
        on_commit: impl Fn(&Outcome) + Send + 'static,
    ) -> Result<Writer, StoreError> {
        let (queue, outcomes) = mpsc::channel(QUEUE);
        let path = self.database.path().to_owned();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write(self.database, outcomes, on_commit))
            .map_err(|source| StoreError::Io {
                doing: "start the writer of",
                path,
                source,
            })?;
        Ok(Writer {
            queue,
            thread,
            lock: self.lock,
        })
    }

    /// Calls `each` for every outcome, by row, entry and repeat.
    pub fn for_each<E: From<StoreError>>(
        &self,
        columns: &std::sync::Arc<Columns>,
        each: impl FnMut(&Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        self.database.for_each(columns, each)
    }
}

impl Writer {
    /// Where outcomes are put; full when the disk is slower than the run. It is closed if the writer has
    /// failed: then nothing more can be stored, and [`Writer::finish`] says why.
    pub fn queue(&self) -> mpsc::Sender<Outcome> {
        self.queue.clone()
    }

    /// Waits until everything queued is durable and gives the store back. Every [`Writer::queue`] must be
    /// dropped before.
    pub fn finish(self) -> Result<Store, StoreError> {
        drop(self.queue);
        let database = self.thread.join().map_err(|_| StoreError::Panicked)??;
        Ok(Store {
            database,
            lock: self.lock,
        })
    }
}

fn write(
    mut database: Database,
    mut outcomes: mpsc::Receiver<Outcome>,
    on_commit: impl Fn(&Outcome),
) -> Result<Database, StoreError> {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while outcomes.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        database.insert(&batch)?;
        batch.drain(..).for_each(|outcome| on_commit(&outcome));
    }
    Ok(database)
}
