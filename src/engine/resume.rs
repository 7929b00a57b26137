//! What a run finds when it starts: the job's rows, compared with the store.

use std::sync::Arc;

use super::fan_out::render;
use super::shape::Shape;
use super::summary::RunError;
use crate::dispatch::Stop;
use crate::input::Inputs;
use crate::job::{BackendKind, Entry, Identity, Plan, asked, messages};
use crate::store::{Asked, Registered, Store};
use crate::words::{Changes, Digest, Item, Request, Row};

/// How often it is looked whether the run is to end.
const LOOK_EVERY: u64 = 1_000;

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
    for row in inputs.rows() {
        let row = Arc::new(row?);
        if row.index.is_multiple_of(LOOK_EVERY) && stop.is_draining() {
            return Ok(None);
        }
        register.row(&row, || asks(plan, &identities, &row))?;
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
    let item = Item::of(Arc::clone(row));
    let Ok(mut request) = render(&plan.prompt, &item) else {
        // What cannot be asked has no answer.
        return Asked::default();
    };
    let routes: Vec<Vec<usize>> = plan.entries.iter().map(|e| route(e, &item.row)).collect();
    let mut parts: Vec<Vec<u8>> = vec![messages(&request).as_ref().to_vec()];
    parts.extend(
        identities
            .iter()
            .map(|identity| identity.per_row(&request).into_bytes()),
    );
    // What a worker of the program's own makes of a row may depend on all of it.
    if plan
        .backends
        .iter()
        .any(|b| matches!(b.kind, BackendKind::Custom))
    {
        parts.push(row.content().as_ref().to_vec());
    }
    parts.extend(routes.iter().map(|route| format!("{route:?}").into_bytes()));
    let answers = answers(&mut request, &routes, identities, plan.repeat);
    Asked {
        request: Digest::of(parts),
        answers,
    }
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
