//! Layer 2: the run store. `run.db` in the output directory: what was asked, what came back, what it cost.
//!
//! What this folder promises: an attempt is noted down before it is made ([`Journal::intend`]), and an
//! outcome is on disk before anybody is told of it ([`Journal::outcome`]), so that a run that is killed at
//! any moment goes on where it was. What is stored is found again by what it is, wherever its row stands
//! now ([`Register`]); an answer counts as long as the job asks the same. Results come out in the order of
//! the input with memory that does not grow with their number. One thread writes, and commits together
//! whatever queued while the last commit ran. A failed write is never retried in the hope of success: the
//! writer ends, and the run with it. One process at a time: the lock on the directory is the kernel's and
//! dies with the process. Only `sqlite/` names the database.

mod filesystem;
mod journal;
mod lock;
mod sqlite;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use filesystem::is_remote;
pub use journal::{Closed, Intent, Journal, Record};
pub use sqlite::{Asked, Outside, Register, Registered, Stored};
pub use writer::Writer;

use crate::job::{Durability, OnUnknown};
use crate::words::{Columns, Due, Outcome};

use lock::Lock;
use sqlite::Database;

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
    /// The directory holds the run of another job.
    #[error(
        "{dir} holds the run of another job, `{job}`; write to another directory (`--out`), or set that run \
         aside and start anew with `--fresh`"
    )]
    OtherJob {
        /// The directory.
        dir: PathBuf,
        /// The job's name.
        job: String,
    },
    /// The tables are of another version.
    #[error(
        "{path} was written by another version of this program (its format is {format}, this version's \
         {ours}); go on with that version, or set it aside and start anew with `--fresh`"
    )]
    Format {
        /// The database.
        path: PathBuf,
        /// Its format.
        format: String,
        /// The format that this version reads.
        ours: &'static str,
    },
    /// The pages of the database do not fit together.
    #[error(
        "{path} is damaged: {found}; put a sound copy of it and its `-wal` in its place, or set it aside and \
         start anew with `--fresh`"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it, as SQLite says.
        found: String,
    },
    /// The SQLite that is linked is known to lose data.
    #[error(
        "this program was built with SQLite {version}, which can lose commits; build it with 3.51.3 or newer"
    )]
    OldSqlite {
        /// Its version.
        version: String,
    },
    /// The file system does not let the database write its log ahead.
    #[error(
        "{path} cannot be kept safe where it is: its journal is `{mode}` and not `wal`; write to a local disk"
    )]
    NoLog {
        /// The database.
        path: PathBuf,
        /// The mode that the database fell back to.
        mode: String,
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

/// Whether there is a store in a directory.
pub fn has_store(dir: &Path) -> bool {
    dir.join(sqlite::NAME).exists()
}

impl StoreError {
    fn database(doing: &'static str, path: &Path, source: sqlite::Error) -> Self {
        StoreError::Database {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// The store of a job, held under its directory's lock.
#[derive(Debug)]
pub struct Store {
    database: Database,
    lock: Lock,
}

/// A store that is only read, whoever writes to it.
#[derive(Debug)]
pub struct Reader {
    database: Database,
}

impl Store {
    /// Locks the directory (making it if need be, for this user alone) and opens its store, or makes an
    /// empty one. With `fresh` the store that is there is set aside first, as `run.db.previous`.
    pub fn open(
        dir: &Path,
        job: &str,
        fresh: bool,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let lock = Lock::acquire(dir)?;
        if fresh {
            Database::set_aside(dir)?;
        }
        let database = Database::open(dir, job, durability)?;
        match database.meta("job")? {
            Some(other) if other != job => Err(StoreError::OtherJob {
                dir: dir.to_owned(),
                job: other,
            }),
            _ => Ok(Self { database, lock }),
        }
    }

    /// Opens the store of a directory that has one, under its lock.
    pub fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        // A read finds out whether there is one at all, before anything is made.
        let reader = Reader::open(dir)?;
        drop(reader);
        let lock = Lock::acquire(dir)?;
        let job = Reader::open(dir)?.meta("job")?.unwrap_or_default();
        let database = Database::open(dir, &job, Durability::Full)?;
        Ok(Self { database, lock })
    }

    /// Whether it was there before.
    pub fn existed(&self) -> bool {
        self.database.existed()
    }

    /// Begins to compare the job with what is stored.
    pub fn register(&mut self, job: &Registered<'_>) -> Result<Register<'_>, StoreError> {
        self.database.register(job)
    }

    /// Notes down that a run begins, and what its reports depend on.
    pub fn begin_run(&mut self, settings: &str, rows: u64) -> Result<(), StoreError> {
        self.database.begin_run(settings, rows)
    }

    /// Notes down how the run ended.
    pub fn end_run(&mut self, exit_code: u8, settings: &str) -> Result<(), StoreError> {
        self.database.end_run(exit_code, settings)
    }

    /// Starts the writing thread. `on_commit` is called there for each outcome once it is durable, and
    /// `on_full` when the disk is full: nothing more is to be begun then.
    pub fn write(
        self,
        on_commit: impl Fn(&Outcome) + Send + 'static,
        on_full: impl Fn() + Send + 'static,
    ) -> Result<Writer, StoreError> {
        Writer::start(self.database, self.lock, on_commit, on_full)
    }

    /// The same store on a connection of its own, to be read while it is written to.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Ok(Reader {
            database: self.database.reader()?,
        })
    }

    /// Calls `each` for every item of the job, by row, entry and repeat: also for those that were never
    /// asked.
    pub fn for_each<E: From<StoreError>>(
        &self,
        columns: &Arc<Columns>,
        each: impl FnMut(&Stored) -> Result<(), E>,
    ) -> Result<(), E> {
        self.database.for_each(columns, each)
    }

    /// Calls `each` for every attempt that no line of the results shows.
    pub fn for_each_outside(&self, each: impl FnMut(Outside)) -> Result<(), StoreError> {
        self.database.for_each_outside(each)
    }
}

impl Reader {
    /// Opens the store of a directory.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            database: Database::open_to_read(dir)?,
        })
    }

    /// A fact about the job.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.database.meta(key)
    }

    /// The items that are not done of the next rows after this position, at most so many rows; and the
    /// position of the last one, `None` when there are no more.
    pub fn due(
        &self,
        columns: &Arc<Columns>,
        after: Option<u64>,
        rows: usize,
        on_unknown: OnUnknown,
    ) -> Result<(Vec<Due>, Option<u64>), StoreError> {
        self.database.due(columns, after, rows, on_unknown)
    }
}
