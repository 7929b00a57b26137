//! What a run left in `run.db`, read from a copy: opening the file itself would repair it before the
//! runner gets to see it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

/// What the store holds.
#[derive(Debug, Default)]
pub struct Stored {
    /// The answer to each prompt that has one.
    pub answers: BTreeMap<String, String>,
    /// Status of each prompt that ended without an answer.
    pub unanswered: BTreeMap<String, String>,
    /// The attempts on each prompt, over all runs.
    pub attempts: BTreeMap<String, Attempts>,
}

/// What the journal says of a prompt.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempts {
    /// How many there were.
    pub made: u32,
    /// Whether the end of the last one is not known.
    pub open: bool,
}

impl Stored {
    /// Reads the store of this output directory; empty where there is none yet. A store that SQLite finds
    /// fault with fails the test.
    #[track_caller]
    pub fn read(out: &Path) -> Self {
        let copy = tempfile::tempdir().expect("a directory for the copy");
        let path = copy.path().join("run.db");
        for name in ["run.db", "run.db-wal"] {
            if out.join(name).exists() {
                fs::copy(out.join(name), copy.path().join(name)).expect("the store can be copied");
            }
        }
        if !path.exists() {
            return Self::default();
        }
        let database = Connection::open(&path).expect("the copy can be opened");
        Self::query(&database).expect("the store can be read")
    }

    fn query(database: &Connection) -> rusqlite::Result<Self> {
        let check: String = database.query_row("PRAGMA quick_check", [], |line| line.get(0))?;
        assert_eq!(check, "ok", "the store is damaged");
        let there = "SELECT 1 FROM sqlite_schema WHERE name = 'attempts'";
        if database
            .query_row(there, [], |_| Ok(()))
            .optional()?
            .is_none()
        {
            return Ok(Self::default());
        }
        let mut stored = Self::default();
        let mut outcomes = database.prepare(
            "SELECT id, status, coalesce(answer, '') FROM outcomes JOIN rows USING (row)",
        )?;
        let mut outcomes = outcomes.query([])?;
        while let Some(line) = outcomes.next()? {
            let (prompt, status): (_, String) = (prompt(&line.get::<_, String>(0)?), line.get(1)?);
            let twice = match status.as_str() {
                "answered" => stored.answers.insert(prompt.clone(), line.get(2)?),
                _ => stored.unanswered.insert(prompt.clone(), status),
            };
            assert_eq!(twice, None, "{prompt} has two outcomes");
        }
        let mut attempts = database.prepare(
            "SELECT id, count(*), (
                 SELECT latency_us IS NULL FROM attempts a WHERE a.row = rows.row
                 ORDER BY attempt DESC LIMIT 1
             ) FROM attempts JOIN rows USING (row) GROUP BY row",
        )?;
        let mut attempts = attempts.query([])?;
        while let Some(line) = attempts.next()? {
            let (made, open) = (line.get(1)?, line.get(2)?);
            let prompt = prompt(&line.get::<_, String>(0)?);
            stored.attempts.insert(prompt, Attempts { made, open });
        }
        Ok(stored)
    }

    /// How many prompts were being asked when their last run ended, and have no outcome.
    pub fn unknown(&self) -> usize {
        let unanswered = |prompt: &&String| !self.answers.contains_key(*prompt);
        let open = self.attempts.iter().filter(|(_, attempts)| attempts.open);
        open.map(|(prompt, _)| prompt).filter(unanswered).count()
    }
}

/// `rows.csv:17` asks `row 17`.
fn prompt(id: &str) -> String {
    id.replace("rows.csv:", "row ")
}
