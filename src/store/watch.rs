//! Whether the files of the store are still the ones that were opened.

use std::io;
use std::path::{Path, PathBuf};

/// The database and its log. Somebody who deletes, replaces or cuts them while a run writes to them would
/// have it write into nothing.
#[derive(Debug, Default)]
pub(super) struct Watch {
    files: Vec<(PathBuf, Seen)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    file: (u64, u64),
    length: u64,
}

impl Watch {
    /// Watches a database and its log; both are there.
    pub(super) fn over(database: &Path) -> io::Result<Self> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let files = [database.to_owned(), PathBuf::from(log)];
        let files = files.into_iter().map(|path| {
            let seen = look(&path)?;
            Ok((path, seen))
        });
        Ok(Self {
            files: files.collect::<io::Result<_>>()?,
        })
    }

    /// The error that one of them is not what it was. Neither ever shrinks: a log that was copied into the
    /// database is written over from its start.
    pub(super) fn check(&mut self) -> io::Result<()> {
        for (path, seen) in &mut self.files {
            let now = look(path).map_err(|error| {
                io::Error::other(format!("{} is gone: {error}", path.display()))
            })?;
            if now.file != seen.file || now.length < seen.length {
                let what = format!("{} was replaced or cut", path.display());
                return Err(io::Error::other(what));
            }
            *seen = now;
        }
        Ok(())
    }
}

fn look(path: &Path) -> io::Result<Seen> {
    let metadata = std::fs::symlink_metadata(path)?;
    #[cfg(unix)]
    let file = {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    };
    #[cfg(not(unix))]
    let file = (0, 0);
    Ok(Seen {
        file,
        length: metadata.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (database, log) = (dir.path().join("run.db"), dir.path().join("run.db-wal"));
        std::fs::write(&database, "database").unwrap();
        std::fs::write(&log, "log").unwrap();
        (dir, database, log)
    }

    #[test]
    fn files_that_only_grow_are_the_same() {
        let (_dir, database, log) = files();
        let mut watch = Watch::over(&database).unwrap();
        std::fs::write(&log, "a longer log").unwrap();
        watch.check().unwrap();
    }

    #[test]
    fn a_file_that_is_gone_replaced_or_cut_is_noticed() {
        for harm in [
            |database: &Path, _: &Path| std::fs::remove_file(database),
            |_: &Path, log: &Path| std::fs::remove_file(log),
            |_: &Path, log: &Path| std::fs::write(log, ""),
            |database: &Path, log: &Path| std::fs::rename(log, database),
        ] {
            let (_dir, database, log) = files();
            let mut watch = Watch::over(&database).unwrap();
            harm(&database, &log).unwrap();
            watch.check().unwrap_err();
        }
    }
}
