//! The built-in price table: what OpenAI and Anthropic publish, dated.

use jiff::civil::Date;

use crate::words::{Above, Price, Provider, Rate, Rates, Tariff};

/// The table; its first lines say where it comes from and how to read it.
const TABLE: &str = include_str!("prices.csv");

/// The day of which the table is.
const AS_OF: &str = "2026-08-21";

/// A line of the table.
struct Line<'a> {
    provider: &'a str,
    models: &'a str,
    valid_from: Option<Date>,
    above_tokens: Option<u64>,
    rates: Rates,
    source: &'a str,
}

/// What this model costs on this day; `None` where the table does not know it.
pub fn lookup(provider: Provider, model: &str, today: Date) -> Option<Tariff> {
    let provider = match provider {
        Provider::OpenAi => "openai",
        Provider::Anthropic => "anthropic",
        Provider::LlamaCpp | Provider::Vllm => return None,
    };
    let holds: Vec<Line<'_>> = lines()
        .flatten()
        .filter(|line| line.provider == provider)
        .filter(|line| {
            line.models
                .split('|')
                .any(|pattern| matches(pattern, model))
        })
        .filter(|line| line.valid_from.is_none_or(|day| day <= today))
        .collect();
    let ordinary = holds
        .iter()
        .filter(|line| line.above_tokens.is_none())
        .max_by_key(|line| line.valid_from)?;
    let above = holds.iter().find_map(|line| {
        let same = line.models == ordinary.models && line.valid_from == ordinary.valid_from;
        Some(Above {
            tokens: line.above_tokens.filter(|_| same)?,
            rates: line.rates,
        })
    });
    let price = Price {
        rates: ordinary.rates,
        above,
        ..Price::FREE
    };
    let as_of = Some(AS_OF.to_owned());
    Some(Tariff::new(price, ordinary.source, as_of))
}

/// Every line below the comments and the header; `None` for one that cannot be read.
fn lines() -> impl Iterator<Item = Option<Line<'static>>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.skip(1).map(read)
}

fn read(line: &str) -> Option<Line<'_>> {
    let cells: Vec<&str> = line.split(',').collect();
    let [
        provider,
        models,
        from,
        above,
        input,
        output,
        read,
        write_5m,
        write_1h,
        source,
    ] = cells.as_slice().try_into().ok()?;
    let optional = |cell: &str| -> Option<Option<Rate>> {
        match cell {
            "" => Some(None),
            cell => cell.parse().ok().map(Some),
        }
    };
    Some(Line {
        provider,
        models,
        valid_from: match from {
            "" => None,
            from => Some(from.parse().ok()?),
        },
        above_tokens: match above {
            "" => None,
            above => Some(above.parse().ok()?),
        },
        rates: Rates {
            input: input.parse().ok()?,
            output: output.parse().ok()?,
            cache_read: optional(read)?,
            cache_write_5m: optional(write_5m)?,
            cache_write_1h: optional(write_1h)?,
        },
        source,
    })
}

fn matches(pattern: &str, model: &str) -> bool {
    glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn every_line_of_the_table_can_be_read() {
        assert!(lines().count() > 80);
        for (number, line) in lines().enumerate() {
            let line = line.unwrap_or_else(|| panic!("data line {}", number + 1));
            assert!(["openai", "anthropic"].contains(&line.provider));
            for pattern in line.models.split('|') {
                assert!(glob::Pattern::new(pattern).is_ok(), "{pattern}");
            }
        }
    }

    #[track_caller]
    fn check(provider: Provider, model: &str, today: Date, input: &str, output: &str) {
        let price = lookup(provider, model, today).expect(model).price;
        assert_eq!(price.rates.input, input.parse().unwrap(), "{model}");
        assert_eq!(price.rates.output, output.parse().unwrap(), "{model}");
    }

    #[test]
    fn well_known_models_cost_what_is_published() {
        let today = date(2026, 8, 21);
        let (openai, anthropic) = (Provider::OpenAi, Provider::Anthropic);
        check(openai, "gpt-4o-mini", today, "0.15", "0.6");
        check(openai, "gpt-3.5-turbo-instruct", today, "1.5", "2");
        check(openai, "gpt-4", today, "30", "60");
        check(openai, "gpt-4-turbo", today, "10", "30");
        check(openai, "text-davinci-003", today, "20", "20");
        check(anthropic, "claude-3-5-haiku-20241022", today, "0.8", "4");
        check(anthropic, "claude-3-opus-20240229", today, "15", "75");
        let haiku = lookup(anthropic, "claude-3-5-haiku-20241022", today)
            .unwrap()
            .price;
        assert_eq!(haiku.rates.cache_read, Some("0.08".parse().unwrap()));
        assert_eq!(haiku.rates.cache_write_5m, Some("1".parse().unwrap()));
        assert_eq!(haiku.rates.cache_write_1h, Some("1.6".parse().unwrap()));
    }

    #[test]
    fn a_price_changes_on_its_day() {
        let sonnet = "claude-sonnet-5";
        check(Provider::Anthropic, sonnet, date(2026, 8, 31), "2", "10");
        check(Provider::Anthropic, sonnet, date(2026, 9, 1), "3", "15");
        let opus = |day| {
            lookup(Provider::Anthropic, "claude-opus-4-6", day)
                .unwrap()
                .price
        };
        assert_eq!(opus(date(2026, 3, 12)).above.unwrap().tokens, 200_000);
        assert_eq!(opus(date(2026, 3, 13)).above, None);
    }

    #[test]
    fn a_model_that_is_not_in_the_table_has_no_price() {
        let today = date(2026, 8, 21);
        assert_eq!(lookup(Provider::OpenAi, "gpt-4o-mini-like", today), None);
        assert_eq!(lookup(Provider::Anthropic, "gpt-4o-mini", today), None);
        assert_eq!(lookup(Provider::Vllm, "gpt-4o-mini", today), None);
    }
}
