//! What would be sent to a backend, without anything being sent.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::http::Http;
use super::key::Key;
use super::remote::Line;
use crate::job::{Backend, BackendKind};
use crate::words::{CallError, ErrorClass, Request};

/// A request that was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsentRequest {
    /// `POST`, or `GET`.
    pub method: &'static str,
    /// The whole address.
    pub url: String,
    /// The headers that say something; of a key the name of its variable: `Bearer (OPENAI_API_KEY)`.
    pub headers: Vec<(String, String)>,
    /// What would be posted.
    pub body: Option<Value>,
}

/// Where requests are kept that are not sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsent(Arc<Mutex<Vec<UnsentRequest>>>);

impl Unsent {
    /// Keeps a request. The error is what its worker gets for it.
    pub(super) fn keep(&self, line: &Line<'_>, body: Option<&[u8]>) -> CallError {
        let open = line.headers.iter();
        let mut headers: Vec<_> = open
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        if body.is_some() {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        for (auth, key) in &line.keys {
            let (name, before) = auth.around();
            let from = match key {
                Key::None => continue,
                Key::Env(variable, _) => variable.as_str(),
                Key::Given(_) => "given",
            };
            headers.push((name.to_owned(), format!("{before}({from})")));
        }
        let request = UnsentRequest {
            method: if body.is_some() { "POST" } else { "GET" },
            url: line.url.to_owned(),
            headers,
            body: body.and_then(|body| serde_json::from_slice(body).ok()),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(request);
        CallError::new(ErrorClass::NotSent, "nothing is sent")
    }
}

/// What a backend would be sent for a request; nothing where it sends nothing (echo, custom). Where a server is asked for
/// its model first, only that.
pub async fn unsent(backend: &Backend, request: &Request) -> Vec<UnsentRequest> {
    let unsent = Unsent::default();
    let http = Http::keeping(unsent.clone());
    let is_sent = !matches!(backend.kind, BackendKind::Echo(_));
    if let Some(worker) = super::build(backend, &http).filter(|_| is_sent) {
        // It fails, for nothing is sent.
        let _ = worker.complete(request).await;
    }
    let mut kept = unsent.0.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut kept)
}
