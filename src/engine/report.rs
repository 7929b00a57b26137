//! The report of a run again, from its store alone, by the prices that it was charged by or by others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;

use super::publish::{Settings, compile_priced};
use super::status::{RunState, status};
use super::summary::RunError;
use crate::job::Prices;
use crate::output::{OutputError, Report, Sink, Stated};
use crate::store::{Reader, StoreError, Stored};
use crate::words::{Attempt, Tariff};

/// The report of a run.
#[derive(Debug, Clone)]
pub struct Reported {
    /// What the run came to.
    pub report: Report,
    /// What becomes of the job now.
    pub state: RunState,
    /// The report as `report.json` says it.
    pub json: String,
    /// The report as `report.md` says it.
    pub markdown: String,
}

/// Makes the report of the last run in a directory again, also of one that is under way or was killed. Nothing is
/// written. With files of prices every request is priced anew from its stored usage, if a file has a line for its
/// backend; what has none is in the report as it was charged.
pub fn report(dir: &Path, prices: &[PathBuf]) -> Result<Reported, RunError> {
    let prices = Prices::of_files(prices).map_err(RunError::Prices)?;
    let status = status(dir)?;
    let reader = Reader::open(dir)?;
    let run = reader.last_run()?.ok_or_else(|| StoreError::NoRun {
        dir: dir.to_owned(),
    })?;
    let settings = Settings::read(dir, &run)?;
    let repricing = Repricing::new(prices, &settings.frame.backends);
    let compiled =
        compile_priced::<Kept>(dir, reader.lines(), &settings, Some(&repricing), |_| {})?;
    let text = |name: &str| {
        let mut files = compiled.files.iter();
        let file = files.find(|file| file.name == name);
        let bytes = file.map(|file| file.bytes.clone());
        String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    };
    Ok(Reported {
        state: status.state,
        json: text("report.json"),
        markdown: text("report.md"),
        report: compiled.report,
    })
}

/// Other prices for what was stored.
pub(super) struct Repricing {
    prices: Prices,
    today: Date,
    /// By backend, where the store says what it is and what it was asked for.
    by_backend: HashMap<String, Option<Arc<Tariff>>>,
}

impl Repricing {
    fn new(prices: Prices, backends: &[Stated]) -> Self {
        let today = jiff::Zoned::now().date();
        let known = backends.iter().filter(|stated| !stated.kind.is_empty());
        let by_backend = known.map(|stated| {
            let line = prices.find(&stated.kind, stated.model.as_deref(), today);
            let tariff = line.map(|line| Arc::new(line.tariff.clone()));
            (stated.backend.clone(), tariff)
        });
        Self {
            by_backend: by_backend.collect(),
            prices,
            today,
        }
    }

    /// The other price of a request. Of a backend that the store does not describe only its model is known.
    fn tariff(&self, attempt: &Attempt) -> Option<Arc<Tariff>> {
        match self.by_backend.get(&*attempt.backend) {
            Some(tariff) => tariff.clone(),
            None => {
                let model = attempt.model.as_deref();
                let line = self.prices.find("", model, self.today)?;
                Some(Arc::new(line.tariff.clone()))
            }
        }
    }

    /// Prices a request anew, and notes that down in the report.
    pub(super) fn apply(&self, attempt: &mut Attempt, report: &mut Report) {
        if !attempt.kind.is_request() {
            return;
        }
        let Some(tariff) = self.tariff(attempt) else {
            return;
        };
        let before = attempt.clone();
        attempt.reprice(tariff);
        report.add_repriced(&before, attempt);
    }

    /// Prices everything anew that was done for a line of the results.
    pub(super) fn of(&self, stored: &Stored, report: &mut Report) -> Stored {
        let mut stored = stored.clone();
        let Stored {
            outcome,
            interrupted,
        } = &mut stored;
        let attempts = outcome.attempts.iter_mut().chain(interrupted);
        attempts.for_each(|attempt| self.apply(attempt, report));
        stored
    }
}

/// A report that is kept in memory; results are not.
struct Kept {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Sink for Kept {
    fn begin(_dir: &Path, name: &'static str) -> Result<Self, OutputError> {
        let bytes = Vec::new();
        Ok(Self { name, bytes })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        if self.name.starts_with("report.") {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }
}
