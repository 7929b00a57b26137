//! What is asked of files again and again.

use std::io::{Error, ErrorKind, Result};

/// Whether it is a regular file that has no other name.
pub(super) fn is_own(found: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    let names = std::os::unix::fs::MetadataExt::nlink(found);
    #[cfg(not(unix))]
    let names = 1;
    found.is_file() && names == 1
}

/// Whether the system does not let this user write.
pub(super) fn is_denied(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

/// That something is not there is as good as that it was removed.
pub(super) fn ignore_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
