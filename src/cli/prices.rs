//! `runner prices`: what the backends of a job charge, or every price that is known.

use jiff::civil::Date;
use serde_json::{Value, json};
use tokio_prompt_orchestrator::job::{Backend, PriceLine, write_prices};
use tokio_prompt_orchestrator::output::origin;
use tokio_prompt_orchestrator::words::{Price, Rate, Rates, Tariff, Usd};
use tokio_prompt_orchestrator::{ExitCode, Options};

use super::args::PricesArgs;
use super::display::thousands;
use super::reader::Reader;
use super::summary::table_of;
use super::terminal;
use super::terminal::{err, escape, out};

/// Names the form of what `--json` prints. Keys are only ever added; what changes meaning changes this.
const SCHEMA: &str = "runner.prices/1";
/// After so many days somebody should look whether a price still holds.
const OLD: i32 = 180;

/// What is charged for one backend, or for the models of a line.
struct Entry<'a> {
    /// What it is called in the table.
    names: Vec<String>,
    tariff: Option<&'a Tariff>,
    batch: Option<&'a Price>,
}

/// Prints the prices that hold today.
pub fn prices(args: &PricesArgs) -> ExitCode {
    let printed = match &args.job {
        Some(job) => {
            let options = Options {
                set: args.set.clone(),
                prices: args.prices.clone(),
                ..Options::default()
            };
            tokio_prompt_orchestrator::prices(job, &options).map(|backends| of_job(&backends, args))
        }
        None => {
            let lines = tokio_prompt_orchestrator::price_list(&args.prices);
            lines.map(|lines| of_models(lines, args))
        }
    };
    match printed {
        Ok(()) => ExitCode::Success,
        Err(problems) => {
            Reader::of(args.json).problems(&problems);
            ExitCode::Usage
        }
    }
}

fn of_job(backends: &[Backend], args: &PricesArgs) {
    let unknown: Vec<&str> = backends
        .iter()
        .filter(|backend| backend.tariff.is_none())
        .map(|backend| &*backend.name)
        .collect();
    if args.csv {
        let lines = backends.iter().filter_map(|backend| {
            let tariff = Tariff::clone(backend.tariff.as_ref()?);
            let kind = &backend.kind;
            let line = PriceLine::of(kind.type_name(), kind.model(), tariff, backend.batch);
            Some(line)
        });
        csv(&lines.collect::<Vec<_>>());
    } else if args.json {
        json(backends.iter().map(|backend| {
            let names = json!({
                "backend": &*backend.name,
                "type": backend.kind.type_name(),
                "model": backend.model(),
            });
            (names, backend.tariff.as_deref(), backend.batch.as_ref())
        }));
    } else {
        let entries: Vec<Entry<'_>> = backends.iter().map(entry).collect();
        show(&["backend", "model"], &entries);
        for (source, names) in sources(&entries) {
            out(&format!("{}: {source}", names.join(", ")));
        }
    }
    if !unknown.is_empty() {
        err(&format!(
            "no price is known for {}: set `price` of the backend, or name a file of prices with `--prices`",
            escape(&unknown.join(", "))
        ));
    }
    let tariffs = backends
        .iter()
        .filter_map(|backend| backend.tariff.as_deref());
    warn_of_age(tariffs);
}

fn entry(backend: &Backend) -> Entry<'_> {
    let model = backend.model().map_or("-".to_owned(), escape);
    Entry {
        names: vec![escape(&backend.name), model],
        tariff: backend.tariff.as_deref(),
        batch: backend.batch.as_ref(),
    }
}

fn of_models(mut lines: Vec<PriceLine>, args: &PricesArgs) {
    if let Some(wanted) = &args.model {
        lines.retain(|line| line.is_meant(wanted));
        if lines.is_empty() {
            err(&format!(
                "no price is known for {}",
                escape(wanted.as_str())
            ));
        }
    }
    if args.csv {
        csv(&lines);
    } else if args.json {
        json(lines.iter().map(|line| {
            let names = json!({
                "type": line.provider,
                "models": line.models,
                "valid_from": line.valid_from.map(|day| day.to_string()),
            });
            (names, Some(&line.tariff), line.batch.as_ref())
        }));
    } else {
        let heading = |line: &PriceLine| {
            let provider = escape(&line.provider);
            format!("{provider}: {}", escape(&origin(&line.tariff)))
        };
        let chunks = lines.chunk_by(|one, other| heading(one) == heading(other));
        for lines in chunks {
            out(&heading(&lines[0]));
            let entries = lines.iter().map(|line| Entry {
                names: vec![short(&line.models)],
                tariff: Some(&line.tariff),
                batch: line.batch.as_ref(),
            });
            show(&["models"], &entries.collect::<Vec<_>>());
        }
    }
    warn_of_age(lines.iter().map(|line| &line.tariff));
}

/// The first of the names, and how many more there are.
fn short(models: &str) -> String {
    let (first, others) = models.split_once('|').unwrap_or((models, ""));
    match others.split('|').filter(|name| !name.is_empty()).count() {
        0 => escape(first),
        others => format!("{} (+{others})", escape(first)),
    }
}

fn csv(lines: &[PriceLine]) {
    out(write_prices(lines).trim_end());
}

fn json<'a>(entries: impl Iterator<Item = (Value, Option<&'a Tariff>, Option<&'a Price>)>) {
    let entries = entries.map(|(mut entry, tariff, batch)| {
        entry["price"] = json!(tariff.map(|tariff| tariff.price));
        entry["batch"] = json!(batch);
        entry["source"] = json!(tariff.map(|tariff| &tariff.source));
        entry["as_of"] = json!(tariff.and_then(|tariff| tariff.as_of.as_ref()));
        entry["price_id"] = json!(tariff.map(Tariff::id));
        entry
    });
    let entries: Vec<Value> = entries.collect();
    let all = json!({ "schema": SCHEMA, "prices": entries });
    terminal::json(&all);
}

/// A column of numbers: its header, and the cell of a price.
type Column = (&'static str, fn(&Price, Option<&Price>) -> Option<String>);

const COLUMNS: [Column; 9] = [
    ("input", |price, _| rate(price.rates.input)),
    ("output", |price, _| rate(price.rates.output)),
    ("cache read", |price, _| {
        price.rates.cache_read.and_then(rate)
    }),
    ("write 5m", |price, _| {
        price.rates.cache_write_5m.and_then(rate)
    }),
    ("write 1h", |price, _| {
        price.rates.cache_write_1h.and_then(rate)
    }),
    ("batch in", |_, batch| rate(batch?.rates.input)),
    ("batch out", |_, batch| rate(batch?.rates.output)),
    ("request", |price, _| fee(price.per_request)),
    ("hour", |price, _| fee(price.per_hour)),
];

fn rate(rate: Rate) -> Option<String> {
    Some(rate.to_string())
}

fn fee(fee: Usd) -> Option<String> {
    (fee != Usd::ZERO).then(|| fee.to_string())
}

/// Prints a table of prices, USD per million tokens; columns in which nothing stands are left out.
fn show(names: &[&str], entries: &[Entry<'_>]) {
    let mut rows: Vec<(Vec<String>, Vec<Option<String>>)> = Vec::new();
    for entry in entries {
        let Some(tariff) = entry.tariff else {
            let unknown = ["unknown", "unknown"].map(|text| Some(text.to_owned()));
            let empty = std::iter::repeat(None);
            let cells = unknown.into_iter().chain(empty).take(COLUMNS.len());
            rows.push((entry.names.clone(), cells.collect()));
            continue;
        };
        let cells = |price: &Price, batch: Option<&Price>| -> Vec<Option<String>> {
            COLUMNS.iter().map(|(_, cell)| cell(price, batch)).collect()
        };
        rows.push((entry.names.clone(), cells(&tariff.price, entry.batch)));
        if let Some(above) = tariff.price.above {
            let only = |rates: Rates| Price {
                rates,
                ..Price::FREE
            };
            let batch = entry.batch.and_then(|batch| batch.above);
            let batch = batch.map(|above| only(above.rates));
            let mut names = vec![String::new(); names.len() - 1];
            names.push(format!("  over {} tokens in", thousands(above.tokens)));
            rows.push((names, cells(&only(above.rates), batch.as_ref())));
        }
    }
    let used = |column: usize| column < 2 || rows.iter().any(|(_, cells)| cells[column].is_some());
    let used: Vec<usize> = (0..COLUMNS.len()).filter(|column| used(*column)).collect();
    let numbers = used.iter().map(|column| COLUMNS[*column].0);
    let header: Vec<&str> = names.iter().copied().chain(numbers).collect();
    let line = |(mut names, cells): (Vec<String>, Vec<Option<String>>)| {
        let shown = used.iter().map(|column| cells[*column].clone());
        names.extend(shown.map(|cell| cell.unwrap_or_else(|| "-".to_owned())));
        names
    };
    table_of(names.len(), header, rows.into_iter().map(line).collect());
}

/// Whose word each price is, and whose prices those are.
fn sources(entries: &[Entry<'_>]) -> Vec<(String, Vec<String>)> {
    let mut sources: Vec<(String, Vec<String>)> = Vec::new();
    for entry in entries {
        let Some(tariff) = entry.tariff else { continue };
        let source = escape(&origin(tariff));
        let name = entry.names[0].clone();
        match sources.iter_mut().find(|(known, _)| *known == source) {
            Some((_, names)) => names.push(name),
            None => sources.push((source, vec![name])),
        }
    }
    sources
}

/// Says so if somebody should look whether these prices still hold.
fn warn_of_age<'a>(tariffs: impl Iterator<Item = &'a Tariff>) {
    let days = tariffs.filter_map(|tariff| tariff.as_of.as_deref()?.parse::<Date>().ok());
    let Some(oldest) = days.min() else { return };
    let today = jiff::Zoned::now().date();
    let age = today.since(oldest).map_or(0, |span| span.get_days());
    if age > OLD {
        err(&format!(
            "warning: prices of {oldest} are {age} days old: look whether they still hold, and name a file with \
             those that do not (`--prices`)"
        ));
    }
}
