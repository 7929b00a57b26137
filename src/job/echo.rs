//! What an echo backend answers.

use super::plan::EchoScript;
use crate::template::{Extras, TemplateError};
use crate::words::Request;

impl EchoScript {
    /// The answer to a request: what the job says, or the prompt.
    pub fn answer(&self, request: &Request) -> Result<String, TemplateError> {
        let prompt = request.last_turn();
        match (&self.reply, &request.row) {
            (Some(reply), Some(row)) => {
                reply.render_with(row, &Extras::default().with("prompt", prompt))
            }
            _ => Ok(prompt),
        }
    }
}
