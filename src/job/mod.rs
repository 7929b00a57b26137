//! Layer 1: the job file. YAML as written → [`Plan`] as run, or every problem at once.
//!
//! The way of a job, one file a step: `read` (file → `source` → `yaml`, nodes with places → `set`,
//! overrides on top) → `decode` and `written` (nodes → keys; *the* list of keys) → `resolve` (keys →
//! plan), with `inputs`, `prompt`, `order`, `backend`, `limits`, `server`, `declared`, `body`, `parameters`, `url`, `prices`,
//! `answering`, `scoring`, `spending` and `gating` (with `figure`, the names of what can be measured) for its parts; `named` has
//! the values that are one of a few names, `schema` what all of this looks like, and `setting` who says what. Of a plan, `fingerprint` says what tells two requests apart, `bounds` what one may cost
//! at most, `echo` what an echo does. A problem never ends the search for others, shows its place, and never shows a secret.

mod answering;
mod backend;
mod body;
mod bounds;
mod declared;
mod decode;
mod echo;
mod figure;
mod fingerprint;
mod gating;
mod inputs;
mod limits;
mod named;
mod order;
mod parameters;
mod plan;
mod price_file;
mod price_list;
mod prices;
mod problem;
mod prompt;
mod read;
mod resolve;
mod routing;
mod schema;
mod scoring;
mod server;
mod set;
mod setting;
mod source;
mod spending;
mod suggest;
mod url;
mod written;
mod yaml;

pub use answering::AnswerPlan;
pub use body::{BodyPart, HttpBody};
pub use declared::{HttpBackend, HttpPointers};
pub use figure::{FINAL, Figure, FigureKind};
pub use fingerprint::{Identity, asked, messages};
pub use gating::{BaselinePlan, GatePlan, Inconclusive, Limit, Operator, Threshold};
pub use inputs::{InputFormat, InputPlan, NO_PARQUET, OnBadEncoding, OnRagged, STDIN, Take};
pub use order::ESCALATED;
pub use plan::{
    AnthropicApi, Backend, BackendKind, CachePlan, CsvSafe, DEFAULT_IDLE_TIMEOUT, Durability,
    ENTRY_COLUMN, EchoFailure, EchoScript, EchoUsage, LABEL_COLUMNS, Limits, LlamaCppApi,
    MaxFailures, MessageTemplate, OnUnknown, OpenAiApi, OutputFormat, OutputPlan, Plan, PromptPlan,
    REPEAT_COLUMN, RESULT_COLUMNS, RetryPolicy, SCORE_COLUMN, Server, VllmApi,
};
pub use price_file::write as write_prices;
pub use price_list::PriceLine;
pub use prices::Prices;
pub use problem::{Place, Problem, Problems};
pub use read::Job;
pub use resolve::Surroundings;
pub use routing::{Entry, FallbackPolicy, Rule};
pub use schema::schema;
pub use scoring::{Ignore, JudgePlan, ScorerKind, ScorerPlan, Tolerance, Wanted};
pub use setting::{Origin, Setting, Step};
pub use spending::{BudgetMode, BudgetPlan, MaxWaste, SpendingPlan};
