//! What a run finds when it starts: the job's rows, compared with the store.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::fan_out::render;
use super::shape::Shape;
use super::summary::RunError;
use crate::dispatch::Stop;
use crate::input::{InputError, Inputs};
use crate::job::{Backend, BackendKind, Entry, Identity, Plan, asked, messages};
use crate::store::{Asked, Registered, Store};
use crate::words::{Changes, Digest, Item, Request, Row};

/// So many rows are handed on together while the next ones are read, and so many times as many wait.
const PAGE: usize = 32;
const PAGES: usize = 2;

/// Rows as they were read, each with all that it makes the job ask where that was found out already.
type Page = Vec<Result<(Arc<Row>, Option<Digest>), InputError>>;

/// Registers every row of the job, and begins a run whose files are made from these settings. With `frozen` nothing may differ, and then nothing is written.
///
/// Ends early, with nothing written, if the run is stopped; then there are no changes to tell of.
pub(super) fn register(
    store: &mut Store,
    plan: &Plan,
    inputs: &Inputs,
    frozen: bool,
    stop: &Stop,
    settings: &str,
) -> Result<Option<Changes>, RunError> {
    let job = registered(plan);
    let identities: Vec<Identity> = plan.backends.iter().map(|b| b.identity()).collect();
    let mut register = store.register(&job)?;
    // Of rows that are stored it is asked only where something has changed.
    let eager = register.is_first();
    let is_whole = thread::scope(|scope| {
        let (pages, read) = sync_channel(PAGES);
        scope.spawn(|| {
            let request = |row: &Arc<Row>| eager.then(|| request(plan, &identities, row));
            read_rows(inputs, request, pages);
        });
        for page in read {
            if stop.is_draining() {
                return Ok(false);
            }
            for read in page {
                match read? {
                    (row, Some(request)) => register.new_row(&row, &request)?,
                    (row, None) => register.row(&row, || asks(plan, &identities, &row))?,
                }
            }
        }
        Ok::<_, RunError>(true)
    })?;
    if !is_whole {
        return Ok(None);
    }
    // Before anything is spent on rows that are no longer there.
    if let Some(changed) = inputs.changed() {
        return Err(changed.into());
    }
    let changes = register.changes(&plan.columns, |row| asks(plan, &identities, row))?;
    if frozen && changes.is_change() {
        return Err(RunError::Frozen {
            dir: plan.output.dir.clone(),
            changes,
        });
    }
    register.commit(settings)?;
    Ok(Some(changes))
}

/// Reads the rows, a page at a time, until nobody takes them any more.
fn read_rows(
    inputs: &Inputs,
    request: impl Fn(&Arc<Row>) -> Option<Digest>,
    pages: SyncSender<Page>,
) {
    let mut rows = inputs.rows().map(|row| {
        let row = Arc::new(row?);
        let request = request(&row);
        Ok((row, request))
    });
    loop {
        let page: Page = rows.by_ref().take(PAGE).collect();
        if page.is_empty() || pages.send(page).is_err() {
            return;
        }
    }
}

/// What is compared with the store.
pub(super) fn registered(plan: &Plan) -> Registered<'_> {
    let names = plan.entries.iter().map(|entry| Arc::clone(&entry.name));
    let tariffs = plan.backends.iter().filter_map(|b| b.tariff.clone());
    Registered {
        asked: asked(plan),
        columns: &plan.columns,
        entries: names.collect(),
        follow_ups: Shape::of(plan).follow_ups(),
        is_matrix: plan.is_matrix,
        repeat: plan.repeat,
        tariffs: tariffs.collect(),
    }
}

/// What a row makes the job ask.
pub(super) fn asks(plan: &Plan, identities: &[Identity], row: &Arc<Row>) -> Asked {
    let Some((mut request, routes)) = asked_of(plan, row) else {
        return Asked::default();
    };
    Asked {
        request: digest(plan, identities, &request, &routes),
        answers: answers(&mut request, &routes, identities, plan.repeat),
    }
}

/// All of that together.
fn request(plan: &Plan, identities: &[Identity], row: &Arc<Row>) -> Digest {
    let asked = asked_of(plan, row);
    let digest = asked.map(|(request, routes)| digest(plan, identities, &request, &routes));
    digest.unwrap_or_default()
}

/// The request of a row, and who is asked in each entry. What cannot be asked has no answer.
fn asked_of(plan: &Plan, row: &Arc<Row>) -> Option<(Request, Vec<Vec<usize>>)> {
    let item = Item::of(Arc::clone(row));
    let request = render(&plan.prompt, &item).ok()?;
    let routes = plan.entries.iter().map(|entry| route(entry, row));
    Some((request, routes.collect()))
}

fn digest(
    plan: &Plan,
    identities: &[Identity],
    request: &Request,
    routes: &[Vec<usize>],
) -> Digest {
    let mut parts: Vec<Vec<u8>> = vec![messages(request).as_ref().to_vec()];
    let per_row = identities
        .iter()
        .map(|identity| identity.per_row(request).into_bytes());
    parts.extend(per_row);
    // What a worker of the program's own makes of a row may depend on all of it.
    let is_custom = |backend: &Backend| matches!(backend.kind, BackendKind::Custom);
    if let Some(row) = &request.row
        && plan.backends.iter().any(is_custom)
    {
        parts.push(row.content().as_ref().to_vec());
    }
    parts.extend(routes.iter().map(|route| format!("{route:?}").into_bytes()));
    Digest::of(parts)
}

fn answers(
    request: &mut Request,
    routes: &[Vec<usize>],
    identities: &[Identity],
    repeats: u32,
) -> Vec<(u32, u32, Digest)> {
    let mut answers = Vec::new();
    for repeat in 0..repeats {
        request.repeat = repeat;
        for (entry, route) in (0..).zip(routes) {
            let asked = route
                .iter()
                .map(|backend| identities[*backend].fingerprint(request));
            answers.extend(asked.map(|fingerprint| (entry, repeat, fingerprint)));
        }
    }
    answers
}

/// Who is asked for a row; nobody, where that cannot be decided.
fn route(entry: &Entry, row: &Arc<Row>) -> Vec<usize> {
    let route = entry.route(row).ok().flatten();
    route.map(<[usize]>::to_vec).unwrap_or_default()
}
