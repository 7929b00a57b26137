//! What is asked: the messages of one row, rendered.

use std::sync::Arc;

use super::{OutputSchema, Row};

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name every provider uses for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, as it is sent.
    pub content: String,
}

/// What one attempt asks of a worker. Sampling parameters belong to the worker, not to the request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The conversation, system messages first.
    pub messages: Vec<Message>,
    /// The row this was rendered from, for workers that answer from data (echo, custom ones).
    pub row: Option<Arc<Row>>,
    /// Which attempt on this backend it is, counted from 1.
    pub attempt: u32,
    /// Which of the job's `repeat`s it is, counted from 0. A seed that is sent is raised by it, so that
    /// repeats can differ and still be reproduced.
    pub repeat: u32,
    /// The schema of the answer, which is sent where the backend takes one.
    pub schema: Option<Arc<OutputSchema>>,
}

impl Request {
    /// A request with these messages.
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            row: None,
            attempt: 1,
            repeat: 0,
            schema: None,
        }
    }

    /// A request with one user message.
    pub fn user(prompt: impl Into<String>) -> Self {
        Self::new(vec![Message {
            role: Role::User,
            content: prompt.into(),
        }])
    }

    /// The same request with a system message in front.
    pub fn with_system(mut self, system: impl Into<String>) -> Self {
        self.messages.insert(
            0,
            Message {
                role: Role::System,
                content: system.into(),
            },
        );
        self
    }

    /// The same request, known to come from this row.
    pub fn with_row(mut self, row: Arc<Row>) -> Self {
        self.row = Some(row);
        self
    }

    /// The system messages joined by a blank line; `None` without any.
    pub fn system(&self) -> Option<String> {
        let system: Vec<&str> = self
            .messages
            .iter()
            .filter(|message| message.role == Role::System)
            .map(|message| message.content.as_str())
            .collect();
        (!system.is_empty()).then(|| system.join("\n\n"))
    }

    /// The messages that are not system messages, in order.
    pub fn turns(&self) -> impl Iterator<Item = &Message> {
        self.messages
            .iter()
            .filter(|message| message.role != Role::System)
    }

    /// What was asked last: the content of the last message that is no system message.
    pub fn last_turn(&self) -> String {
        let last = self.turns().last();
        last.map_or_else(|| self.as_prompt(), |message| message.content.clone())
    }

    /// The whole conversation as one plain text, for endpoints that take nothing else: the contents
    /// joined by blank lines. A single user message is that message, byte for byte.
    pub fn as_prompt(&self) -> String {
        let contents: Vec<&str> = self.messages.iter().map(|m| m.content.as_str()).collect();
        contents.join("\n\n")
    }

    /// UTF-8 bytes of all contents: an upper bound of the tokens of a byte-level tokenizer, before
    /// the few tokens that each message adds.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(|m| m.content.len()).sum()
    }
}
