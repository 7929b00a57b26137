//! The lines of a stored run, with what its job makes of them.

use super::publish::Settings;
use super::summary::RunError;
use crate::store::Lines;
use crate::words::{Marks, ResultLine};

/// Calls `each` for every line of the results, by row, entry and repeat.
pub(super) fn for_each(
    lines: Lines<'_>,
    _settings: &Settings,
    mut each: impl FnMut(&ResultLine<'_>),
) -> Result<(), RunError> {
    let columns = lines.columns()?;
    let marks = Marks::default();
    lines.for_each(&columns, |stored| {
        each(&ResultLine {
            outcome: &stored.outcome,
            marks: &marks,
        });
        Ok::<_, RunError>(())
    })
}
