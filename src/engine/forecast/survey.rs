//! One pass over the rows: how many are due at whom, and a sample of them.

use std::collections::HashSet;
use std::sync::Arc;

use super::Unsendable;
use crate::engine::fan_out::render;
use crate::engine::resume::{asks, registered};
use crate::engine::summary::RunError;
use crate::input::Inputs;
use crate::job::{Identity, Plan};
use crate::store::{Glance, Reader, Standing};
use crate::words::{Digest, Item, Request, Row};

/// What every sample is drawn from: the same job has the same forecast.
const SEED: u64 = 5;

/// What it takes to find out what is due.
pub(super) struct Survey<'a> {
    pub(super) plan: &'a Plan,
    pub(super) identities: &'a [Identity],
    /// The store of earlier runs.
    pub(super) reader: Option<&'a Reader>,
    pub(super) looks_in_cache: bool,
    /// The size of each backend's sample.
    pub(super) sizes: Vec<usize>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) inputs: u64,
    pub(super) rows: u64,
    pub(super) answered: u64,
    pub(super) duplicates: u64,
    pub(super) from_cache: u64,
    pub(super) unsendable: Unsendable,
    /// What is asked of each backend first.
    pub(super) strata: Vec<Stratum>,
}

/// What is asked of one backend first: how much it is, and a sample in which each has the same chance to be.
#[derive(Debug)]
pub(super) struct Stratum {
    pub(super) due: u64,
    pub(super) sample: Vec<Sampled>,
    size: usize,
    random: fastrand::Rng,
}

/// An item that will be asked, and of whom.
#[derive(Debug, Clone)]
pub(super) struct Sampled {
    pub(super) item: Item,
    pub(super) route: Vec<usize>,
}

impl Stratum {
    fn new(size: usize) -> Self {
        Self {
            due: 0,
            sample: Vec::new(),
            size,
            random: fastrand::Rng::with_seed(SEED),
        }
    }

    /// One more (Vitter's algorithm R: memory does not grow with their number).
    fn add(&mut self, item: impl FnOnce() -> Sampled) {
        self.due += 1;
        if self.sample.len() < self.size {
            self.sample.push(item());
            return;
        }
        let place = usize::try_from(self.random.u64(0..self.due)).unwrap_or(usize::MAX);
        if let Some(place) = self.sample.get_mut(place) {
            *place = item();
        }
    }
}

/// What is looked up for each row.
struct Known<'a> {
    standing: Option<Standing<'a>>,
    cache: Option<Glance>,
    /// What was asked before, if that counts.
    seen: Option<HashSet<Digest>>,
}

impl Survey<'_> {
    /// Goes through all rows.
    pub(super) fn of(&self, inputs: &Inputs) -> Result<Found, RunError> {
        let Self { plan, .. } = self;
        let job = registered(plan);
        let standing = self.reader.map(|reader| reader.standing(&plan.name, &job));
        let mut known = Known {
            standing: standing.transpose()?,
            cache: self.cache()?,
            seen: None,
        };
        loop {
            known.seen = plan.dedupe.then(HashSet::new);
            let found = self.all(inputs, &mut known)?;
            let again = known.standing.as_mut().map(Standing::look_again);
            match again.transpose()? {
                Some(true) => {}
                _ => return Ok(found),
            }
        }
    }

    fn all(&self, inputs: &Inputs, known: &mut Known<'_>) -> Result<Found, RunError> {
        let mut found = Found {
            strata: self.sizes.iter().map(|size| Stratum::new(*size)).collect(),
            ..Found::default()
        };
        for row in inputs.rows() {
            self.row(row?, known, &mut found)?;
        }
        match inputs.changed() {
            Some(changed) => Err(changed.into()),
            None => Ok(found),
        }
    }

    fn cache(&self) -> Result<Option<Glance>, RunError> {
        let Some(cache) = self.plan.cache.as_ref().filter(|_| self.looks_in_cache) else {
            return Ok(None);
        };
        let own = self.reader.map(Reader::mark).transpose()?.flatten();
        Ok(Glance::open(&cache.path, own))
    }

    fn row(&self, row: Row, known: &mut Known<'_>, found: &mut Found) -> Result<(), RunError> {
        let Self { plan, .. } = self;
        let items = plan.entries.len() * plan.repeat as usize;
        found.inputs += 1;
        found.rows += items as u64;
        let row = Arc::new(row);
        let asked = || asks(plan, self.identities, &row);
        let done = match &mut known.standing {
            Some(standing) => standing.of(&row, asked)?,
            None => vec![false; items],
        };
        let left = done.iter().filter(|done| !**done).count();
        found.answered += (items - left) as u64;
        let first = known.seen.as_mut().map(|seen| {
            let request = asked().request;
            // What could not even be rendered asks nothing.
            request == Digest::default() || seen.insert(request)
        });
        if left == 0 {
            return Ok(());
        }
        if first == Some(false) {
            found.duplicates += left as u64;
            return Ok(());
        }
        let item = Item::of(row);
        let mut request = match render(&plan.prompt, &item) {
            Ok(request) => request,
            Err(error) => {
                found.unsendable.add(left as u64, &item.row, error);
                return Ok(());
            }
        };
        let mut done = done.into_iter();
        for (entry, routes) in (0..).zip(&plan.entries) {
            let due: Vec<u32> = (0..plan.repeat)
                .filter(|_| done.next() == Some(false))
                .collect();
            let route = match routes.route(&item.row) {
                Ok(Some(route)) => route,
                refused => {
                    let why = match refused {
                        Err(error) => format!("`when` cannot be decided: {error}"),
                        Ok(_) => "no rule of the job's `route` matches".to_owned(),
                    };
                    found.unsendable.add(due.len() as u64, &item.row, why);
                    continue;
                }
            };
            for repeat in due {
                request.repeat = repeat;
                if self.is_cached(known, &request, route[0]) {
                    found.from_cache += 1;
                    continue;
                }
                found.strata[route[0]].add(|| Sampled {
                    item: Item {
                        entry,
                        repeat,
                        ..item.clone()
                    },
                    route: route.to_vec(),
                });
            }
        }
        Ok(())
    }

    /// Whether the cache has the answer of the backend that is asked first.
    fn is_cached(&self, known: &Known<'_>, request: &Request, backend: usize) -> bool {
        let cache = known.cache.as_ref();
        let cache = cache.filter(|_| self.plan.backends[backend].is_shared());
        cache.is_some_and(|cache| cache.has(&self.identities[backend].fingerprint(request)))
    }
}

impl Unsendable {
    fn add(&mut self, rows: u64, row: &Row, why: String) {
        self.rows += rows;
        if rows > 0 && self.first.is_none() {
            self.first = Some((row.id.clone(), why));
        }
    }
}
