//! Layer 1: the job file. YAML as written → [`Plan`] as run, or every problem at once.

mod plan;
mod source;
mod yaml;
mod problem;

pub use plan::{
    AnthropicApi, Backend, BackendKind, EchoFailure, EchoScript, EchoUsage, InputPlan, Limits,
    LlamaCppApi, MaxFailures, MessageTemplate, OpenAiApi, OutputFormat, OutputPlan, Plan,
    RetryPolicy, Server, Take, VllmApi,
};
pub use problem::{Place, Problem, Problems};
