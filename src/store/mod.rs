//! Layer 2: the run store. `run.db` in the output directory: what was asked, what came back, what it cost.
//!
//! What this folder promises: an attempt is noted down before it is made ([`Journal::intend`]), and an
//! outcome is on disk before anybody is told of it ([`Journal::outcome`]), so that a run that is killed at
//! any moment goes on where it was. What is stored is found again by what it is, wherever its row stands
//! now ([`Register`]); an answer counts as long as the job asks the same. Results come out in the order of
//! the input with memory that does not grow with their number. One thread writes, and commits together
//! whatever queued while the last commit ran. A failed write is never retried in the hope of success: the
//! writer ends, and the run with it. One process at a time: the lock on the directory is the kernel's and
//! dies with the process. The [`Cache`] of answers that jobs share only spares requests: without it a run is as
//! whole. Only `sqlite/` names the database.

mod cache;
mod files;
mod filesystem;
mod journal;
mod lock;
mod sqlite;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::mem::take;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

pub use cache::{Cache, Caching, Glance};
pub use filesystem::is_remote;
#[cfg(test)]
pub use journal::Record;
pub use journal::{Closed, Ended, Intent, Journal, OnDurable};
pub use lock::Holder;
pub use sqlite::{
    Asked, BackendTally, FollowUp, Ledger, Outside, RULES, Register, Registered, Rule, RunLine,
    Sharing, Standing, Stored, Table, Tally, Wanted,
};
pub use writer::Writer;

use crate::job::{Durability, OnUnknown};
use crate::words::{Answer, Columns, Due, Outcome};

use lock::Lock;
use sqlite::Database;

/// Why there is no run to be read in a directory.
fn no_run(dir: &Path) -> String {
    let shown = dir.display();
    let wanted = "what a job wrote to is its `output.dir`, by default runs/<its name>";
    match std::fs::metadata(dir) {
        Err(_) => format!("there is no directory {shown}; {wanted}"),
        Ok(metadata) if !metadata.is_dir() => format!("{shown} is a file; {wanted}"),
        Ok(_) => {
            format!("{shown} holds no run: there is no run.db in it, or nothing in that; {wanted}")
        }
    }
}

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
    /// The directory holds no run.
    #[error("{}", no_run(dir))]
    NoRun {
        /// The directory.
        dir: PathBuf,
    },
    /// The database is somebody else's.
    #[error(
        "{path} is no run store: it has other tables; move it away, or write to another directory"
    )]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The database, or a line in it, is not as it was written.
    #[error(
        "{path} is damaged: {why}; docs/store.md says what can be saved, `--fresh` sets it aside"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// What was written last is still in the log, and nothing can be written to take it over.
    #[error(
        "{path} cannot be read here: its last lines are still in {path}-wal, and the directory cannot be \
         written to; copy all of it to where it can, and look there"
    )]
    Unsettled {
        /// The database.
        path: PathBuf,
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
    /// What the run's files are made from cannot be read.
    #[error(
        "{path} does not say what the files of its last run are made from; run the same command again, which \
         writes them"
    )]
    Settings {
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
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
        let path = path.to_owned();
        match sqlite::is_damage(&source) {
            true => StoreError::Damaged {
                path,
                why: sqlite::plain(&source),
            },
            false => StoreError::Database {
                doing,
                path,
                source,
            },
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
    /// Held where nobody else may write meanwhile.
    _lock: Option<Lock>,
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
        database.is_of(job)?;
        Ok(Self { database, lock })
    }

    /// Opens the store of a directory that has one, under its lock, to go on with its last run; `None` if it has
    /// no run yet.
    pub fn open_existing(dir: &Path) -> Result<Option<(Self, RunLine)>, StoreError> {
        // Whether there is one at all is found out before anything is made.
        drop(Reader::open(dir)?);
        let lock = Lock::acquire(dir)?;
        let mut database = Database::open(dir, "", Durability::Full)?;
        let Some(run) = database.last_run()? else {
            return Ok(None);
        };
        database.go_on_with(&run);
        Ok(Some((Self { database, lock }, run)))
    }

    /// What tells the answers of this store from those of others in a cache: made up once, and kept.
    pub fn mark(&self) -> Result<i64, StoreError> {
        self.database.mark()
    }

    /// Begins to compare the job with what is stored.
    pub fn register(&mut self, job: &Registered<'_>) -> Result<Register<'_>, StoreError> {
        self.database.register(job)
    }

    /// Notes down what the run's files are made from besides the lines.
    pub fn set_settings(&mut self, settings: &str) -> Result<(), StoreError> {
        self.database.set_settings(settings)
    }

    /// Notes down how the run ended.
    pub fn end_run(&mut self, exit_code: u8) -> Result<(), StoreError> {
        self.database.end_run(exit_code)
    }

    /// Notes down whether the files that are there are those of the run.
    pub fn set_published(&mut self, are: bool) -> Result<(), StoreError> {
        self.database.set_published(are)
    }

    /// Finds out of every answer anew whether it is a valid one, of as many entries as have lines in the results. `check`
    /// says why it is none, by this rule; nothing is done if that is the rule of the last time. Returns how many are
    /// something else now.
    pub fn restate(
        &mut self,
        rule: &str,
        entries: usize,
        check: &dyn Fn(&Answer) -> Result<(), String>,
    ) -> Result<u64, StoreError> {
        self.database.restate(rule, entries, check)
    }

    /// Sets aside what followed upon answers that it does not belong to any more, and takes back what does again. `follows`:
    /// what may follow upon the answers to a row.
    pub fn renew(
        &mut self,
        columns: &Arc<Columns>,
        follows: &dyn Fn(&[Stored]) -> Vec<FollowUp>,
    ) -> Result<(), StoreError> {
        self.database.renew(columns, follows)
    }

    /// Gives rows what others have that ask the same. `on_shared` is called for each outcome once it is durable.
    pub fn share(
        &mut self,
        columns: &Arc<Columns>,
        sharing: Sharing,
        on_shared: impl FnMut(&Outcome),
    ) -> Result<(), StoreError> {
        self.database.share(columns, sharing, on_shared)
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
            _lock: None,
        })
    }

    /// What is in it.
    pub fn lines(&self) -> Lines<'_> {
        Lines(&self.database)
    }
}

/// So many rows are handed on together while the next ones are read, and so many times as many wait.
const PAGE: usize = 32;
const PAGES: usize = 2;

/// What a store holds, line by line.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a>(&'a Database);

impl Lines<'_> {
    /// What tells the answers of this store from those of others, if that was ever needed.
    pub fn mark(&self) -> Result<Option<i64>, StoreError> {
        let mark = self.0.meta(sqlite::MARK)?;
        Ok(mark.and_then(|mark| mark.parse().ok()))
    }

    /// The names of the job's columns.
    pub fn columns(&self) -> Result<Arc<Columns>, StoreError> {
        self.0.columns()
    }

    /// Calls `each` for every row of the job, with all its items by entry and repeat: also with those that were never
    /// asked. What was asked about the answers comes after them, as far as it was.
    ///
    /// It is called on a thread of its own, beside the one that reads.
    pub fn for_each_row<E: From<StoreError> + Send>(
        &self,
        columns: &Arc<Columns>,
        mut each: impl FnMut(&[Stored]) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        thread::scope(|scope| {
            let (pages, read) = sync_channel::<Vec<Vec<Stored>>>(PAGES);
            let called = scope.spawn(move || read.iter().flatten().try_for_each(|all| each(&all)));
            let mut page = Vec::new();
            let all_read = self.0.for_each_row(columns, |all| {
                page.push(all);
                match page.len() {
                    PAGE if pages.send(take(&mut page)).is_err() => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
            // Nobody is there to take it if `each` failed.
            let _ = pages.send(page);
            drop(pages);
            called.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok(all_read?)
        })
    }

    /// Calls `each` for every attempt that no line of the results shows.
    pub fn for_each_outside(&self, each: impl FnMut(Outside)) -> Result<(), StoreError> {
        self.0.for_each_outside(each)
    }
}

impl Reader {
    /// Opens the store of a directory, whoever writes to it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            database: Database::open_to_read(dir, false)?,
            _lock: None,
        })
    }

    /// The same where nobody writes to it; nobody will before it is dropped.
    pub fn open_alone(dir: &Path) -> Result<Self, StoreError> {
        drop(Self::open(dir)?);
        let lock = Lock::acquire_to_read(dir)?;
        Ok(Self {
            database: Database::open_to_read(dir, true)?,
            _lock: Some(lock),
        })
    }

    /// Who writes to the store of a directory now; nothing is taken, and nobody disturbed.
    pub fn holder(dir: &Path) -> Result<Option<Holder>, StoreError> {
        lock::look(dir)
    }

    /// The last run of the job; `None` before the first one.
    pub fn last_run(&self) -> Result<Option<RunLine>, StoreError> {
        self.database.last_run()
    }

    /// What is in it.
    pub fn lines(&self) -> Lines<'_> {
        Lines(&self.database)
    }

    /// Begins to look up what it has of the rows of a job, which come in their order. It must be this job's.
    pub fn standing(&self, name: &str, job: &Registered<'_>) -> Result<Standing<'_>, StoreError> {
        self.database.is_of(name)?;
        self.database.standing(job)
    }

    /// What tells its answers from those of others in a cache, if it ever used one.
    pub fn mark(&self) -> Result<Option<i64>, StoreError> {
        self.lines().mark()
    }

    /// How far the job is.
    pub fn tally(&self) -> Result<Tally, StoreError> {
        self.database.tally()
    }

    /// Tells of everything that SQLite finds wrong with the file, as far as it goes.
    pub fn integrity(&self, wrong: &mut dyn FnMut(String)) -> Result<(), StoreError> {
        self.database.integrity(wrong)
    }

    /// Tells of every line of a table that is not as it was written. Returns how many it has.
    pub fn check_lines(
        &self,
        table: Table,
        wrong: &mut dyn FnMut(String),
    ) -> Result<u64, StoreError> {
        self.database.check_lines(table, wrong)
    }

    /// Adds up every line of the ledger. Tells of those that are not as they were written, and of those whose cost
    /// is not what their usage comes to at their price.
    pub fn ledger(
        &self,
        wrong: &mut dyn FnMut(String),
        mispriced: &mut dyn FnMut(String),
    ) -> Result<Ledger, StoreError> {
        self.database.ledger(wrong, mispriced)
    }

    /// Tells of every line that breaks one of the [`RULES`].
    pub fn check_rule(&self, rule: &Rule, wrong: &mut dyn FnMut(String)) -> Result<(), StoreError> {
        self.database.check_rule(rule, wrong)
    }

    /// The items that are not done of the next rows after this position, at most so many rows; and the
    /// position of the last one, `None` when there are no more.
    pub fn due(
        &self,
        columns: &Arc<Columns>,
        after: Option<u64>,
        rows: usize,
        wanted: Wanted,
    ) -> Result<(Vec<Due>, Option<u64>), StoreError> {
        self.database.due(columns, after, rows, wanted)
    }

    /// The same of what follows upon the answers to these rows. `follows` says what that is, given everything that is
    /// stored of a row, in the order of the entries.
    pub fn due_follow_ups(
        &self,
        columns: &Arc<Columns>,
        after: Option<u64>,
        rows: usize,
        on_unknown: OnUnknown,
        follows: &dyn Fn(&[Stored]) -> Vec<FollowUp>,
    ) -> Result<(Vec<Due>, Option<u64>), StoreError> {
        let database = &self.database;
        database.due_follow_ups(columns, after, rows, on_unknown, follows)
    }
}
