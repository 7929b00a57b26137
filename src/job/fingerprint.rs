//! What tells whether two requests are the same: everything that the answer may depend on, and nothing else.
//!
//! Limits, timeouts, prices, keys, retries and outputs are not part of it, nor is a backend's name.

use std::sync::Arc;

use serde_json::json;

use super::declared::HttpBackend;
use super::plan::{
    AnthropicApi, Backend, BackendKind, EchoScript, OpenAiApi, Plan, Server, VllmApi,
};
use crate::words::{Digest, Provider, Request, Sampling, takes_schema};

/// Raised when the same job would ask something else.
const VERSION: &str = "1";

/// What a backend adds to a request.
#[derive(Debug, Clone)]
pub struct Identity {
    digest: Digest,
    per_row: PerRow,
    /// Whether the schema of an answer is sent.
    sends_schema: bool,
}

/// What a backend makes of a row besides the prompt.
#[derive(Debug, Clone)]
enum PerRow {
    Nothing,
    /// A worker of the program's own may look at all of it.
    Row,
    Reply(Arc<EchoScript>),
    Body(Arc<HttpBackend>),
}

impl Backend {
    /// Whether other jobs may take its answers for their own: the same fingerprint means the same model. Of a
    /// worker of the program's own, or of whatever model a server has loaded, nobody knows that.
    pub fn is_shared(&self) -> bool {
        match &self.kind {
            BackendKind::Custom => false,
            BackendKind::LlamaCpp(_, server) | BackendKind::Vllm(_, server) => {
                server.model.is_some()
            }
            BackendKind::Echo(_)
            | BackendKind::OpenAi(..)
            | BackendKind::Anthropic(..)
            | BackendKind::Http(_) => true,
        }
    }

    /// What it adds to a request.
    pub fn identity(&self) -> Identity {
        let of = |kind: &str, api: String, server: &Server| {
            json!({
                "kind": kind, "api": api, "url": server.url, "model": server.model,
                "sampling": sampling(&server.sampling),
            })
        };
        let mut per_row = PerRow::Nothing;
        let written = match &self.kind {
            BackendKind::Echo(script) => {
                if script.reply.is_some() {
                    per_row = PerRow::Reply(Arc::new(script.clone()));
                }
                json!({ "kind": "echo", "model": script.model, "replies": script.reply.is_some() })
            }
            BackendKind::OpenAi(api, server) => of("openai", format!("{api:?}"), server),
            BackendKind::Anthropic(api, server) => of("anthropic", format!("{api:?}"), server),
            BackendKind::LlamaCpp(api, server) => of("llama_cpp", format!("{api:?}"), server),
            BackendKind::Vllm(api, server) => of("vllm", format!("{api:?}"), server),
            BackendKind::Http(http) => {
                per_row = PerRow::Body(Arc::new((**http).clone()));
                let pointers = &http.pointers;
                json!({
                    "kind": "http", "url": http.url, "headers": http.headers,
                    // Where the answer is read from: another place in the reply is another answer.
                    "text": pointers.text, "finish_reason": pointers.finish_reason,
                    "error": pointers.error,
                })
            }
            BackendKind::Custom => {
                per_row = PerRow::Row;
                json!({ "kind": "custom", "name": &*self.name })
            }
        };
        Identity {
            digest: Digest::of([VERSION, &written.to_string()]),
            per_row,
            sends_schema: self.kind.sends_schema(),
        }
    }
}

impl BackendKind {
    /// Whether the schema of an answer is part of a request. A worker of the program's own may send it.
    fn sends_schema(&self) -> bool {
        let takes = |provider, server: &Server| takes_schema(provider, server.model.as_deref());
        match self {
            BackendKind::Echo(_) | BackendKind::Http(_) => false,
            BackendKind::OpenAi(api, server) => {
                *api != OpenAiApi::Completions && takes(Provider::OpenAi, server)
            }
            BackendKind::Anthropic(api, server) => {
                *api == AnthropicApi::Messages && takes(Provider::Anthropic, server)
            }
            BackendKind::Vllm(api, _) => *api != VllmApi::Generate,
            BackendKind::LlamaCpp(..) | BackendKind::Custom => true,
        }
    }
}

impl Identity {
    /// The fingerprint of a request on this backend.
    pub fn fingerprint(&self, request: &Request) -> Digest {
        let repeat = request.repeat.to_le_bytes();
        let (messages, per_row) = (messages(request), self.per_row(request));
        let schema = request.schema.as_ref().filter(|_| self.sends_schema);
        let schema = schema.map(|schema| schema.bare().to_string());
        let parts = [
            self.digest.as_ref(),
            messages.as_ref(),
            per_row.as_bytes(),
            &repeat,
        ];
        Digest::of(
            parts
                .into_iter()
                .chain(schema.as_ref().map(String::as_bytes)),
        )
    }

    /// What the backend makes of the row besides the prompt. What cannot be rendered is never sent.
    pub fn per_row(&self, request: &Request) -> String {
        let rendered = match (&self.per_row, &request.row) {
            (PerRow::Nothing, _) | (PerRow::Row, None) => Ok(String::new()),
            (PerRow::Row, Some(row)) => Ok(row.content().to_string()),
            (PerRow::Body(http), _) => http.body(request).map(|body| body.to_string()),
            (PerRow::Reply(script), _) => script.answer(request),
        };
        rendered.unwrap_or_else(|error| error.message)
    }
}

/// What a request says.
pub fn messages(request: &Request) -> Digest {
    let parts = request.messages.iter();
    Digest::of(parts.flat_map(|message| [message.role.as_str(), &message.content]))
}

/// What everything that the job asks depends on, but for the rows. Two jobs with another digest may still ask
/// the same; with the same one they do, of rows that are the same.
pub fn asked(plan: &Plan) -> Digest {
    let Plan {
        prompt,
        entries,
        backends,
        columns,
        ..
    } = plan;
    let kinds: Vec<_> = backends.iter().map(|b| (&b.name, &b.kind)).collect();
    let names = columns.names();
    let version = env!("CARGO_PKG_VERSION");
    Digest::of([
        VERSION,
        version,
        &format!("{prompt:?}{entries:?}{kinds:?}{names:?}"),
    ])
}

/// Every parameter, with an explicit null where it is not sent.
fn sampling(sampling: &Sampling) -> serde_json::Value {
    let Sampling {
        max_tokens,
        temperature,
        top_p,
        top_k,
        min_p,
        stop,
        seed,
        frequency_penalty,
        presence_penalty,
        reasoning_effort,
    } = sampling;
    json!({
        "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k,
        "min_p": min_p, "stop": stop, "seed": seed, "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty, "reasoning_effort": reasoning_effort,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::job::Limits;
    use crate::words::{Columns, Message, Provider, Role, Row, Tariff};

    fn backend(kind: BackendKind) -> Backend {
        Backend {
            name: Arc::from("a"),
            kind,
            timeout: None,
            limits: Limits::default(),
            tariff: None,
            batch: None,
            account: None,
        }
    }

    fn server(change: impl FnOnce(&mut Server)) -> Server {
        let mut server = Server {
            url: "http://localhost".to_owned(),
            model: Some("m".to_owned()),
            api_key_env: None,
            sampling: Sampling::defaults(Provider::OpenAi, "m"),
            timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            stream: false,
            proxy: None,
        };
        change(&mut server);
        server
    }

    fn openai(change: impl FnOnce(&mut Server)) -> Backend {
        backend(BackendKind::OpenAi(OpenAiApi::Chat, server(change)))
    }

    #[test]
    fn every_parameter_makes_another_request() {
        let with = |change: fn(&mut Sampling)| openai(|server| change(&mut server.sampling));
        let chat = || server(|_| {});
        let backends = [
            openai(|_| {}),
            openai(|server| server.model = None),
            openai(|server| server.url.push('x')),
            with(|sampling| sampling.max_tokens += 1),
            with(|sampling| sampling.temperature = None),
            with(|sampling| sampling.top_p = Some(0.5)),
            with(|sampling| sampling.top_k = Some(5)),
            with(|sampling| sampling.min_p = Some(0.5)),
            with(|sampling| sampling.stop = vec!["x".to_owned()]),
            with(|sampling| sampling.seed = Some(1)),
            with(|sampling| sampling.frequency_penalty = Some(0.5)),
            with(|sampling| sampling.presence_penalty = Some(0.5)),
            with(|sampling| sampling.reasoning_effort = Some("low".to_owned())),
            backend(BackendKind::OpenAi(OpenAiApi::Responses, chat())),
            backend(BackendKind::Anthropic(AnthropicApi::Messages, chat())),
            backend(BackendKind::Custom),
        ];
        let request = Request::user("hello");
        let of = |backend: &Backend| backend.identity().fingerprint(&request);
        let all: HashSet<Digest> = backends.iter().map(of).collect();
        assert_eq!(all.len(), backends.len());
    }

    #[test]
    fn what_the_answer_does_not_depend_on_makes_no_other_request() {
        let of = |backend: &Backend| backend.identity().fingerprint(&Request::user("hello"));
        let mut other = openai(|server| {
            server.timeout = Duration::from_secs(9);
            server.idle_timeout = Duration::from_secs(9);
            server.stream = true;
            server.api_key_env = Some("KEY".to_owned());
            server.proxy = Some("http://localhost:1".to_owned());
        });
        other.name = Arc::from("b");
        other.tariff = Some(Tariff::local().into());
        other.limits.concurrency = Some(3);
        assert_eq!(of(&openai(|_| {})), of(&other));
    }

    #[test]
    fn roles_texts_their_order_and_the_repeat_make_another_request() {
        let message = |role, content: &str| Message {
            role,
            content: content.to_owned(),
        };
        let mut again = Request::user("a");
        again.repeat = 1;
        let requests = [
            Request::user("a"),
            Request::user("b"),
            Request::user("a").with_system("b"),
            Request::user("b").with_system("a"),
            Request::new(vec![message(Role::Assistant, "a")]),
            Request::new(vec![message(Role::User, "a"), message(Role::User, "")]),
            again,
        ];
        let identity = openai(|_| {}).identity();
        let all = requests.iter().map(|request| identity.fingerprint(request));
        assert_eq!(all.collect::<HashSet<Digest>>().len(), requests.len());
    }

    #[test]
    fn a_worker_of_ones_own_may_look_at_the_whole_row() {
        let row = |cell: &str| Row {
            index: 0,
            id: "1".to_owned(),
            columns: Arc::new(Columns::new(vec!["n".to_owned()])),
            cells: vec![cell.to_owned()],
            key: Digest::default(),
        };
        let of = |backend: Backend, cell: &str| {
            let request = Request::user("hello").with_row(Arc::new(row(cell)));
            backend.identity().fingerprint(&request)
        };
        let own = || backend(BackendKind::Custom);
        assert_ne!(of(own(), "1"), of(own(), "2"));
        assert_eq!(of(openai(|_| {}), "1"), of(openai(|_| {}), "2"));
    }
}
