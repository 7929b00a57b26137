//! The plan: the job as it will run. Nothing is optional that the engine would have to interpret.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Place;
use super::answering::AnswerPlan;
use super::declared::HttpBackend;
use super::gating::GatePlan;
use super::inputs::InputPlan;
use super::routing::{Entry, FallbackPolicy};
use super::scoring::ScorerPlan;
use super::spending::SpendingPlan;
use crate::template::Template;
use crate::words::{Columns, ErrorClass, OutputSchema, Price, Role, Sampling, Tariff};

/// A job that can run: every name resolved, every default filled in.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The job's name.
    pub name: String,
    /// The inputs, in the order of the job file.
    pub inputs: Vec<InputPlan>,
    /// The header that all inputs share.
    pub columns: Arc<Columns>,
    /// What is asked of each row.
    pub prompt: PromptPlan,
    /// What an answer must be.
    pub answer: Option<AnswerPlan>,
    /// How good the answers are.
    pub score: Vec<ScorerPlan>,
    /// The backends that are used, in the order of their first use.
    pub backends: Vec<Backend>,
    /// What every row is asked of: the entries of the matrix, or one without a matrix; not empty.
    pub entries: Vec<Entry>,
    /// Who is asked last where the entries of the matrix disagree.
    pub escalate: Option<Entry>,
    /// Whether the job says `matrix`.
    pub is_matrix: bool,
    /// How often every row is asked of each entry, at least 1.
    pub repeat: u32,
    /// When the next backend of a route is asked.
    pub fallback: FallbackPolicy,
    /// After this long without an answer a second request is made beside the first.
    pub hedge_after: Option<Duration>,
    /// How often and how patiently a backend is tried.
    pub retry: RetryPolicy,
    /// The most rows in flight over all backends, at least 1.
    pub concurrency: usize,
    /// How many rows may end without an answer.
    pub max_failures: MaxFailures,
    /// What it may spend.
    pub spending: SpendingPlan,
    /// What a stored answer survives.
    pub durability: Durability,
    /// What is done about rows whose request was sent by a runner that was killed.
    pub on_unknown: OnUnknown,
    /// The file of answers that jobs share.
    pub cache: Option<CachePlan>,
    /// Whether rows that ask the same are asked once.
    pub dedupe: bool,
    /// What it must come to.
    pub gate: Option<GatePlan>,
    /// Where and how results are written.
    pub output: OutputPlan,
}

/// A file of answers that jobs share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePlan {
    /// The path, joined to the job file's directory.
    pub path: PathBuf,
    /// Where it stands in the job file.
    pub place: Place,
}

/// What is asked of each row.
#[derive(Debug, Clone, Default)]
pub struct PromptPlan {
    /// The messages, system messages first.
    pub messages: Vec<MessageTemplate>,
    /// The schema of the answers, which goes with them.
    pub schema: Option<Arc<OutputSchema>>,
}

/// A message whose content is rendered for each row.
#[derive(Debug, Clone)]
pub struct MessageTemplate {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Template,
    /// Where it is written.
    pub place: Option<Place>,
}

/// A backend as data. `worker::build` makes it live.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Its name in the job.
    pub name: Arc<str>,
    /// What it speaks, and everything that belongs to that.
    pub kind: BackendKind,
    /// How long an attempt may take where the worker keeps no time itself (echo and custom).
    pub timeout: Option<Duration>,
    /// The ceilings on its use.
    pub limits: Limits,
    /// What it costs; `None` where no price is known.
    pub tariff: Option<Arc<Tariff>>,
    /// What the same would cost through the provider's batch service, where there is one. No run uses it.
    pub batch: Option<Price>,
    /// Backends of one account share one limiter; `None` has its own.
    pub account: Option<Arc<str>>,
}

impl Backend {
    /// The model it asks for, where it names one.
    pub fn model(&self) -> Option<&str> {
        self.kind.model()
    }

    /// What it charges; `None` where nobody knows.
    pub fn price(&self) -> Option<&Price> {
        self.tariff.as_ref().map(|tariff| &tariff.price)
    }

    /// Whether its provider counts the whole output cap against its token limits when a request comes in
    /// (OpenAI: <https://platform.openai.com/docs/guides/rate-limits>).
    pub fn counts_cap(&self) -> bool {
        !matches!(
            self.kind,
            BackendKind::Anthropic(..) | BackendKind::LlamaCpp(..) | BackendKind::Vllm(..)
        )
    }

    /// The environment variables that hold its secrets.
    pub fn secret_variables(&self) -> Vec<&str> {
        let (key, headers) = match &self.kind {
            BackendKind::OpenAi(_, server)
            | BackendKind::Anthropic(_, server)
            | BackendKind::LlamaCpp(_, server)
            | BackendKind::Vllm(_, server) => (&server.api_key_env, [].as_slice()),
            BackendKind::Http(http) => (&http.api_key_env, http.headers_env.as_slice()),
            BackendKind::Echo(_) | BackendKind::Custom => return Vec::new(),
        };
        let headers = headers.iter().map(|(_, variable)| variable.as_str());
        key.as_deref().into_iter().chain(headers).collect()
    }

    /// The most output tokens of one request, where there is a cap.
    pub fn max_tokens(&self) -> Option<u32> {
        match &self.kind {
            BackendKind::OpenAi(_, server)
            | BackendKind::Anthropic(_, server)
            | BackendKind::LlamaCpp(_, server)
            | BackendKind::Vllm(_, server) => Some(server.sampling.max_tokens),
            BackendKind::Http(http) => http.max_tokens,
            BackendKind::Echo(_) | BackendKind::Custom => None,
        }
    }
}

/// What a backend speaks.
#[derive(Debug, Clone)]
pub enum BackendKind {
    /// No network: answers by itself.
    Echo(EchoScript),
    /// OpenAI's API.
    OpenAi(OpenAiApi, Server),
    /// Anthropic's API.
    Anthropic(AnthropicApi, Server),
    /// llama.cpp's server.
    LlamaCpp(LlamaCppApi, Server),
    /// vLLM's server.
    Vllm(VllmApi, Server),
    /// Any service, as the job declares it.
    Http(Box<HttpBackend>),
    /// A worker that the program using the library supplies.
    Custom,
}

impl BackendKind {
    /// Its name in the job file.
    pub fn type_name(&self) -> &'static str {
        match self {
            BackendKind::Echo(_) => "echo",
            BackendKind::OpenAi(..) => "openai",
            BackendKind::Anthropic(..) => "anthropic",
            BackendKind::LlamaCpp(..) => "llama_cpp",
            BackendKind::Vllm(..) => "vllm",
            BackendKind::Http(_) => "http",
            BackendKind::Custom => "custom",
        }
    }

    /// The model it asks for, where it names one.
    pub fn model(&self) -> Option<&str> {
        match self {
            BackendKind::Echo(script) => Some(&script.model),
            BackendKind::OpenAi(_, server)
            | BackendKind::Anthropic(_, server)
            | BackendKind::LlamaCpp(_, server)
            | BackendKind::Vllm(_, server) => server.model.as_deref(),
            BackendKind::Http(http) => http.model.as_deref(),
            BackendKind::Custom => None,
        }
    }
}

/// OpenAI's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenAiApi {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
}

impl OpenAiApi {
    /// The endpoint of a model that the job or the program names none for: `completions` for the old
    /// completion models, which answer nowhere else, `chat` for all others.
    pub fn default_for(model: &str) -> Self {
        let old = model.ends_with("-instruct") || model.contains("-instruct-");
        match old || model == "text-davinci-003" {
            true => OpenAiApi::Completions,
            false => OpenAiApi::Chat,
        }
    }
}

/// Anthropic's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnthropicApi {
    /// `/v1/messages`
    Messages,
    /// `/v1/complete`, with the `\n\nHuman:` … `\n\nAssistant:` wrapper
    Complete,
}

/// llama.cpp's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LlamaCppApi {
    /// `/v1/chat/completions`, with the model's chat template
    Chat,
    /// `/completion`, the prompt as it is
    Completion,
}

/// vLLM's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VllmApi {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/generate` of the legacy api_server
    Generate,
}

/// How long a reply that has begun may be silent where nobody says otherwise.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A server and how it is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// The base URL without a trailing slash: for openai with its `/v1`, for the others the root.
    pub url: String,
    /// The model asked for; `None` only for llama.cpp, which serves one, and vLLM, which is asked.
    pub model: Option<String>,
    /// The *name* of the environment variable that holds the key.
    pub api_key_env: Option<String>,
    /// How the model samples.
    pub sampling: Sampling,
    /// From sending to the last byte of the reply.
    pub timeout: Duration,
    /// The longest silence within a reply.
    pub idle_timeout: Duration,
    /// Whether answers are asked for as streams.
    pub stream: bool,
    /// The proxy that requests go through; the environment's proxies are never used.
    pub proxy: Option<String>,
}

/// What an echo backend does.
#[derive(Debug, Clone)]
pub struct EchoScript {
    /// How long an answer takes.
    pub delay: Duration,
    /// The answer, rendered over the row (and `prompt`); `None` gives the prompt back.
    pub reply: Option<Template>,
    /// The usage it reports; `None` counts white-space separated words.
    pub usage: Option<EchoUsage>,
    /// The model it says that it is.
    pub model: String,
    /// The share of attempts that fail, and how.
    pub failures: Vec<EchoFailure>,
    /// What the failures are drawn from, together with the row and the attempt.
    pub seed: u64,
}

/// The usage that an echo backend reports for each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoUsage {
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
}

/// A share of failures of one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EchoFailure {
    /// The class that the attempt fails with.
    pub class: ErrorClass,
    /// The share of attempts, in millionths.
    pub per_million: u32,
}

/// The ceilings on the use of one backend. `None` is no ceiling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Requests in any 60 seconds, evenly spaced but for `burst`.
    pub requests_per_minute: Option<u32>,
    /// Requests that may be made at once, on top of a minute's; `None`: half a second's worth, within
    /// the minute's.
    pub burst: Option<u32>,
    /// Input and output tokens in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Input tokens in any 60 seconds.
    pub input_tokens_per_minute: Option<u64>,
    /// Output tokens in any 60 seconds.
    pub output_tokens_per_minute: Option<u64>,
    /// The most requests in flight.
    pub concurrency: Option<usize>,
}

/// How often a backend is tried, and how long between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts on each backend, the first included; at least 1.
    pub attempts: u32,
    /// The longest first wait; the actual one is drawn between 0 and it.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How long a backend may answer with nothing but throttling before it is given up.
    pub max_throttle_wait: Duration,
    /// How long a backend that has answered before may fail or be away before it is given up.
    pub max_outage: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            initial: Duration::from_millis(500),
            max: Duration::from_secs(30),
            max_throttle_wait: Duration::from_secs(15 * 60),
            max_outage: Duration::from_secs(15 * 60),
        }
    }
}

/// What a stored answer survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power: every commit is on the disk before anything follows from it.
    #[default]
    Full,
    /// The end of the process, however it comes; a loss of power may take the last commits.
    Process,
}

/// What is done about rows that were sent when a runner was killed, so that nobody knows whether they were
/// answered and billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// They are asked again.
    #[default]
    Resend,
    /// They are left without an answer.
    Skip,
}

/// How many rows may end without an answer before the run counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxFailures {
    /// This many rows.
    Rows(u64),
    /// This share of all rows, in millionths.
    PerMillion(u32),
}

impl MaxFailures {
    /// Whether this many rows without an answer, of this many, are too many.
    pub fn exceeded(self, failures: u64, rows: u64) -> bool {
        match self {
            MaxFailures::Rows(most) => failures > most,
            MaxFailures::PerMillion(share) => {
                u128::from(failures) * 1_000_000 > u128::from(rows) * u128::from(share)
            }
        }
    }
}

impl fmt::Display for MaxFailures {
    /// As the job file would say it: `3`, `0.5%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxFailures::Rows(rows) => write!(f, "{rows}"),
            MaxFailures::PerMillion(share) => {
                let percent = format!("{}.{:04}", share / 10_000, share % 10_000);
                write!(
                    f,
                    "{}%",
                    percent.trim_end_matches('0').trim_end_matches('.')
                )
            }
        }
    }
}

/// Where and how results are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// The directory, relative to the working directory.
    pub dir: PathBuf,
    /// The results files to write.
    pub formats: Vec<OutputFormat>,
    /// What stands before the name of each column that the runner adds; empty by default.
    pub prefix: String,
    /// The names of the entries of the matrix, in order; one without a matrix.
    pub entries: Vec<Arc<str>>,
    /// How often every row is asked of each entry.
    pub repeat: u32,
    /// The columns that a JSON answer is spread over, named as the job names them.
    pub parts: Vec<String>,
    /// The names of the scorers, in the order of the job.
    pub scorers: Vec<String>,
    /// Whether `labels.csv` says what the answers to a row come to together.
    pub decides: bool,
    /// What `results.csv` does about text that a spreadsheet would take for a formula.
    pub csv_safe: CsvSafe,
}

/// What `results.csv` does about text of a model or a server that a spreadsheet would take for a formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CsvSafe {
    /// A `'` stands before it.
    Prefix,
    /// Nothing: the file is for programs. So it was in runs that say nothing of it.
    #[default]
    Off,
}

impl CsvSafe {
    /// Every way and its name in the job file.
    pub const NAMES: [(&'static str, CsvSafe); 2] =
        [("prefix", CsvSafe::Prefix), ("off", CsvSafe::Off)];
}

/// The columns that the runner adds to the input's, in the order of the results.
pub const RESULT_COLUMNS: [&str; 10] = [
    "answer",
    "run_status",
    "run_backend",
    "run_model",
    "run_attempts",
    "run_input_tokens",
    "run_output_tokens",
    "run_cost_usd",
    "run_latency_ms",
    "run_error",
];

/// The columns of `labels.csv` after the input's: the answer that counts, how it came to, and which share gave it.
pub const LABEL_COLUMNS: [&str; 3] = ["run_label", "run_label_by", "run_agreement"];

/// The column after [`RESULT_COLUMNS`] that says how good the answer is, where the job has scorers. With several, each has
/// one of its own after it: this name, `_`, and the scorer's.
pub const SCORE_COLUMN: &str = "run_score";

/// The column after those that names the entry of the matrix, where there are several.
pub const ENTRY_COLUMN: &str = "run_entry";

/// The last column: which answer of a row it is, counted from 1, where there are several.
pub const REPEAT_COLUMN: &str = "run_repeat";

impl OutputPlan {
    /// The names of the added columns, prefix included: [`RESULT_COLUMNS`], the parts of a JSON answer (which have no
    /// prefix) after the first of them, then those below that apply.
    pub fn result_columns(&self) -> Vec<String> {
        let prefixed = |column: &str| format!("{}{column}", self.prefix);
        let (answer, about) = RESULT_COLUMNS.split_at(1);
        let mut columns: Vec<String> = answer.iter().copied().map(prefixed).collect();
        columns.extend(self.parts.iter().cloned());
        columns.extend(about.iter().copied().map(prefixed));
        columns.extend(self.has_scores().then(|| prefixed(SCORE_COLUMN)));
        if self.has_several_scores() {
            let scorers = self.scorers.iter();
            columns.extend(scorers.map(|name| prefixed(&format!("{SCORE_COLUMN}_{name}"))));
        }
        columns.extend(self.has_entries().then(|| prefixed(ENTRY_COLUMN)));
        columns.extend(self.has_repeats().then(|| prefixed(REPEAT_COLUMN)));
        columns
    }

    /// Whether results say how good an answer is.
    pub fn has_scores(&self) -> bool {
        !self.scorers.is_empty()
    }

    /// Whether results say what each scorer makes of an answer.
    pub fn has_several_scores(&self) -> bool {
        self.scorers.len() > 1
    }

    /// Whether results say which entry of the matrix they are from.
    pub fn has_entries(&self) -> bool {
        self.entries.len() > 1
    }

    /// Whether results say which answer of a row they are.
    pub fn has_repeats(&self) -> bool {
        self.repeat > 1
    }
}

/// A form of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// `results.csv`
    Csv,
    /// `results.jsonl`
    Jsonl,
    /// `results.parquet`
    Parquet,
}

impl OutputFormat {
    /// Every form.
    pub const ALL: [OutputFormat; 3] = [
        OutputFormat::Csv,
        OutputFormat::Jsonl,
        OutputFormat::Parquet,
    ];

    /// The name in the job file.
    pub fn as_str(self) -> &'static str {
        match self {
            OutputFormat::Csv => "csv",
            OutputFormat::Jsonl => "jsonl",
            OutputFormat::Parquet => "parquet",
        }
    }

    /// The reverse of [`OutputFormat::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}
