//! The entries of the matrix, and what is asked about answers: which of those that are stored they are.

use std::sync::Arc;

use rusqlite::{Connection, Error, OptionalExtension, params};

/// From here on entries are numbered that follow upon answers.
pub(super) const FOLLOW_UPS_FROM: u32 = 1 << 20;

/// An entry of an earlier run: its number, its place in the last one, its name.
type StoredEntry = (u32, Option<u32>, String);

/// The entries of all runs so far, by number.
pub(super) fn stored_entries(connection: &Connection) -> Result<Vec<StoredEntry>, Error> {
    let mut query = connection
        .prepare("SELECT entry, position, name FROM entries WHERE NOT follows ORDER BY entry")?;
    let stored = query.query_map([], |record| {
        Ok((record.get(0)?, record.get(1)?, record.get(2)?))
    })?;
    stored.collect()
}

/// Gives the entries of the job their places. Returns their numbers.
pub(super) fn place_entries(
    connection: &Connection,
    names: &[Arc<str>],
    is_matrix: bool,
) -> Result<Vec<u32>, Error> {
    let stored = stored_entries(connection)?;
    let mut places = (0..).zip(&stored).zip(names);
    let are_same = places.all(|((place, (_, position, stored)), name)| {
        *position == Some(place) && **stored == **name
    });
    if stored.len() == names.len() && are_same {
        return Ok(stored.into_iter().map(|(entry, _, _)| entry).collect());
    }
    let numbers = numbers(stored, names, is_matrix);
    connection.execute("UPDATE entries SET position = NULL WHERE NOT follows", [])?;
    let query = "INSERT INTO entries (entry, position, name, follows) VALUES (?1, ?2, ?3, 0)
         ON CONFLICT (entry) DO UPDATE SET position = excluded.position, name = excluded.name";
    for ((position, entry), name) in (0_u32..).zip(&numbers).zip(names) {
        connection.execute(query, params![entry, position, &**name])?;
    }
    Ok(numbers)
}

/// Gives what is asked about answers its places. Returns the numbers: each is known by its name.
pub(super) fn place_follow_ups(
    connection: &Connection,
    names: &[String],
) -> Result<Vec<u32>, Error> {
    connection.execute("UPDATE entries SET place = NULL WHERE follows", [])?;
    let update = "UPDATE entries SET place = ?1 WHERE follows AND name = ?2 RETURNING entry";
    // Far from those of the entries, whose numbers are given by what is there.
    let insert = format!(
        "INSERT INTO entries (entry, place, name, follows)
         SELECT ifnull(max(entry), {FOLLOW_UPS_FROM} - 1) + 1, ?1, ?2, 1 FROM entries WHERE follows RETURNING entry"
    );
    let mut numbers = Vec::with_capacity(names.len());
    for (place, name) in (0_u32..).zip(names) {
        let known = connection.query_row(update, params![place, name], |record| record.get(0));
        numbers.push(match known.optional()? {
            Some(number) => number,
            None => connection.query_row(&insert, params![place, name], |record| record.get(0))?,
        });
    }
    Ok(numbers)
}

/// The numbers of the job's entries. An entry is known by its name, else it is one that is left: in a matrix one
/// that asked a backend which it asks too, otherwise the only one. Whose answers are right is decided by their
/// fingerprints.
pub(super) fn numbers(
    mut stored: Vec<StoredEntry>,
    names: &[Arc<str>],
    is_matrix: bool,
) -> Vec<u32> {
    let mut next = stored.last().map_or(0, |(entry, _, _)| entry + 1);
    let mut placed: Vec<Option<u32>> = vec![None; names.len()];
    for (place, name) in placed.iter_mut().zip(names) {
        let found = stored.iter().position(|(_, _, stored)| **stored == **name);
        *place = found.map(|found| stored.remove(found).0);
    }
    stored.retain(|(_, position, _)| position.is_some());
    let mut numbers = Vec::with_capacity(names.len());
    for (place, name) in placed.into_iter().zip(names) {
        let left = |(_, _, stored): &StoredEntry| !is_matrix || share(stored, name);
        let left = || Some(stored.remove(stored.iter().position(left)?).0);
        numbers.push(place.or_else(left).unwrap_or_else(|| {
            next += 1;
            next - 1
        }));
    }
    numbers
}

/// Whether two entries ask a backend in common.
fn share(one: &str, other: &str) -> bool {
    one.split('>')
        .any(|backend| other.split('>').any(|too| too == backend))
}
