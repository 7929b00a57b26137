//! The values of the job file that are one of a few names, or a share.

use super::Problem;
use super::decode::{Decode, one_of, percent, wrong};
use super::plan::{CsvSafe, Durability, MaxFailures, OnUnknown, OutputFormat};
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

impl Decode for BackendType {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        one_of(node, &Self::NAMES, problems)
    }
}

impl Decode for Role {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let roles = [Role::System, Role::User, Role::Assistant];
        one_of(node, &roles.map(|role| (role.as_str(), role)), problems)
    }
}

impl Decode for OutputFormat {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let names = Self::ALL.map(|format| (format.as_str(), format));
        one_of(node, &names, problems)
    }
}

impl Decode for CsvSafe {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        one_of(node, &Self::NAMES, problems)
    }
}

impl Decode for Durability {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let names = [("full", Durability::Full), ("process", Durability::Process)];
        one_of(node, &names, problems)
    }
}

impl Decode for BudgetMode {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let names = BudgetMode::ALL.map(|mode| (mode.as_str(), mode));
        one_of(node, &names, problems)
    }
}

impl Decode for OnUnknown {
    fn decode(node: &Node, problems: &mut Vec<Problem>) -> Option<Self> {
        let names = [("resend", OnUnknown::Resend), ("skip", OnUnknown::Skip)];
        one_of(node, &names, problems)
    }
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
}
