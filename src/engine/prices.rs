//! The prices that hold today: for the backends of a job, or for every model that is known.

use std::path::{Path, PathBuf};

use super::runner::Options;
use crate::job::{Backend, Job, PriceLine, Prices, Problems, Surroundings};

/// Every backend of a job with what it charges. Nothing is sent, no key is needed, and no input is read.
pub fn prices(job: &Path, options: &Options) -> Result<Vec<Backend>, Problems> {
    let surroundings = Surroundings {
        columns: None,
        env: &|name| std::env::var(name).ok(),
        today: jiff::Zoned::now().date(),
        prices: &options.prices,
        sends: false,
    };
    Job::read(job, &options.set)?.backends(&surroundings)
}

/// Every line that holds today: of these files, and after them of the built-in table.
pub fn price_list(files: &[PathBuf]) -> Result<Vec<PriceLine>, Problems> {
    let prices = Prices::of_files(files)?.with_table();
    let today = jiff::Zoned::now().date();
    Ok(prices.in_force(today).cloned().collect())
}
