//! Price files: CSV whose header names the columns, in any order. The built-in table is one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Terminator, Trim, WriterBuilder};
use glob::Pattern;
use jiff::civil::Date;

use super::named::BackendType;
use super::price_list::{ANY, PriceLine};
use super::read::read_up_to;
use super::source::mask;
use super::{Place, Problem, Problems, suggest};
use crate::words::{Above, Price, Rate, Rates, Tariff, Usd};

/// The largest price file, in bytes.
const MAX_FILE: u64 = 10 << 20;
/// After so many problems a file is read no further.
const MAX_PROBLEMS: usize = 20;

/// The columns of the ordinary rates and of those of the batch service, class by class.
const RATES: [&str; 5] = [
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
];
const BATCH: [&str; 5] = [
    "batch_input",
    "batch_output",
    "batch_cache_read",
    "batch_cache_write_5m",
    "batch_cache_write_1h",
];
/// The columns without which there is no price.
const REQUIRED: [&str; 4] = ["provider", "models", "input", "output"];

/// Every column, in the order in which they are written.
fn columns() -> Vec<&'static str> {
    let before = ["provider", "models", "valid_from", "above_tokens"];
    let after = ["per_request", "per_hour", "source", "as_of"];
    [&before[..], &RATES, &BATCH, &after].concat()
}

/// Reads a price file.
pub fn read(path: &Path) -> Result<Vec<PriceLine>, Problems> {
    let help = "it should hold a line for each price and nothing else";
    let text = read_up_to(path, MAX_FILE, help)?;
    parse(path, &text)
}

/// Reads the text of a price file as if it stood at this path.
pub fn parse(path: &Path, text: &str) -> Result<Vec<PriceLine>, Problems> {
    let mut file = PriceFile {
        path,
        text: text.trim_start_matches('\u{feff}'),
        header: Vec::new(),
        problems: Vec::new(),
    };
    let lines = file.lines();
    match file.problems.is_empty() {
        true => Ok(lines),
        false => Err(Problems(file.problems)),
    }
}

/// A price file while it is read.
struct PriceFile<'a> {
    path: &'a Path,
    text: &'a str,
    /// The names of the columns.
    header: Vec<String>,
    problems: Vec<Problem>,
}

/// A line as it is written: the rates of an ordinary request, or those above a number of tokens.
struct Written {
    line: PriceLine,
    above_tokens: Option<u64>,
    record: StringRecord,
}

impl PriceFile<'_> {
    fn lines(&mut self) -> Vec<PriceLine> {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            .trim(Trim::All)
            .from_reader(self.text.as_bytes());
        // What is text, in memory, with lines of any length, can always be read.
        let mut records = reader.into_records().map_while(Result::ok);
        if !self.read_header(records.next()) {
            return Vec::new();
        }
        let (mut lines, mut above) = (Vec::new(), Vec::new());
        let mut known = HashMap::new();
        for record in records {
            if self.problems.len() >= MAX_PROBLEMS {
                let message = "the file has more problems: it was read no further";
                self.problem(&record, 0, message);
                break;
            }
            let Some(written) = self.line(record) else {
                continue;
            };
            if written.above_tokens.is_some() {
                above.push(written);
                continue;
            }
            match known.entry(written.line.key()) {
                Entry::Vacant(entry) => {
                    entry.insert(lines.len());
                    lines.push(written.line);
                }
                Entry::Occupied(_) => {
                    let message = "there is a line for the same models and the same day already";
                    self.problem(&written.record, self.at("models"), message);
                }
            }
        }
        for written in above {
            let position = known.get(&written.line.key());
            let line = position.and_then(|position| lines.get_mut(*position));
            self.add_above(line, &written);
        }
        lines
    }

    /// Reads the names of the columns; whether lines can be read by them.
    fn read_header(&mut self, record: Option<StringRecord>) -> bool {
        let Some(record) = record else {
            let message = format!("{} holds no prices", self.path.display());
            let problem = Problem::new(message);
            let help = format!("its first line names the columns: {}", REQUIRED.join(","));
            self.problems.push(problem.help(help));
            return false;
        };
        let columns = columns();
        for (position, name) in record.iter().enumerate() {
            let place = self.place(&record, position);
            if !columns.contains(&name) {
                let problem = Problem::new(mask(&format!("unknown column `{name}`"))).at(place);
                self.problems.push(suggest::among(problem, name, &columns));
            } else if self.header.iter().any(|known| known == name) {
                let problem = Problem::new(format!("the column `{name}` is named twice"));
                self.problems.push(problem.at(place));
            }
            self.header.push(name.to_owned());
        }
        let missing = REQUIRED.map(|name| (name, !self.header.iter().any(|known| known == name)));
        for (name, _) in missing.iter().filter(|(_, is_missing)| *is_missing) {
            self.problem(&record, 0, &format!("there is no column `{name}`"));
        }
        self.problems.is_empty()
    }

    fn line(&mut self, record: StringRecord) -> Option<Written> {
        let before = self.problems.len();
        if record.len() != self.header.len() {
            let (cells, columns) = (record.len(), self.header.len());
            let message = format!(
                "the line has {cells} cells, but there are {columns} columns in the header"
            );
            let last = cells.min(columns) - 1;
            self.problem(&record, last, &message);
            return None;
        }
        for name in REQUIRED {
            if self.cell(&record, name).is_empty() {
                let message = format!("the line has no `{name}`");
                self.problem(&record, self.at(name), &message);
            }
        }
        let provider = self.provider(&record);
        let patterns = self.patterns(&record);
        let valid_from: Option<Date> = self.read(&record, "valid_from", day);
        let above_tokens = self.read(&record, "above_tokens", |cell| {
            cell.parse().map_err(|_| "expected a number of tokens")
        });
        let rates = self.rates(&record, RATES);
        let batch = self.batch(&record);
        let price = Price {
            rates: rates.unwrap_or_default(),
            above: None,
            per_request: self.read(&record, "per_request", fee).unwrap_or_default(),
            per_hour: self.read(&record, "per_hour", fee).unwrap_or_default(),
        };
        let as_of = self.read(&record, "as_of", |cell| day(cell).map(|_| cell.to_owned()));
        let source = match self.cell(&record, "source") {
            "" => self.path.file_name().unwrap_or_default().to_string_lossy(),
            source => source.into(),
        };
        if above_tokens.is_some() && (price.per_request, price.per_hour) != Default::default() {
            let message = "a fee does not depend on the tokens: it belongs in the ordinary line";
            self.problem(&record, self.at("above_tokens"), message);
        }
        let line = PriceLine {
            provider,
            models: self.cell(&record, "models").to_owned(),
            valid_from,
            tariff: Tariff::new(price, source, as_of),
            batch: batch.map(|rates| Price {
                rates,
                ..Price::FREE
            }),
            patterns,
        };
        (self.problems.len() == before).then_some(Written {
            line,
            above_tokens,
            record,
        })
    }

    /// Adds the rates for much input to the line that they belong to.
    fn add_above(&mut self, line: Option<&mut PriceLine>, written: &Written) {
        let Some(tokens) = written.above_tokens else {
            return;
        };
        let Some(line) = line else {
            let message = "there is no line without `above_tokens` for the same models and day";
            return self.problem(&written.record, self.at("above_tokens"), message);
        };
        let mut price = line.tariff.price;
        if price.above.is_some() {
            let message = "there can be one `above_tokens` for the same models and day";
            return self.problem(&written.record, self.at("above_tokens"), message);
        }
        if line.batch.is_some() != written.line.batch.is_some() {
            let message = "batch prices must stand in both lines of the same models, or in neither";
            return self.problem(&written.record, self.at("above_tokens"), message);
        }
        let above = |price: &Price| {
            let rates = price.rates;
            Some(Above { tokens, rates })
        };
        price.above = above(&written.line.tariff.price);
        let Tariff { source, as_of, .. } = line.tariff.clone();
        line.tariff = Tariff::new(price, source, as_of);
        if let (Some(batch), Some(written)) = (&mut line.batch, &written.line.batch) {
            batch.above = above(written);
        }
    }

    fn provider(&mut self, record: &StringRecord) -> String {
        let cell = self.cell(record, "provider").to_owned();
        let mut names = BackendType::NAMES.map(|(name, _)| name).to_vec();
        names.push(ANY);
        if !cell.is_empty() && !names.contains(&&*cell) {
            let message = mask(&format!("there is no type of backend `{cell}`"));
            let problem = Problem::new(message).at(self.place(record, self.at("provider")));
            self.problems.push(suggest::among(problem, &cell, &names));
        }
        cell
    }

    fn patterns(&mut self, record: &StringRecord) -> Vec<Pattern> {
        let patterns = self.read(record, "models", |cell| {
            let patterns: Result<Vec<Pattern>, _> = cell.split('|').map(Pattern::new).collect();
            patterns.map_err(|_| "expected names or patterns of models, divided by `|`")
        });
        patterns.unwrap_or_default()
    }

    /// The rates in these columns; `None` without one for input and one for output.
    fn rates(&mut self, record: &StringRecord, columns: [&str; 5]) -> Option<Rates> {
        let rates = columns.map(|name| self.read(record, name, str::parse::<Rate>));
        let [input, output, cache_read, cache_write_5m, cache_write_1h] = rates;
        Some(Rates {
            input: input?,
            output: output?,
            cache_read,
            cache_write_5m,
            cache_write_1h,
        })
    }

    fn batch(&mut self, record: &StringRecord) -> Option<Rates> {
        let written = |name: &&str| !self.cell(record, name).is_empty();
        let some = BATCH.iter().any(written);
        let whole = BATCH[..2].iter().all(written);
        if some && !whole {
            let at = BATCH.iter().find(|name| written(name)).copied();
            let message = "batch prices need `batch_input` and `batch_output`";
            self.problem(record, self.at(at.unwrap_or_default()), message);
        }
        self.rates(record, BATCH)
    }

    /// Reads a cell; nothing, where it is empty or wrong.
    fn read<T>(
        &mut self,
        record: &StringRecord,
        name: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let cell = self.cell(record, name);
        if cell.is_empty() {
            return None;
        }
        match parse(cell) {
            Ok(value) => Some(value),
            Err(expected) => {
                let message = format!("{expected}, found `{cell}`");
                self.problem(record, self.at(name), &message);
                None
            }
        }
    }

    /// The position of a column; the first one if it is not there.
    fn at(&self, name: &str) -> usize {
        let mut header = self.header.iter();
        header.position(|known| known == name).unwrap_or_default()
    }

    fn cell<'a>(&self, record: &'a StringRecord, name: &str) -> &'a str {
        let mut header = self.header.iter();
        let position = header.position(|known| known == name);
        position.and_then(|at| record.get(at)).unwrap_or_default()
    }

    fn problem(&mut self, record: &StringRecord, cell: usize, message: &str) {
        let place = self.place(record, cell);
        self.problems.push(Problem::new(mask(message)).at(place));
    }

    /// Where a cell stands.
    fn place(&self, record: &StringRecord, cell: usize) -> Place {
        let start = record.position().map_or(0, |at| at.byte() as usize);
        // What is left out before a record counts as its beginning.
        let mut skipped = self.text.get(start..).unwrap_or_default();
        while skipped.starts_with(['#', '\n', '\r']) {
            skipped = skipped.split_once('\n').map_or("", |(_, rest)| rest);
        }
        let start = self.text.len() - skipped.len();
        let line = skipped.lines().next().unwrap_or_default();
        let mut quoted = false;
        let mut cells = line.split(|character: char| {
            quoted ^= character == '"';
            character == ',' && !quoted
        });
        let before: usize = cells
            .by_ref()
            .take(cell)
            .map(|text| text.chars().count() + 1)
            .sum();
        Place {
            path: self.path.display().to_string(),
            line: self.text[..start].matches('\n').count() + 1,
            column: before.min(line.chars().count()) + 1,
            width: cells.next().unwrap_or_default().chars().count().max(1),
            source: mask(line),
        }
    }
}

fn day(cell: &str) -> Result<Date, &'static str> {
    cell.parse()
        .map_err(|_| "expected a day, such as 2026-08-21")
}

fn fee(cell: &str) -> Result<Usd, &'static str> {
    let expected = "expected US dollars as a decimal with at most 15 places";
    let amount: Usd = cell.parse()?;
    match amount >= Usd::ZERO {
        true => Ok(amount),
        false => Err(expected),
    }
}

/// Lines as the text of a price file. Of several for the same models and day the first is written.
pub fn write<'a>(lines: impl IntoIterator<Item = &'a PriceLine>) -> String {
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::Any(b'\n'))
        .from_writer(Vec::new());
    let mut written = HashSet::new();
    let mut records = vec![columns().into_iter().map(str::to_owned).collect()];
    for line in lines {
        if !written.insert(line.key()) {
            continue;
        }
        records.push(record(line, None));
        let above = line.tariff.price.above;
        records.extend(above.map(|above| record(line, Some(&above))));
    }
    for record in &records {
        // Writing to memory cannot fail.
        let _ = writer.write_record(record);
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// The cells of a line: of its ordinary rates, or of those above a number of tokens.
fn record(line: &PriceLine, above: Option<&Above>) -> Vec<String> {
    let Tariff {
        price,
        source,
        as_of,
        ..
    } = &line.tariff;
    let fee = |fee: Usd| match above.is_none() && fee != Usd::ZERO {
        true => fee.to_string(),
        false => String::new(),
    };
    let rates = above.map_or(price.rates, |above| above.rates);
    let batch = line.batch.and_then(|batch| match above {
        Some(_) => batch.above.map(|above| above.rates),
        None => Some(batch.rates),
    });
    let mut record = vec![
        line.provider.clone(),
        line.models.clone(),
        line.valid_from
            .map_or_else(String::new, |day| day.to_string()),
        above.map_or_else(String::new, |above| above.tokens.to_string()),
    ];
    record.extend(cells(Some(rates)));
    record.extend(cells(batch));
    record.extend([fee(price.per_request), fee(price.per_hour)]);
    record.extend([source.clone(), as_of.clone().unwrap_or_default()]);
    record
}

fn cells(rates: Option<Rates>) -> [String; 5] {
    let Some(rates) = rates else {
        return Default::default();
    };
    let Rates {
        input,
        output,
        cache_read,
        cache_write_5m,
        cache_write_1h,
    } = rates;
    let cells = [
        Some(input),
        Some(output),
        cache_read,
        cache_write_5m,
        cache_write_1h,
    ];
    cells.map(|rate| rate.map_or_else(String::new, |rate| rate.to_string()))
}
