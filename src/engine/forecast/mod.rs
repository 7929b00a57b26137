//! A forecast: what a run would ask, take and cost, without a prompt being sent and without a byte being written.
//!
//! `docs/costs.md` says for people how the numbers come about. One pass over the rows counts what is due and draws a sample for each backend (`survey`); what earlier runs teach
//! comes from the store (`history`). Each request of the sample is then counted (`gauge`, with `tokenizer`; `remote`
//! where the job's own servers are to count) and weighed (`weigh`), and the sums stand for all. `pace` says how long
//! the limits make it take.

mod follow;
mod gauge;
mod history;
mod mean;
mod pace;
mod remote;
mod survey;
mod tokenizer;
mod weigh;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::money::budget_line;
use super::summary::RunError;
use crate::input::Inputs;
use crate::job::{Identity, Plan};
use crate::output::BudgetLine;
use crate::store::{Reader, StoreError, has_store};
use crate::words::{Tariff, Usd};
use crate::worker::ModelWorker;

use gauge::Gauge;

/// How a forecast is made.
#[derive(Debug, Clone, Default)]
pub struct ForecastOptions {
    /// Whether servers that count tokens for nothing are asked to. Needs their keys.
    pub remote: bool,
    /// How many requests of each backend are counted; the others are taken to be like them. Without it 5,000, or 200
    /// that a server counts.
    pub sample: Option<u64>,
    /// The output tokens of an answer, where nothing better is known than a guess.
    pub output_tokens: Option<u64>,
}

/// What a run would ask, take and cost.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// The rows of the input.
    pub inputs: u64,
    /// The same, each counted once for each entry of the matrix and repeat.
    pub rows: u64,
    /// How many of them are done.
    pub answered: u64,
    /// How many others take over what a row has that asks the same.
    pub duplicates: u64,
    /// How many are answered by the cache.
    pub from_cache: u64,
    /// How many cannot be asked: their prompt cannot be rendered, or no rule says whom to ask.
    pub unsendable: Unsendable,
    /// What will be asked of each backend, in the order of the job.
    pub backends: Vec<BackendForecast>,
    /// What it costs, as far as that is known.
    pub cost: CostRange,
    /// What is missing in the cost.
    pub gaps: Vec<Gap>,
    /// What is taken for granted of re-asks and escalations: sentences for a person.
    pub assumptions: Vec<String>,
    /// The job's budget, if it has one, as earlier runs have left it.
    pub budget: Option<BudgetLine>,
    /// How long it takes at least, and why.
    pub pace: Option<Pace>,
}

impl Forecast {
    /// How many rows will be asked.
    pub fn due(&self) -> u64 {
        self.backends.iter().map(|line| line.first_asked).sum()
    }
}

/// Rows that cannot be asked.
#[derive(Debug, Clone, Default)]
pub struct Unsendable {
    /// How many.
    pub rows: u64,
    /// The first one, and why.
    pub first: Option<(String, String)>,
}

/// What will be asked of a backend.
#[derive(Debug, Clone)]
pub struct BackendForecast {
    /// Its name in the job.
    pub backend: Arc<str>,
    /// The model it asks for, where it names one.
    pub model: Option<String>,
    /// How many rows are asked of it first.
    pub first_asked: u64,
    /// How many of them were counted and weighed; they stand for the others.
    pub sampled: u64,
    /// How many replies it is expected to give.
    pub replies: u64,
    /// How many of the rows that are asked of it first need more tokens than its limits ever allow.
    pub too_large: u64,
    /// The input tokens of the replies.
    pub input_tokens: u64,
    /// The output tokens of the replies.
    pub output_tokens: u64,
    /// How the input tokens were counted.
    pub counted: Counted,
    /// Why the server did not count them, though it was to.
    pub not_counted: Option<String>,
    /// Where the output tokens are from.
    pub expected_from: OutputFrom,
    /// What it costs.
    pub cost: CostRange,
    /// What it charges; `None` where nobody knows.
    pub tariff: Option<Arc<Tariff>>,
    /// What earlier attempts cost, and how much of that rows ended with: the expected cost is raised by as much.
    pub in_vain: Option<(Usd, Usd)>,
    /// How long it takes at least, and why.
    pub pace: Option<Pace>,
}

/// An amount before it is spent. `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CostRange {
    /// If every row is answered at once, in one token.
    pub low: Option<Usd>,
    /// As far as anybody can say.
    pub expected: Option<Usd>,
    /// If every attempt is made that `retry` and the route allow, and each is as dear as its bytes and its cap let it
    /// be: what a budget has to have room for.
    pub at_most: Option<Usd>,
}

/// What is missing in a cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The backend whose cost is not known.
    pub backend: Arc<str>,
    /// What is not known.
    pub missing: Missing,
}

/// What must be known to know a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The price of the model.
    Price,
    /// How long the server is busy, which is paid by the hour.
    Time,
    /// A price, or a cap on what is answered: without them there is no upper bound.
    Bound,
}

/// How input tokens were counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// The backend counts words, or says what the job has it say.
    Exactly,
    /// With a vocabulary of OpenAI's.
    Tokenizer {
        /// Its name.
        vocabulary: &'static str,
        /// Whether it is known to be the model's.
        is_the_models: bool,
    },
    /// By the server that would be asked.
    ByTheServer,
    /// As in so many earlier requests.
    AsBefore(u64),
    /// So many bytes for so many tokens, as a rule of thumb.
    Estimate {
        /// Bytes.
        bytes: u64,
        /// Tokens.
        tokens: u64,
    },
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Counted::Exactly => f.write_str("exact"),
            Counted::Tokenizer {
                vocabulary,
                is_the_models: true,
            } => write!(f, "tiktoken {vocabulary}"),
            Counted::Tokenizer { vocabulary, .. } => {
                write!(f, "tiktoken {vocabulary}, for want of the model's own")
            }
            Counted::ByTheServer => f.write_str("counted by the server"),
            Counted::AsBefore(requests) => write!(f, "as in {requests} earlier requests"),
            Counted::Estimate { bytes, tokens: 1 } => {
                write!(f, "estimate: {bytes} bytes a token")
            }
            Counted::Estimate { bytes, tokens } => {
                write!(f, "estimate: {bytes} bytes for {tokens} tokens")
            }
        }
    }
}

/// Where expected output tokens are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFrom {
    /// The backend's script says what it answers.
    Exactly,
    /// Whoever asked for the forecast said so.
    Given(u64),
    /// The mean of so many earlier replies.
    AsBefore(u64),
    /// Nobody knows: half of the cap, and no more than 128.
    Assumed(u64),
}

impl fmt::Display for OutputFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputFrom::Exactly => f.write_str("exact"),
            OutputFrom::Given(tokens) => write!(f, "{tokens} an answer, as given"),
            OutputFrom::AsBefore(replies) => write!(f, "as in {replies} earlier replies"),
            OutputFrom::Assumed(tokens) => write!(f, "{tokens} an answer, assumed"),
        }
    }
}

/// How long something takes at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// So long.
    pub at_least: Duration,
    /// What makes it take so long.
    pub because: Because,
}

/// What makes a run take as long as it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// A limit of the job.
    Limit {
        /// The backend, or the account of several.
        of: Arc<str>,
        /// Its key in the job file.
        key: &'static str,
        /// What it allows a minute.
        allows: u64,
    },
    /// So many requests in flight, each of which takes its time.
    InFlight {
        /// The backend; `None` for all of them together.
        of: Option<Arc<str>>,
        /// How many at once.
        requests: u64,
    },
}

/// Looks into the future of a job.
pub(super) async fn forecast(
    plan: &Plan,
    inputs: &Inputs,
    options: &ForecastOptions,
    looks_in_cache: bool,
    workers: &[Option<Arc<dyn ModelWorker>>],
) -> Result<Forecast, RunError> {
    let dir = &plan.output.dir;
    let reader = has_store(dir).then(|| Reader::open(dir)).transpose();
    let reader = match reader {
        // What a killed runner left before it had begun.
        Err(StoreError::NoRun { .. }) => None,
        other => other?,
    };
    let identities: Vec<Identity> = plan.backends.iter().map(|b| b.identity()).collect();
    let survey = survey::Survey {
        plan,
        identities: &identities,
        reader: reader.as_ref(),
        looks_in_cache,
        sizes: workers
            .iter()
            .map(|worker| options.sample_size(worker.is_some()))
            .collect(),
    };
    let found = survey.of(inputs)?;
    let past = match &reader {
        Some(reader) => history::learn(reader, plan, &identities)?,
        None => vec![history::Past::default(); plan.backends.len()],
    };
    let tally = reader.as_ref().map(Reader::tally).transpose()?;
    let tally = tally.unwrap_or_default();
    drop(reader);
    let backends = plan.backends.iter().zip(past);
    let mut gauges: Vec<Gauge<'_>> = backends
        .map(|(backend, past)| Gauge::of(backend, past, options.output_tokens))
        .collect();
    for (at, worker) in workers.iter().enumerate() {
        if let Some(worker) = worker {
            let counted = remote::count(plan, worker, &found.strata[at]).await;
            gauges[at].counted_by_server(counted);
        }
    }
    let mut forecast = weigh::weigh(plan, found, gauges);
    forecast.budget = budget_line(plan.spending.budget, &tally);
    Ok(forecast)
}

impl ForecastOptions {
    fn sample_size(&self, is_remote: bool) -> usize {
        let size = self.sample.unwrap_or(match is_remote {
            true => 200,
            false => 5_000,
        });
        usize::try_from(size.max(1)).unwrap_or(usize::MAX)
    }
}
