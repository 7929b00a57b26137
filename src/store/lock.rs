//! One runner at a time in a directory.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
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
        match file.try_lock() {
            Ok(()) => {
                note_holder(&mut file).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
                dir: dir.to_owned(),
                holder: holder(&mut file),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Whether it is a regular file that has no other name.
pub(super) fn is_own(found: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    let names = std::os::unix::fs::MetadataExt::nlink(found);
    #[cfg(not(unix))]
    let names = 1;
    found.is_file() && names == 1
}

/// Writes this process's number into the file: for people only, the lock itself is the kernel's.
fn note_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// What the holder wrote: " (process 4711)", or nothing.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file
        .take(20)
        .read_to_string(&mut text)
        .map(|_| text.trim().parse::<u32>())
    {
        Ok(Ok(process)) => format!(" (process {process})"),
        _ => String::new(),
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
