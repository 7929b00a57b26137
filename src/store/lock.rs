//! One runner at a time in a directory.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::StoreError;
use super::files::{is_denied, is_own};

/// The lock file's name.
const NAME: &str = "run.lock";
/// Whoever only looks whether the lock is held has it for an instant: so often, and so long after one another,
/// it is tried until a runner believes that it is held.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(20);

/// A directory that belongs to this process until the value is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<File>,
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The number of the process, where it says so.
    pub process: Option<u32>,
}

impl Lock {
    /// Takes the lock of a directory, making the directory if it does not exist.
    pub(super) fn acquire(dir: &Path) -> Result<Self, StoreError> {
        make_private(dir).map_err(|source| StoreError::Io {
            doing: "make the output directory",
            path: dir.to_owned(),
            source,
        })?;
        let path = dir.join(NAME);
        let failed = |source| StoreError::Io {
            doing: "lock",
            path: path.clone(),
            source,
        };
        // A planted link would have this process write its number into another file.
        let own = std::fs::symlink_metadata(&path).map(|found| is_own(&found));
        if own.is_ok_and(|own| !own) {
            let error = "it is a link or no regular file; remove it";
            return Err(failed(std::io::Error::other(error)));
        }
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(failed)?;
        for _ in 1..TRIES {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
                _ => break,
            }
        }
        match file.try_lock() {
            Ok(()) => {
                note_holder(&mut file).map_err(failed)?;
                Ok(Self { _file: Some(file) })
            }
            Err(TryLockError::WouldBlock) => Err(locked(dir, &mut file)),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Takes the lock of a directory that is only read, also of one that cannot be written to: nobody else
    /// writes there either.
    pub(super) fn acquire_to_read(dir: &Path) -> Result<Self, StoreError> {
        match Self::acquire(dir) {
            Err(StoreError::Io { source, .. }) if is_denied(&source) => {}
            acquired => return acquired,
        }
        let Some(mut file) = open_to_read(dir)? else {
            return Ok(Self { _file: None });
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(locked(dir, &mut file)),
            // Where there are no locks, nobody can hold one.
            _ => Ok(Self { _file: Some(file) }),
        }
    }
}

/// Who holds the lock of a directory now; `None` if nobody does.
pub(super) fn look(dir: &Path) -> Result<Option<Holder>, StoreError> {
    let Some(mut file) = open_to_read(dir)? else {
        return Ok(None);
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Ok(Some(Holder {
            process: holder(&mut file),
        })),
        _ => Ok(None),
    }
}

fn open_to_read(dir: &Path) -> Result<Option<File>, StoreError> {
    let path = dir.join(NAME);
    match File::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Io {
            doing: "read",
            path,
            source,
        }),
    }
}

fn locked(dir: &Path, file: &mut File) -> StoreError {
    StoreError::Locked {
        dir: dir.to_owned(),
        holder: holder(file).map_or(String::new(), |process| format!(" (process {process})")),
    }
}

/// Writes this process's number into the file: for people only, the lock itself is the kernel's.
fn note_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// The process that the holder says it is.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Results hold other people's texts: a directory made here is readable by its owner alone.
fn make_private(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}
