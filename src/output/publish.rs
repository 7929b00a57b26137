//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::OutputError;
use super::publication::Sink;

const BUFFER: usize = 1 << 16;

/// Removes what runners that were killed have left half-written.
pub(super) fn remove_leftovers(dir: &Path, names: &[&str]) {
    let leftover = |name: &str| {
        let mut starts = names.iter().map(|name| format!(".{name}."));
        starts.any(|start| name.starts_with(&start))
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && leftover(&entry.file_name().to_string_lossy()) {
            // It is in nobody's way; the next run tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A file that is written beside its place, readable by its owner alone; removed unless published.
pub struct Pending {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Sink for Pending {
    fn begin(dir: &Path, name: &'static str) -> Result<Self, OutputError> {
        let path = dir.join(name);
        let prefix = format!(".{name}.");
        match tempfile::Builder::new().prefix(&prefix).tempfile_in(dir) {
            Ok(file) => Ok(Self {
                file: BufWriter::with_capacity(BUFFER, file),
                path,
            }),
            Err(source) => Err(OutputError { path, source }),
        }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.file.write_all(bytes).map_err(|source| OutputError {
            path: self.path.clone(),
            source,
        })
    }
}

impl Pending {
    /// Makes the file durable and puts it in its place. Returns that.
    pub fn publish(self) -> Result<PathBuf, OutputError> {
        let Self { file, path } = self;
        match settle(file, &path) {
            Ok(()) => Ok(path),
            Err(source) => Err(OutputError { path, source }),
        }
    }
}

fn settle(file: BufWriter<NamedTempFile>, path: &Path) -> std::io::Result<()> {
    let file = file
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The new name is durable only once its directory is.
    match path.parent() {
        Some(dir) if cfg!(unix) => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}
