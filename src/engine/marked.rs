//! Everything that is stored of a run, with what its job makes of it.

use super::publish::Settings;
use super::summary::RunError;
use crate::store::Lines;
use crate::words::{Marks, Outcome};

/// Calls `each` for every item of the job, by row, entry and repeat: a line of the results with its marks, what was asked
/// beside the lines without any.
pub(super) fn for_each(
    lines: Lines<'_>,
    settings: &Settings,
    mut each: impl FnMut(&Outcome, Option<&Marks>) + Send,
) -> Result<(), RunError> {
    let columns = lines.columns()?;
    let marker = settings.marker(lines.mark()?);
    lines.for_each_row(&columns, |all| {
        let mut lines = marker.lines(all);
        for stored in all {
            let outcome = &stored.outcome;
            // What is asked beside the lines comes after them.
            let marks = lines.next().map(|line| marker.marks(line, all));
            each(outcome, marks.as_ref());
        }
        Ok::<_, RunError>(())
    })
}
