//! Keys: read from the environment by name when first needed, never printed.

use std::fmt;
use std::sync::OnceLock;

use secrecy::{ExposeSecret, SecretString};

use crate::words::{CallError, ErrorClass, spellings};

/// Where a worker's key comes from.
#[derive(Clone)]
pub(super) enum Key {
    /// The server asks for none.
    None,
    /// The environment variable of this name; what it held is kept.
    Env(String, OnceLock<SecretString>),
    /// Given by the program.
    Given(SecretString),
}

impl Key {
    /// The key in the environment variable of this name.
    pub(super) fn env(name: impl Into<String>) -> Self {
        Key::Env(name.into(), OnceLock::new())
    }

    /// This key.
    pub(super) fn given(key: String) -> Self {
        Key::Given(trimmed(key))
    }

    /// The key itself; `None` where the server asks for none.
    pub(super) fn read(&self) -> Result<Option<SecretString>, CallError> {
        match self {
            Key::None => Ok(None),
            Key::Given(key) => Ok(Some(key.clone())),
            Key::Env(name, kept) => {
                if let Some(key) = kept.get() {
                    return Ok(Some(key.clone()));
                }
                let key = trimmed(std::env::var(name).unwrap_or_default());
                if key.expose_secret().is_empty() {
                    let message = format!(
                        "the environment variable {name}, which must hold the key, is not set"
                    );
                    return Err(CallError::new(ErrorClass::Config, message));
                }
                Ok(Some(kept.get_or_init(|| key).clone()))
            }
        }
    }

    /// What a person should look at when the key is not accepted.
    pub(super) fn advice(&self) -> String {
        match self {
            Key::None => "this server wants a key: name its variable with `api_key_env`".to_owned(),
            Key::Env(name, _) => format!("check the key in {name}"),
            Key::Given(_) => "check the key that was given to the worker".to_owned(),
        }
    }

    /// The text of an error without the key, should somebody have repeated it, in whatever form.
    pub(super) fn scrub(&self, text: String) -> String {
        self.scrub_from(4, text)
    }

    /// The same of an answer. A short key is a word like `test` that local servers are given, and words belong
    /// to answers.
    pub(super) fn scrub_answer(&self, text: String) -> String {
        self.scrub_from(16, text)
    }

    fn scrub_from(&self, shortest: usize, text: String) -> String {
        let key = match self {
            Key::None => None,
            Key::Env(_, kept) => kept.get(),
            Key::Given(key) => Some(key),
        };
        let Some(key) = key.map(ExposeSecret::expose_secret) else {
            return text;
        };
        // A header's whole value may be `Basic <key>`, of which somebody repeats the key alone.
        let last = key.rsplit(' ').next().unwrap_or(key);
        [key, last]
            .into_iter()
            .filter(|secret| secret.len() >= shortest)
            .flat_map(spellings)
            .fold(text, |text, secret| match text.contains(&secret) {
                true => text.replace(&secret, "[key]"),
                false => text,
            })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::None => f.write_str("none"),
            Key::Env(name, _) => write!(f, "from {name}"),
            Key::Given(_) => f.write_str("[given]"),
        }
    }
}

/// Keys are often read from files and carry their line's end.
fn trimmed(key: String) -> SecretString {
    SecretString::from(key.trim())
}
