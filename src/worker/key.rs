//! Keys: read from the environment by name when first needed, never printed.

use std::fmt;
use std::sync::{Arc, OnceLock};

use secrecy::{ExposeSecret, SecretString};

use super::http::SecretValue;
use crate::words::{CallError, ErrorClass, spellings};

/// Where a worker's key comes from.
#[derive(Clone)]
pub(super) enum Key {
    /// The server asks for none.
    None,
    /// The environment variable of this name; what it held is kept.
    Env(String, OnceLock<Known>),
    /// Given by the program.
    Given(Known),
}

/// A key that was read.
#[derive(Clone)]
pub(super) struct Known {
    key: SecretString,
    /// What is taken out of texts; a header's whole value may be `Basic <key>`, of which somebody repeats the key
    /// alone.
    spellings: Arc<[SecretString]>,
    /// The value of the one header that it is sent in.
    sent: OnceLock<SecretValue>,
}

impl Known {
    /// Keys are often read from files and carry their line's end.
    fn new(key: &str) -> Self {
        let key = key.trim();
        let last = key.rsplit(' ').next().unwrap_or(key);
        let mut all = spellings(key);
        if last != key {
            all.extend(spellings(last));
        }
        all.retain(|spelling| spelling.len() >= 4);
        Self {
            key: key.into(),
            spellings: all.into_iter().map(SecretString::from).collect(),
            sent: OnceLock::new(),
        }
    }
}

impl Key {
    /// The key in the environment variable of this name.
    pub(super) fn env(name: impl Into<String>) -> Self {
        Key::Env(name.into(), OnceLock::new())
    }

    /// This key.
    pub(super) fn given(key: String) -> Self {
        Key::Given(Known::new(&key))
    }

    /// The value of the header that it is sent in, with this before it; `None` where the server asks for none. A key is
    /// always sent in the same way, so it is made once.
    pub(super) fn sent(
        &self,
        header: &str,
        before: &str,
    ) -> Result<Option<SecretValue>, CallError> {
        let Some(known) = self.read()? else {
            return Ok(None);
        };
        if let Some(value) = known.sent.get() {
            return Ok(Some(value.clone()));
        }
        let text = SecretString::from(format!("{before}{}", known.key.expose_secret()));
        let value = SecretValue::new(header, text.expose_secret())?;
        Ok(Some(known.sent.get_or_init(|| value).clone()))
    }

    fn read(&self) -> Result<Option<&Known>, CallError> {
        match self {
            Key::None => Ok(None),
            Key::Given(known) => Ok(Some(known)),
            Key::Env(name, kept) => {
                if let Some(known) = kept.get() {
                    return Ok(Some(known));
                }
                let known = Known::new(&std::env::var(name).unwrap_or_default());
                if known.key.expose_secret().is_empty() {
                    let message = format!(
                        "the environment variable {name}, which must hold the key, is not set"
                    );
                    return Err(CallError::new(ErrorClass::Config, message));
                }
                Ok(Some(kept.get_or_init(|| known)))
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
        let Some(known) = self.known() else {
            return text;
        };
        let spellings = known.spellings.iter().map(ExposeSecret::expose_secret);
        spellings.fold(text, |text, secret| match text.contains(secret) {
            true => text.replace(secret, "[key]"),
            false => text,
        })
    }

    /// The same of an answer. A short key is a word like `test` that local servers are given, and words belong
    /// to answers.
    pub(super) fn scrub_answer(&self, text: String) -> String {
        match self.known() {
            Some(known) if known.key.expose_secret().len() >= 16 => self.scrub(text),
            _ => text,
        }
    }

    fn known(&self) -> Option<&Known> {
        match self {
            Key::None => None,
            Key::Env(_, kept) => kept.get(),
            Key::Given(known) => Some(known),
        }
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
