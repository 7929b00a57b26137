//! The values of the job file that are one of a few names, or a share.

use serde_json::{Value as Json, json};

use super::Problem;
use super::decode::{Decode, percent, percentage, wrong};
use super::plan::{CsvSafe, Durability, MaxFailures, OnUnknown, OutputFormat};
use super::schema::{Shapes, any_of};
use super::spending::BudgetMode;
use super::yaml::{Node, Value};
use crate::words::Role;

/// What a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendType {
    /// No network.
    Echo,
    /// OpenAI's API.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
    /// llama.cpp's server.
    LlamaCpp,
    /// vLLM's server.
    Vllm,
    /// Any service, as the job declares it.
    Http,
    /// A worker of the program that uses the library.
    Custom,
}

impl BackendType {
    /// Every type and its name in the job file.
    pub const NAMES: [(&'static str, BackendType); 7] = [
        ("echo", BackendType::Echo),
        ("openai", BackendType::OpenAi),
        ("anthropic", BackendType::Anthropic),
        ("llama_cpp", BackendType::LlamaCpp),
        ("vllm", BackendType::Vllm),
        ("http", BackendType::Http),
        ("custom", BackendType::Custom),
    ];
}

/// Declares what is read as one of a few names.
macro_rules! named {
    ($($type:ty: $names:expr,)*) => {$(
        impl $crate::job::decode::Decode for $type {
            fn decode(
                node: &$crate::job::yaml::Node,
                problems: &mut Vec<$crate::job::Problem>,
            ) -> Option<Self> {
                $crate::job::decode::one_of(node, &$names, problems)
            }

            fn schema(_: &mut $crate::job::schema::Shapes) -> serde_json::Value {
                $crate::job::schema::one_of(&$names)
            }
        }
    )*};
}
pub(super) use named;

named! {
    BackendType: Self::NAMES,
    Role: [Role::System, Role::User, Role::Assistant].map(|role| (role.as_str(), role)),
    OutputFormat: OutputFormat::ALL.map(|format| (format.as_str(), format)),
    CsvSafe: Self::NAMES,
    Durability: [("full", Durability::Full), ("process", Durability::Process)],
    BudgetMode: BudgetMode::ALL.map(|mode| (mode.as_str(), mode)),
    OnUnknown: [("resend", OnUnknown::Resend), ("skip", OnUnknown::Skip)],
}

impl Decode for MaxFailures {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let most = match &node.value {
            Value::Number(text) => text.parse().ok().map(MaxFailures::Rows),
            Value::Text(text) => percent(text).map(MaxFailures::PerMillion),
            _ => None,
        };
        most.or_else(|| {
            wrong(
                node,
                "a number of rows, such as 3, or a share, such as 1%",
                problems,
            )
        })
    }
    fn schema(_: &mut Shapes) -> Json {
        any_of([json!({ "type": "integer", "minimum": 0 }), percentage()])
    }
}
