//! The files of a run again, from its store alone.

use std::path::Path;

use super::publish::{Settings, compile, publish};
use super::summary::{RunError, Summary};
use crate::job::OutputFormat;
use crate::output::remove_leftovers;
use crate::store::{Store, StoreError};

/// What an export wrote.
#[derive(Debug)]
pub struct Exported {
    /// What the run came to. Its exit code is the one in `report.json`: of a run that was killed, what its rows
    /// say.
    pub summary: Summary,
    /// Whether the run was killed before its end.
    pub killed: bool,
}

/// Writes results and reports of the last run in this directory again: the same bytes, if they were written
/// before and nothing was asked since. Of a run that was killed it writes what there is.
///
/// With `formats` these results files are written, now and whenever the run is exported again.
pub fn export(dir: &Path, formats: Option<&[OutputFormat]>) -> Result<Exported, RunError> {
    let Some((mut store, run)) = Store::open_existing(dir)? else {
        return Err(StoreError::NoRun {
            dir: dir.to_owned(),
        }
        .into());
    };
    remove_leftovers(dir);
    let mut settings = Settings::read(dir, &run)?;
    if let Some(formats) = formats {
        settings.frame.formats = formats.to_vec();
    }
    let compiled = compile(dir, store.lines(), &settings, |_| {})?;
    // From here on the files may be of two exports.
    store.set_published(false)?;
    if formats.is_some() {
        store.set_settings(&settings.to_json())?;
    }
    Ok(Exported {
        summary: publish(&mut store, compiled)?,
        killed: run.ended.is_none(),
    })
}
