//! `runner plan JOB`: what a run would ask, take and cost.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_prompt_orchestrator::output::BudgetLine;
use tokio_prompt_orchestrator::words::Usd;
use tokio_prompt_orchestrator::{
    BackendForecast, Because, CostRange, Counted, ExitCode, Forecast, ForecastOptions, Gap,
    Missing, Options, OutputFrom, Pace,
};

use super::args::PlanArgs;
use super::display::{many, thousands};
use super::reader::Reader;
use super::summary::table;
use super::terminal::{escape, out};
use super::{check, open_files, runtime, terminal};

/// Names the form of what `--json` prints. Keys are only ever added; what changes meaning changes this.
const SCHEMA: &str = "runner.plan/1";

/// Prints the forecast of a job, for people or for programs.
pub fn plan(args: &PlanArgs) -> ExitCode {
    let remote = args.count == "remote";
    let options = Options {
        set: args.set.clone(),
        out: args.out.clone(),
        limit: args.limit,
        // Who sends nothing needs no key.
        offline: !remote,
        no_cache: args.no_cache,
        prices: args.prices.clone(),
        ..Options::default()
    };
    let reader = Reader::of(args.json);
    let runner = match check::load(&args.job, &options, reader)
        .map(|runner| open_files::allow(runner, terminal::warn))
    {
        Ok(runner) => runner,
        Err(code) => return code,
    };
    check::tell(&runner);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let options = ForecastOptions {
        remote,
        sample: args.sample,
        output_tokens: args.output_tokens,
    };
    let forecast = match runtime.block_on(runner.forecast(&options)) {
        Ok(forecast) => forecast,
        Err(error) => {
            reader.error(&error);
            return error.exit_code();
        }
    };
    let job = &runner.plan().name;
    match args.json {
        true => terminal::json(&object(job, &forecast)),
        false => print(job, &forecast),
    }
    ExitCode::Success
}

fn print(job: &str, forecast: &Forecast) {
    out(&format!(
        "{}: {}, {} already answered, {} to ask",
        escape(job),
        many(forecast.rows, "row"),
        thousands(forecast.answered),
        thousands(forecast.due())
    ));
    for line in not_asked(forecast) {
        out(&format!("  {line}"));
    }
    out("");
    let mut rows: Vec<_> = forecast.backends.iter().map(cells).collect();
    if rows.len() > 1 {
        rows.push(total(forecast));
    }
    let header = [
        "backend",
        "asked first",
        "tokens in",
        "tokens out",
        "USD low",
        "USD expected",
        "USD at most",
    ];
    table(header, rows);
    for line in &forecast.backends {
        if line.first_asked > 0 || line.replies > 0 {
            out(&format!("{}: {}", escape(&line.backend), basis(line)));
        }
        for note in notes(line) {
            out(&format!("  {note}"));
        }
    }
    for said in &forecast.assumptions {
        out(said);
    }
    for gap in &forecast.gaps {
        out(&missing(gap, forecast));
    }
    if let Some(budget) = &forecast.budget {
        out(&room(budget, forecast));
    }
    out(&time(forecast.pace.as_ref()));
}

/// Rows that are not asked although they have no answer.
fn not_asked(forecast: &Forecast) -> Vec<String> {
    let mut lines = Vec::new();
    for (rows, why) in [
        (
            forecast.duplicates,
            "ask what another row asks, and take its answer over",
        ),
        (forecast.from_cache, "are answered by the cache"),
    ] {
        if rows > 0 {
            lines.push(format!("{} {why}", thousands(rows)));
        }
    }
    if let Some((row, why)) = &forecast.unsendable.first {
        let rows = thousands(forecast.unsendable.rows);
        lines.push(format!(
            "{rows} cannot be asked; first: row {}: {}",
            escape(row),
            escape(why)
        ));
    }
    lines
}

fn cells(line: &BackendForecast) -> [String; 7] {
    [
        escape(&line.backend),
        thousands(line.first_asked),
        thousands(line.input_tokens),
        thousands(line.output_tokens),
        dollars(line.cost.low),
        dollars(line.cost.expected),
        dollars(line.cost.at_most),
    ]
}

fn total(forecast: &Forecast) -> [String; 7] {
    let sum = |of: fn(&BackendForecast) -> u64| thousands(forecast.backends.iter().map(of).sum());
    [
        "total".to_owned(),
        thousands(forecast.due()),
        sum(|line| line.input_tokens),
        sum(|line| line.output_tokens),
        dollars(forecast.cost.low),
        dollars(forecast.cost.expected),
        dollars(forecast.cost.at_most),
    ]
}

fn dollars(amount: Option<Usd>) -> String {
    amount.map_or("unknown".to_owned(), |amount| amount.rounded(6))
}

/// Where the numbers of a backend are from.
fn basis(line: &BackendForecast) -> String {
    let mut text = format!("input {}", line.counted);
    if line.sampled < line.first_asked {
        text.push_str(&format!(
            ", on a sample of {} of {} requests",
            thousands(line.sampled),
            thousands(line.first_asked)
        ));
    }
    text.push_str(&format!("; output {}", line.expected_from));
    if let Some(tariff) = &line.tariff {
        let dated = tariff.as_of.as_ref().map(|day| format!(" of {day}"));
        match (tariff.price.is_free(), dated) {
            (true, None) => text.push_str("; free"),
            (_, dated) => {
                let dated = dated.unwrap_or_default();
                text.push_str(&format!("; price{dated} from {}", escape(&tariff.source)));
            }
        }
    }
    text
}

/// What else there is to say of a backend.
fn notes(line: &BackendForecast) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(why) = &line.not_counted {
        notes.push(format!("the server did not count: {}", escape(why)));
    }
    if line.too_large > 0 {
        let about = if line.sampled < line.first_asked {
            "about "
        } else {
            ""
        };
        notes.push(format!(
            "{about}{} of its requests are larger than its limits allow in a minute, and will fail there",
            thousands(line.too_large)
        ));
    }
    if let Some((paid, useful)) = line.in_vain {
        notes.push(format!(
            "raised as earlier attempts were: {} USD were paid for answers worth {}",
            paid.rounded(6),
            useful.rounded(6)
        ));
    }
    notes
}

fn missing(gap: &Gap, forecast: &Forecast) -> String {
    let name = escape(&gap.backend);
    let line = forecast
        .backends
        .iter()
        .find(|line| line.backend == gap.backend);
    let model = line.and_then(|line| line.model.as_deref());
    let model = model.map_or("its model".to_owned(), escape);
    match gap.missing {
        Missing::Price => format!(
            "the cost of {name} is unknown and in no sum: no price is known for {model}; set `price`"
        ),
        Missing::Time => format!(
            "the cost of {name} is unknown and in no sum: it is paid by the hour, and no limit says how long it takes"
        ),
        Missing::Bound => format!(
            "what {name} may cost at most is unknown and in no sum: it needs a `price`, and a cap on its answers"
        ),
    }
}

/// Whether the budget will do.
fn room(budget: &BudgetLine, forecast: &Forecast) -> String {
    let left = budget.left();
    let of = match budget.spent {
        Usd::ZERO => format!("the budget of ${left}"),
        _ => format!("the ${left} left of the budget of ${}", budget.plan.usd),
    };
    match (forecast.cost.expected, forecast.cost.at_most) {
        _ if !forecast.gaps.is_empty() => format!("whether {of} will do is unknown"),
        (_, Some(most)) if most <= left => format!("{of} will do"),
        (Some(expected), _) if expected > left => {
            format!(
                "{of} will not do: ${expected} is expected, and rows that do not fit are skipped"
            )
        }
        _ => format!("{of} is expected to do"),
    }
}

fn time(pace: Option<&Pace>) -> String {
    match pace {
        None => "no limit says how long it takes".to_owned(),
        Some(pace) => format!(
            "at least {}: {}",
            duration(pace.at_least),
            because(&pace.because)
        ),
    }
}

fn because(because: &Because) -> String {
    match because {
        Because::Limit { of, key, allows } => {
            format!("{key} of {} allows {}", escape(of), thousands(*allows))
        }
        Because::InFlight { of, requests } => {
            let of = of
                .as_ref()
                .map_or(String::new(), |of| format!(" at {}", escape(of)));
            let noun = if *requests == 1 {
                "request"
            } else {
                "requests"
            };
            format!("no more than {} {noun} in flight{of}", thousands(*requests))
        }
    }
}

/// In the two largest units.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => format!("{} ms", time.as_millis()),
        (0, 0, 0) if seconds < 10 => format!("{}.{} s", seconds, time.subsec_millis() / 100),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn object(job: &str, forecast: &Forecast) -> Value {
    let by_backend: Map<String, Value> = forecast
        .backends
        .iter()
        .map(|line| (line.backend.to_string(), numbers(line)))
        .collect();
    let gaps = forecast.gaps.iter().map(|gap| {
        let missing = match gap.missing {
            Missing::Price => "price",
            Missing::Time => "time",
            Missing::Bound => "bound",
        };
        json!({ "backend": &*gap.backend, "missing": missing })
    });
    let first = forecast.unsendable.first.as_ref();
    let mut cost = range(forecast.cost);
    cost["gaps"] = gaps.collect();
    json!({
        "schema": SCHEMA,
        "job": job,
        "rows": {
            "total": forecast.rows,
            "inputs": forecast.inputs,
            "answered": forecast.answered,
            "duplicates": forecast.duplicates,
            "from_cache": forecast.from_cache,
            "unsendable": forecast.unsendable.rows,
            "first_unsendable": first.map(|(row, why)| json!({ "row": row, "why": why })),
            "to_ask": forecast.due(),
        },
        "cost": cost,
        "assumptions": forecast.assumptions,
        "budget": forecast.budget.as_ref().map(BudgetLine::to_json),
        "time": forecast.pace.as_ref().map(at_least),
        "by_backend": by_backend,
    })
}

fn numbers(line: &BackendForecast) -> Value {
    json!({
        "model": line.model,
        "asked_first": line.first_asked,
        "sampled": line.sampled,
        "replies": line.replies,
        "too_large": line.too_large,
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
        "input_counted": counted(&line.counted),
        "input_not_counted": line.not_counted,
        "output_expected": expected(line.expected_from),
        "cost": range(line.cost),
        "price": line.tariff.as_ref().map(|tariff| json!({
            "source": tariff.source, "as_of": tariff.as_of, "terms": tariff.price,
        })),
        "paid_before_usd": line.in_vain.map(|(paid, _)| paid),
        "useful_before_usd": line.in_vain.map(|(_, useful)| useful),
        "time": line.pace.as_ref().map(at_least),
    })
}

fn range(cost: CostRange) -> Value {
    json!({
        "low_usd": cost.low, "expected_usd": cost.expected, "at_most_usd": cost.at_most,
    })
}

fn counted(counted: &Counted) -> Value {
    match counted {
        Counted::Exactly => json!({ "by": "exact" }),
        Counted::Tokenizer {
            vocabulary,
            is_the_models,
        } => json!({
            "by": "tokenizer", "vocabulary": vocabulary, "is_the_models": is_the_models,
        }),
        Counted::ByTheServer => json!({ "by": "server" }),
        Counted::AsBefore(requests) => json!({ "by": "history", "requests": requests }),
        Counted::Estimate { bytes, tokens } => {
            json!({ "by": "estimate", "bytes": bytes, "tokens": tokens })
        }
    }
}

fn expected(from: OutputFrom) -> Value {
    match from {
        OutputFrom::Exactly => json!({ "by": "exact" }),
        OutputFrom::Given(tokens) => json!({ "by": "given", "tokens": tokens }),
        OutputFrom::AsBefore(replies) => json!({ "by": "history", "replies": replies }),
        OutputFrom::Assumed(tokens) => json!({ "by": "assumed", "tokens": tokens }),
    }
}

fn at_least(pace: &Pace) -> Value {
    let milliseconds = u64::try_from(pace.at_least.as_millis()).unwrap_or(u64::MAX);
    let because = match &pace.because {
        Because::Limit { of, key, allows } => {
            json!({ "of": &**of, "limit": key, "allows": allows })
        }
        Because::InFlight { of, requests } => {
            json!({ "of": of.as_deref(), "limit": "concurrency", "allows": requests })
        }
    };
    json!({ "at_least_ms": milliseconds, "because": because })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        for (seconds, told) in [
            (0, "0 ms"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3 * 3600 + 12 * 60 + 5, "3 h 12 min"),
            (50 * 3600, "2 d 2 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), told);
        }
        assert_eq!(duration(Duration::from_millis(1_480)), "1.4 s");
    }
}
