//! The prices that hold for a job: of price files, and of the built-in table, what OpenAI and Anthropic publish.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::civil::Date;

use super::price_list::{PriceLine, find, in_force};
use super::read::Job;
use super::resolve::Surroundings;
use super::{Problem, Problems, price_file};

/// The built-in table, a price file; its first lines say where it comes from and how to read it.
const TABLE: &str = include_str!("prices.csv");
/// The types of backends that it is about.
const TABLE_IS_OF: [&str; 2] = ["openai", "anthropic"];

/// Lists of prices, one after the other: the first that has a line for a model says what it costs.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    lists: Vec<Vec<PriceLine>>,
    /// The built-in table, if it comes after them: read when a model is looked up in it, for many jobs need none of it.
    table: Option<OnceLock<Vec<PriceLine>>>,
}

impl Prices {
    /// Those of these files and no others.
    pub fn of_files(files: &[PathBuf]) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let lists = files.iter().filter_map(|path| {
            let read = price_file::read(path);
            read.map_err(|Problems(found)| problems.extend(found)).ok()
        });
        let lists = lists.collect();
        match problems.is_empty() {
            true => Ok(Self { lists, table: None }),
            false => Err(Problems(problems)),
        }
    }

    /// The same, and after them the built-in table.
    pub fn with_table(mut self) -> Self {
        self.table = Some(OnceLock::new());
        self
    }

    /// Those of the files that the caller names, then those that the job names, then the built-in table.
    pub(super) fn of_job(
        job: &Job,
        around: &Surroundings<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut prices = Self::of_files(around.prices).unwrap_or_else(|Problems(found)| {
            problems.extend(found);
            Self::default()
        });
        let files = job.keys.prices.iter().flat_map(|files| &files.value.0);
        for file in files {
            match price_file::read(&job.folder().join(&file.value)) {
                Ok(list) => prices.lists.push(list),
                Err(Problems(found)) => {
                    problems.extend(found.into_iter().map(|problem| match problem.place {
                        Some(_) => problem,
                        None => problem.at(file.span.place()),
                    }));
                }
            }
        }
        prices.with_table()
    }

    /// The line for this model of this type of backend on this day; `None` where there is none.
    pub fn find(&self, provider: &str, model: Option<&str>, today: Date) -> Option<&PriceLine> {
        let mut lists = self.lists.iter();
        let stated = lists.find_map(|list| find(list, provider, model, today));
        if stated.is_some() || !TABLE_IS_OF.contains(&provider) {
            return stated;
        }
        find(self.table()?, provider, model, today)
    }

    /// Every line that holds on this day.
    pub fn in_force(&self, today: Date) -> impl Iterator<Item = &PriceLine> {
        let lists = self.lists.iter().chain(self.table());
        lists.flat_map(move |list| in_force(list, today))
    }

    fn table(&self) -> Option<&Vec<PriceLine>> {
        Some(self.table.as_ref()?.get_or_init(table))
    }
}

fn table() -> Vec<PriceLine> {
    let table = price_file::parse(Path::new("prices.csv"), TABLE);
    table.expect("a test reads the built-in table")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Rates, Tariff};
    use jiff::civil::date;

    #[test]
    fn every_line_of_the_table_has_a_provider_a_day_and_a_source() {
        let table = table();
        assert!(table.len() > 90, "{}", table.len());
        for line in &table {
            assert!(TABLE_IS_OF.contains(&&*line.provider));
            let Tariff { source, as_of, .. } = &line.tariff;
            assert!(source.starts_with("https://"), "{}", line.models);
            assert!(as_of.is_some(), "{}", line.models);
        }
    }

    #[test]
    fn no_model_of_the_table_has_two_prices_on_one_day() {
        let table = table();
        for line in &table {
            for name in line.models.split('|').filter(|name| !name.contains('*')) {
                let same = table.iter().filter(|other| {
                    other.is_for(&line.provider, Some(name)) && other.valid_from == line.valid_from
                });
                assert_eq!(same.count(), 1, "{name}");
            }
        }
    }

    /// What the provider publishes: half of the ordinary rates, but for classes that it names no rate for.
    #[test]
    fn batch_rates_of_the_table_are_half_of_the_ordinary_ones() {
        let mut served = 0;
        for line in table() {
            let Some(batch) = line.batch else { continue };
            served += 1;
            let check = |ordinary: Rates, batch: Rates| {
                let half = |whole: Option<_>, half: Option<crate::words::Rate>| {
                    let Some(half) = half else { return true };
                    whole.is_some_and(|whole: crate::words::Rate| half.times(2) == whole.times(1))
                };
                let all = half(Some(ordinary.input), Some(batch.input))
                    && half(Some(ordinary.output), Some(batch.output))
                    && half(ordinary.cache_read, batch.cache_read)
                    && half(ordinary.cache_write_5m, batch.cache_write_5m)
                    && half(ordinary.cache_write_1h, batch.cache_write_1h);
                assert!(all, "{}", line.models);
            };
            let price = line.tariff.price;
            check(price.rates, batch.rates);
            assert_eq!(price.above.is_some(), batch.above.is_some());
            if let (Some(ordinary), Some(batch)) = (price.above, batch.above) {
                assert_eq!(ordinary.tokens, batch.tokens);
                check(ordinary.rates, batch.rates);
            }
        }
        assert!(served > 50, "{served}");
    }

    #[track_caller]
    fn check(provider: &str, model: &str, today: Date, input: &str, output: &str) {
        let prices = Prices::default().with_table();
        let line = prices.find(provider, Some(model), today).expect(model);
        let rates = line.tariff.price.rates;
        assert_eq!(rates.input, input.parse().unwrap(), "{model}");
        assert_eq!(rates.output, output.parse().unwrap(), "{model}");
    }

    #[test]
    fn well_known_models_cost_what_is_published() {
        let today = date(2026, 8, 21);
        for (model, input, output) in [
            ("gpt-4o-mini", "0.15", "0.6"),
            ("gpt-3.5-turbo-instruct", "1.5", "2"),
            ("gpt-4", "30", "60"),
            ("gpt-4-turbo", "10", "30"),
            ("text-davinci-003", "20", "20"),
        ] {
            check("openai", model, today, input, output);
        }
        for (model, input, output) in [
            ("claude-3-5-haiku-20241022", "0.8", "4"),
            ("claude-3-5-sonnet-20241022", "3", "15"),
            ("claude-3-opus-20240229", "15", "75"),
            ("claude-3-sonnet-20240229", "3", "15"),
            ("claude-3-haiku-20240307", "0.25", "1.25"),
            ("claude-opus-5-20260701", "5", "25"),
        ] {
            check("anthropic", model, today, input, output);
        }
        let prices = Prices::default().with_table();
        let haiku = prices.find("anthropic", Some("claude-3-5-haiku-20241022"), today);
        let haiku = haiku.unwrap();
        let rates = haiku.tariff.price.rates;
        assert_eq!(rates.cache_read, Some("0.08".parse().unwrap()));
        assert_eq!(rates.cache_write_5m, Some("1".parse().unwrap()));
        assert_eq!(rates.cache_write_1h, Some("1.6".parse().unwrap()));
        assert_eq!(haiku.tariff.as_of.as_deref(), Some("2026-08-21"));
    }

    #[test]
    fn a_price_changes_on_its_day() {
        let sonnet = "claude-sonnet-5";
        check("anthropic", sonnet, date(2026, 8, 31), "2", "10");
        check("anthropic", sonnet, date(2026, 9, 1), "3", "15");
        let prices = Prices::default().with_table();
        let above = |day| {
            let line = prices.find("anthropic", Some("claude-opus-4-6"), day);
            line.unwrap().tariff.price.above
        };
        assert_eq!(above(date(2026, 3, 12)).unwrap().tokens, 200_000);
        assert_eq!(above(date(2026, 3, 13)), None);
        let shown = |day| {
            let lines = prices.in_force(day);
            let lines = lines.filter(|line| line.is_for("anthropic", Some(sonnet)));
            lines.map(|line| line.valid_from).collect::<Vec<_>>()
        };
        assert_eq!(shown(date(2026, 8, 31)), [None]);
        assert_eq!(shown(date(2026, 9, 1)), [Some(date(2026, 9, 1))]);
    }

    #[test]
    fn a_model_that_is_not_in_the_table_has_no_price() {
        let today = date(2026, 8, 21);
        let prices = Prices::default().with_table();
        for (provider, model) in [
            ("openai", "gpt-4o-mini-like"),
            ("anthropic", "gpt-4o-mini"),
            // It may cost something else than the version before it.
            ("anthropic", "claude-opus-5-5"),
            ("vllm", "gpt-4o-mini"),
        ] {
            assert_eq!(prices.find(provider, Some(model), today), None, "{model}");
        }
        assert_eq!(prices.find("openai", None, today), None);
    }

    /// Runs that are stored name their price by its digest.
    #[test]
    fn the_prices_of_stored_runs_are_found_under_the_names_they_had() {
        let today = date(2026, 8, 21);
        let prices = Prices::default().with_table();
        let id = |model| {
            let line = prices.find("openai", Some(model), today).unwrap();
            line.tariff.id().to_owned()
        };
        assert_eq!(id("gpt-4o-mini"), "f196e9034212");
        assert_eq!(id("gpt-5.6-luna"), "71cb6c86e18a");
    }
}
