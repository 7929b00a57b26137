//! One runner at a time in a directory.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::StoreError;

/// The lock file's name.
const NAME: &str = "run.lock";

/// A directory that belongs to this process until the value is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
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
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
                dir: dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Results hold other people's texts: a directory made here is readable by its owner alone.
fn make_private(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}
