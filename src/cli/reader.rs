//! Who reads what a command prints: why it could not do what it should is said in their form.

use serde_json::{Value, json};
use tokio_prompt_orchestrator::job::Problems;
use tokio_prompt_orchestrator::words::with_causes;

use super::json_lines::problem;
use super::terminal;

/// Names the form of the JSON.
const VERSION: u32 = 1;

/// A person, or a program that reads JSON.
#[derive(Debug, Clone, Copy)]
pub enum Reader {
    /// Reads sentences.
    Person,
    /// Reads one JSON object.
    Program,
}

impl Reader {
    /// The one for whom `--json` was given, or was not.
    pub fn of(json: bool) -> Self {
        match json {
            true => Reader::Program,
            false => Reader::Person,
        }
    }

    /// Says why there is nothing else to be said.
    pub fn error(self, error: &dyn std::error::Error) {
        match self {
            Reader::Person => terminal::error(error),
            Reader::Program => terminal::json(&json!({
                "version": VERSION,
                "error": { "message": with_causes(error) },
            })),
        }
    }

    /// Says in a sentence why there is nothing else to be said.
    pub fn refusal(self, message: &str) {
        match self {
            Reader::Person => terminal::err(&format!("error: {message}")),
            Reader::Program => terminal::json(&json!({
                "version": VERSION,
                "error": { "message": message },
            })),
        }
    }

    /// Says what is wrong with a job, or with prices.
    pub fn problems(self, problems: &Problems) {
        match self {
            Reader::Person => terminal::problems(problems),
            Reader::Program => {
                let found: Vec<Value> = problems.0.iter().map(problem).collect();
                terminal::json(&json!({ "version": VERSION, "problems": found }));
            }
        }
    }
}
